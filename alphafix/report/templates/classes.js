// The class table: rows are data, and only one page of them is in the document at a time, so
// that thousands of classes open at once.
(() => {
  const { kinds, columns, labels, sort, page } = data.table;
  const table = byId("classes"), body = table.querySelector("tbody");
  const search = byId("search"), split = byId("split");
  const buttons = ["previous", "next", "all"].map(byId);
  const state = { column: sort, descending: true, page: 0, size: page };
  const count = columns[0].length;
  const words = kinds.flatMap((kind, column) => (["text", "word"].includes(kind) ? [column] : []));
  const texts = Array.from({ length: count }, (_, row) =>
    words.map((column) => columns[column][row]).join(" ").toLowerCase());

  const wanted = () => {
    const needle = search.value.trim().toLowerCase(), tier = split.value;
    const places = [];
    for (let i = 0; i < count; i++) {
      if ((!needle || texts[i].includes(needle)) && (!tier || columns[1]?.[i] === tier)) {
        places.push(i);
      }
    }
    const sign = state.descending ? -1 : 1, key = columns[state.column];
    const collator = new Intl.Collator();
    places.sort((a, b) => {
      const x = key[a], y = key[b];
      if (x === y) return a - b;
      if (x === null) return 1;  // n/a last, whatever the order
      if (y === null) return -1;
      return sign * (typeof x === "string" ? collator.compare(x, y) : x - y);
    });
    return places;
  };

  const cell = (value, column, row) => {
    const kind = kinds[column], made = make("td", "", kind === "text" ? "text" : "");
    if (column === 0) made.append(nameOf(labels[row]));
    else if (value === null) made.textContent = "n/a";
    else if (kind === "percent") made.textContent = value.toFixed(1);
    else if (kind === "change") {
      made.textContent = (value > 0 ? "+" : "") + value.toFixed(1);
      if (value !== 0) made.className = toned(value);
    } else made.textContent = String(value);
    return made;
  };

  const draw = () => {
    const places = wanted();
    const last = Math.max(0, Math.ceil(places.length / state.size) - 1);
    state.page = Math.min(state.page, last);
    const start = state.page * state.size, visible = places.slice(start, start + state.size);
    body.replaceChildren(...visible.map((place) => {
      const row = make("tr");
      row.append(...columns.map((values, column) => cell(values[place], column, place)));
      return row;
    }));
    table.querySelectorAll("th").forEach((header, column) => {
      const order = state.descending ? "descending" : "ascending";
      header.setAttribute("aria-sort", column === state.column ? order : "none");
    });
    const from = visible.length ? start + 1 : 0;
    byId("status").textContent = `${from}–${start + visible.length} of ${places.length} classes`;
    buttons[0].disabled = state.page === 0;
    buttons[1].disabled = state.page >= last;
    buttons[2].disabled = state.size >= count;
  };

  const again = () => { state.page = 0; draw(); };
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const same = state.column === column;
      state.descending = same ? !state.descending : !words.includes(column);
      state.column = column;
      again();
    });
  });
  search.addEventListener("input", again);
  split.addEventListener("change", again);
  buttons[0].addEventListener("click", () => { state.page--; draw(); });
  buttons[1].addEventListener("click", () => { state.page++; draw(); });
  buttons[2].addEventListener("click", () => { state.size = count; draw(); });
  draw();
})();

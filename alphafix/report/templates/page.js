"use strict";
// The class table: rows are data, and only one page of them is in the document at a time, so
// that thousands of classes open at once. Text is set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("classes-data").textContent);
  const table = document.getElementById("classes");
  const body = table.querySelector("tbody");
  const search = document.getElementById("search");
  const status = document.getElementById("status");
  const buttons = ["previous", "next", "all"].map((id) => document.getElementById(id));
  const state = { column: data.sort, descending: true, page: 0, size: data.page, needle: "" };
  const texts = data.rows.map((row) =>
    row.filter((cell) => typeof cell === "string").join(" ").toLowerCase());

  const shown = () => {
    const places = [];
    for (let i = 0; i < data.rows.length; i++) {
      if (!state.needle || texts[i].includes(state.needle)) places.push(i);
    }
    const sign = state.descending ? -1 : 1;
    const key = (place) => data.rows[place][state.column];
    places.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === y) return a - b;
      if (x === null) return 1;  // n/a last, whatever the order
      if (y === null) return -1;
      if (typeof x === "string") return sign * x.localeCompare(y);
      return sign * (x - y);
    });
    return places;
  };

  const cell = (value, column) => {
    const made = document.createElement("td");
    const kind = data.kinds[column];
    if (value === null) made.textContent = "n/a";
    else if (kind === "percent") made.textContent = value.toFixed(1);
    else if (kind === "change") {
      made.textContent = (value > 0 ? "+" : "") + value.toFixed(1);
      if (value !== 0) made.className = value > 0 ? "up" : "down";
    } else made.textContent = String(value);
    if (kind === "text") made.className = "text";
    return made;
  };

  const draw = () => {
    const places = shown();
    const last = Math.max(0, Math.ceil(places.length / state.size) - 1);
    state.page = Math.min(state.page, last);
    const start = state.page * state.size;
    const visible = places.slice(start, start + state.size);
    const rows = document.createDocumentFragment();
    for (const place of visible) {
      const row = document.createElement("tr");
      data.rows[place].forEach((value, column) => row.append(cell(value, column)));
      rows.append(row);
    }
    body.replaceChildren(rows);
    table.querySelectorAll("th").forEach((header, column) => {
      const order = state.descending ? "descending" : "ascending";
      header.setAttribute("aria-sort", column === state.column ? order : "none");
    });
    const from = visible.length ? start + 1 : 0;
    status.textContent = `${from}–${start + visible.length} of ${places.length} classes`;
    buttons[0].disabled = state.page === 0;
    buttons[1].disabled = state.page >= last;
    buttons[2].disabled = state.size >= data.rows.length;
  };

  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const again = state.column === column;
      state.descending = again ? !state.descending : !["text", "word"].includes(data.kinds[column]);
      state.column = column;
      state.page = 0;
      draw();
    });
  });
  search.addEventListener("input", () => {
    state.needle = search.value.trim().toLowerCase();
    state.page = 0;
    draw();
  });
  buttons[0].addEventListener("click", () => { state.page--; draw(); });
  buttons[1].addEventListener("click", () => { state.page++; draw(); });
  buttons[2].addEventListener("click", () => { state.size = data.rows.length; draw(); });
  draw();
})();

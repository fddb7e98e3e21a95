// The slider: everything in its section follows the method and the shift of the few-split logits.
const steer = (() => {
  const select = byId("method"), slider = byId("shift");
  const MOVED = 8, PAIRS = 40, STEPS = 400, CURVE = 240;
  const prepared = new Map();

  // A method with its samples by gap, and the shifts between which anything changes.
  const prepare = (place) => {
    if (prepared.has(place)) return prepared.get(place);
    const method = data.methods[place], margins = marginsOf(method), { gap, few, other } = margins;
    const order = Uint32Array.from(gap.keys()).sort((a, b) => gap[a] - gap[b]);
    const matter = order.filter((i) => few[i] === labels[i] || other[i] === labels[i]);
    const at = (share) => gap[matter[Math.floor(share * (matter.length - 1))] ?? 0] + method.offset;
    const low = Math.min(at(0.01), method.offset, 0), high = Math.max(at(0.97), method.offset, 0);
    const rough = (high - low) / STEPS || 0.01;
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((times) => times * unit >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const sorted = Float64Array.from(order, (i) => gap[i]);
    const made = { ...method, margins, order, sorted, step, digits };
    made.low = Math.floor(low / step) * step;
    made.high = Math.ceil(high / step) * step;
    prepared.set(place, made);
    return made;
  };

  // The first gap that is not below a shift.
  const placeOf = (sorted, shift) => {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < shift) low = middle + 1; else high = middle;
    }
    return low;
  };

  // A shift with few digits that no sample is so near to that rounding could turn it over.
  const safe = (method, wanted) => {
    for (let digits = method.digits; digits <= 6; digits++) {
      const t = Number(wanted.toFixed(digits)), shift = t - method.offset;
      const place = placeOf(method.sorted, shift);
      const near = [place - 1, place].some((i) => Math.abs(method.sorted[i] - shift) < 2e-5);
      if (!near) return t;
      wanted += 0.3 * 10 ** -(digits + 1);
    }
    return wanted;
  };

  const measure = (method, t) => {
    const predicted = answers(method.margins, t - method.offset), right = rightOf(predicted);
    return { t, predicted, right, accuracy: accuracyOf(right) };
  };

  // Places of the largest scores above 0, of equals the first, and how many are above 0.
  const largest = (scores, most) => {
    const sorted = scores.filter((score) => score > 0).sort(), total = sorted.length;
    const least = total > most ? sorted[total - most] : 0;
    const above = [], equal = [];
    for (let i = 0; i < scores.length; i++) {
      if (scores[i] > least) above.push(i);
      else if (least && scores[i] === least && equal.length < most) equal.push(i);
    }
    above.sort((a, b) => scores[b] - scores[a] || a - b);
    return { places: [...above, ...equal].slice(0, most), total };
  };

  // The classes that change most, as a list.
  const list = (place, right, sign) => {
    const change = Float64Array.from(right, (count, c) => sign * (count - rightBefore[c]));
    const { places, total } = largest(change, MOVED);
    const items = places.map((c) => {
      const item = make("li");
      const moved = sign * change[c];
      const text = ` ${signed(moved, 0)} of ${samplesOf[c]} (${TIERS[data.tiers[c]]})`;
      item.append(nameOf(c), make("span", text, toned(moved)));
      return item;
    });
    if (total > MOVED) items.push(make("li", `… and ${total - MOVED} more`, "soft"));
    byId(place).replaceChildren(...(items.length ? items : [make("li", "none", "soft")]));
  };

  // Pairs of a rare class that gains and one that it takes samples from (as `payers.pairs`): one
  // number a sample that moves, sorted, so that those of a pair stand together.
  const pairsOf = ({ predicted, right }) => {
    const gains = (c) => data.tiers[c] === 0 && right[c] > rightBefore[c];
    const size = data.names.length, moves = new Float64Array(labels.length);
    let count = 0;
    for (let i = 0; i < labels.length; i++) {
      const label = labels[i], now = predicted[i];
      if (now === before[i]) continue;
      if (before[i] === label) {
        if (gains(now)) moves[count++] = (now * size + label) * 2;
      } else if (now === label && gains(label)) {
        moves[count++] = (label * size + before[i]) * 2 + 1;
      }
    }
    const found = [];
    for (const move of moves.subarray(0, count).sort()) {
      const key = Math.floor(move / 2), won = move % 2;
      let last = found[found.length - 1];
      if (last?.key !== key) {
        last = { key, rare: Math.floor(key / size), other: key % size, lost: 0, won: 0 };
        found.push(last);
      }
      last[won ? "won" : "lost"]++;
    }
    return found;
  };

  // The dearest of some pairs, and how many there are.
  const dearest = (pairs, most) => {
    const { places, total } = largest(
      Float64Array.from(pairs, (pair) => pair.lost * 2 ** 26 + pair.won), most);
    return { pairs: places.map((place) => pairs[place]), total };
  };

  const showPairs = ({ pairs, total }) => {
    const body = byId("pairs").querySelector("tbody");
    body.replaceChildren(...pairs.map((pair) => {
      const row = make("tr"), cells = [make("td"), make("td")];
      cells[0].append(nameOf(pair.rare));
      cells[1].append(nameOf(pair.other));
      row.append(...cells, make("td", TIERS[data.tiers[pair.other]]), make("td", pair.lost),
        make("td", pair.won));
      return row;
    }));
    byId("pairs").querySelector(".note")?.remove();
    const left = total - pairs.length;
    if (left > 0) byId("pairs").append(make("p", `... and ${left} more pairs`, "note"));
  };

  // In the picture of the trade-off: the curve of the method, and the point on it.
  const frontier = (() => {
    const svg = document.querySelector("#trade-off svg"), frame = data.frame;
    if (!svg || !frame) return { curve() {}, point() {} };
    const shape = (tag, kind) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      made.setAttribute("class", kind);
      svg.append(made);
      return made;
    };
    const line = shape("polyline", "mark-line"), point = shape("circle", "mark-point");
    point.setAttribute("r", 7);
    point.id = "steered-point";
    const scale = (value, [from, to], [start, end]) =>
      start + ((value - from) / (to - from)) * (end - start);
    const inside = (value, [a, b]) => Math.min(Math.max(value, Math.min(a, b)), Math.max(a, b));
    const x = (overall) => scale(overall, frame.overall, frame.x);
    const y = (few) => scale(few, frame.few, frame.y);
    return {
      curve(method) {
        const { order, margins: { few, other } } = method;
        let rare = 0, all = 0, rareSize = 0;
        for (let i = 0; i < labels.length; i++) {
          const isRare = data.tiers[labels[i]] === 0;
          rareSize += isRare;
          if (other[i] === labels[i]) { all++; rare += isRare; }
        }
        const points = [], every = Math.max(1, Math.floor(order.length / CURVE / 4));
        order.forEach((i, place) => {
          const step = (few[i] === labels[i]) - (other[i] === labels[i]);
          all += step;
          if (data.tiers[labels[i]] === 0) rare += step;
          if (place % every) return;
          const at = [x((100 * all) / labels.length), y((100 * rare) / rareSize)];
          if (at[0] === inside(at[0], frame.x) && at[1] === inside(at[1], frame.y)) {
            points.push(at.map((one) => one.toFixed(1)).join(","));
          }
        });
        line.setAttribute("points", points.join(" "));
      },
      point(accuracy) {
        point.setAttribute("cx", inside(x(accuracy[3]), frame.x).toFixed(2));
        point.setAttribute("cy", inside(y(accuracy[0]), frame.y).toFixed(2));
      },
    };
  })();

  let method = null, now = null;

  const show = (t) => {
    const started = performance.now();
    now = measure(method, t);
    const { accuracy, right } = now;
    byId("steered").querySelectorAll(".tile").forEach((tile, tier) => {
      const [big, change] = tile.querySelectorAll("p");
      const known = accuracy[tier] !== null;
      big.textContent = known ? `${accuracy[tier].toFixed(1)}%` : "n/a";
      const moved = known ? accuracy[tier] - accuracyBefore[tier] : 0;
      change.textContent = known
        ? `${signed(moved)} points (before ${accuracyBefore[tier].toFixed(1)}%)` : "no samples";
      change.className = `change ${toned(Number(moved.toFixed(1)))}`;
    });
    const text = `few ${accuracy[0]?.toFixed(1)}%, overall ${accuracy[3]?.toFixed(1)}%`;
    const there = t === method.offset && method.ships;
    byId("shift-said").textContent =
      `t = ${shown(t)}${there ? ", as it is in this run" : ""}: ${text}`;
    slider.setAttribute("aria-valuetext", `${shown(t)}: ${text}`);
    list("losing", right, -1);
    list("gaining", right, 1);
    now.pairs = pairsOf(now);
    showPairs(dearest(now.pairs, PAIRS));
    frontier.point(accuracy);
    byId("command").textContent = method.command
      ? `${method.command} t=${shown(t, "-")}`
      : "This correction has no curve on validation, so it cannot be moved.";
    byId("copied").textContent = "";
    look.again();
    byId("steer").dataset.milliseconds = performance.now() - started;
  };

  const shown = (t, minus = "−") => String(Number(t.toFixed(9))).replace("-", minus);

  const choose = (place) => {
    method = { ...prepare(place), ships: place === 0 };
    slider.min = method.low;
    slider.max = method.high;
    slider.step = method.step;
    slider.value = method.offset;
    frontier.curve(method);
    show(method.offset);
  };

  const copy = async () => {
    const text = byId("command").textContent;
    try {
      await navigator.clipboard.writeText(text);
      byId("copied").textContent = "copied";
    } catch {  // not allowed here: marked, so that one key copies it
      getSelection().selectAllChildren(byId("command"));
      byId("copied").textContent = "marked: press Ctrl+C";
    }
  };

  return {
    start() {
      if (!select) return;
      select.addEventListener("change", () => choose(Number(select.value)));
      slider.addEventListener("input", () => show(safe(method, Number(slider.value))));
      byId("back").addEventListener("click", () => { select.value = 0; choose(0); });
      byId("copy").addEventListener("click", copy);
      choose(0);
    },
    get now() { return now; },
    dearest,
  };
})();

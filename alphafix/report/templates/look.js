// One class: its test samples as repaired, broken or still wrong, beside its neighbours.
const look = (() => {
  const { sprite } = data, MOST = 60, NEAR = 4;
  const placeOf = new Map(sprite.samples.map((sample, place) => [sample, place]));
  const KINDS = [
    ["repaired", "Repaired: wrong before, right now"],
    ["broken", "Broken: right before, wrong now"],
    ["wrong", "Still wrong"],
    ["right", "Right before and now"],
  ];
  let label = null;

  const image = (sample, text) => {
    const place = placeOf.get(sample), made = make("span", "", "shot");
    const zoom = sprite.size < 32 ? 2 : 1, side = sprite.size * zoom;
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", text);
    Object.assign(made.style, {
      width: `${side + 8}px`,
      height: `${side + 8}px`,
      backgroundImage: `url(${sprite.uri})`,
      backgroundOrigin: "content-box",
      backgroundSize: `${Math.min(sprite.samples.length, sprite.across) * side}px auto`,
      backgroundPosition:
        `-${(place % sprite.across) * side}px -${Math.floor(place / sprite.across) * side}px`,
    });
    return made;
  };

  // Samples as images where there are any, with what they are taken for.
  const shots = (samples, kind, told) => {
    const list = make("ul", "", `shots ${kind}`);
    const seen = samples.filter((sample) => placeOf.has(sample)).slice(0, MOST);
    for (const sample of seen) {
      const item = make("li"), text = told(sample);
      item.append(image(sample, text || data.names[labels[sample]]));
      if (text) item.append(make("span", text));
      list.append(item);
    }
    return seen.length ? [list] : [];
  };

  const counted = (samples, told) => {
    const counts = new Map();
    for (const sample of samples) counts.set(told(sample), (counts.get(told(sample)) ?? 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1])
      .map(([text, count]) => `${text}${count > 1 ? ` (${count})` : ""}`).join(", ");
  };

  const group = (predicted, kind, title, samples) => {
    const told = {
      repaired: (i) => `was ${data.names[before[i]]}`,
      broken: (i) => `as ${data.names[predicted[i]]}`,
      wrong: (i) => `as ${data.names[predicted[i]]}`,
      right: () => "",
    }[kind];
    const found = [make("h4", `${title} (${samples.length})`)];
    const images = shots(samples, kind, told);
    if (images.length) found.push(...images);
    else if (kind !== "right") found.push(make("p", counted(samples, told)));
    return samples.length ? found : [];
  };

  const neighbours = () => {
    const found = [];
    for (const other of data.neighbours[label] ?? []) {
      const mine = [];
      for (let i = 0; i < labels.length && mine.length < NEAR; i++) {
        if (labels[i] === other && placeOf.has(i)) mine.push(i);
      }
      const title = make("h4", "Neighbour: ");
      title.append(nameOf(other));
      found.push(title, ...shots(mine, "right", () => ""));
    }
    return found;
  };

  const draw = () => {
    const { predicted, right } = steer.now;
    const groups = { repaired: [], broken: [], wrong: [], right: [] };
    for (let i = 0; i < labels.length; i++) {
      if (labels[i] !== label) continue;
      const was = before[i] === label, is = predicted[i] === label;
      groups[is ? (was ? "right" : "repaired") : was ? "broken" : "wrong"].push(i);
    }
    const tier = TIERS[data.tiers[label]];
    const lines = [make("p", `${tier}, ${data.counts[label]} training images; ${rightBefore[label]} ` +
      `of ${samplesOf[label]} right before, ${right[label]} now`)];
    if (data.learned[label]) lines.push(make("p", data.learned[label], "soft"));
    const mine = steer.now.pairs.filter((pair) => pair.rare === label || pair.other === label);
    const pairs = steer.dearest(mine, 6).pairs.map((pair) => pair.rare === label
      ? `takes ${pair.lost} from ${data.names[pair.other]}, wins back ${pair.won}`
      : `loses ${pair.lost} to ${data.names[pair.rare]}, which wins back ${pair.won}`);
    if (pairs.length) lines.push(make("p", `${pairs.join("; ")}.`));
    for (const [kind, title] of KINDS) lines.push(...group(predicted, kind, title, groups[kind]));
    byId("looked-at").replaceChildren(...lines, ...neighbours());
    byId("looked").textContent = data.names[label];
  };

  return {
    show(wanted) {
      label = wanted;
      draw();
      byId("looked").focus();
      byId("look").scrollIntoView();
    },
    again() { if (label !== null) draw(); },
  };
})();

steer.start();
// Names that the page came with.
document.querySelectorAll(".class").forEach((one) =>
  one.replaceChildren(nameOf(Number(one.dataset.class))));

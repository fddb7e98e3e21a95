"use strict";
// What the page knows of each sample, and the parts that all scripts share. Text is set as text,
// never as HTML.
document.documentElement.classList.add("scripted");
const data = JSON.parse(document.getElementById("page-data").textContent);
const byId = (id) => document.getElementById(id);
const TIERS = ["few", "medium", "many"];

const make = (tag, text = "", kind = "") => {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

const signed = (value, digits = 1) => (value > 0 ? "+" : "") + value.toFixed(digits).replace("-", "−");
const toned = (value) => (value > 0 ? "up" : value < 0 ? "down" : "soft");

// The name of a class, which shows what became of its samples.
const nameOf = (label) => {
  const made = make("button", data.names[label], "name");
  made.type = "button";
  made.addEventListener("click", () => look.show(label));
  return made;
};

// Arrays are packed as bytes, little-endian as every browser's own.
const arrays = new Map();
const unpack = (place) => {
  if (!arrays.has(place)) {
    const packed = data.arrays[place], text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const kind = { f4: Float32Array, u2: Uint16Array, u4: Uint32Array }[packed.type];
    arrays.set(place, new kind(bytes.buffer));
  }
  return arrays.get(place);
};
const marginsOf = (entry) => ({
  gap: unpack(entry.gap), few: unpack(entry.few), other: unpack(entry.other),
});

// The answer for each sample: its best few-split class where the shift exceeds its gap.
const answers = ({ gap, few, other }, shift) => {
  const found = new Uint32Array(gap.length);
  for (let i = 0; i < gap.length; i++) found[i] = gap[i] < shift ? few[i] : other[i];
  return found;
};

// Samples of each class that are right.
const rightOf = (predicted) => {
  const found = new Int32Array(data.names.length);
  for (let i = 0; i < predicted.length; i++) if (predicted[i] === labels[i]) found[labels[i]]++;
  return found;
};

// Accuracy in percent of few, medium, many and overall; null without samples.
const accuracyOf = (right) => {
  const hits = [0, 0, 0, 0], all = [0, 0, 0, 0];
  for (let c = 0; c < right.length; c++) {
    for (const tier of [data.tiers[c], 3]) {
      hits[tier] += right[c];
      all[tier] += samplesOf[c];
    }
  }
  return hits.map((count, tier) => (all[tier] ? (100 * count) / all[tier] : null));
};

const labels = unpack(data.labels);
const samplesOf = new Int32Array(data.names.length);
for (const label of labels) samplesOf[label]++;
const before = answers(marginsOf(data.before), 0);
const rightBefore = rightOf(before);
const accuracyBefore = accuracyOf(rightBefore);

"use strict";
// The data, the rows as objects, and the few helpers that everything else uses.

const DATA = JSON.parse(document.getElementById("data").textContent);

function unpack({ length, columns }) {
  const rows = Array.from({ length }, () => ({}));
  for (const [name, { values, codes }] of Object.entries(columns)) {
    for (let i = 0; i < length; i++) rows[i][name] = codes ? values[codes[i]] : values[i];
  }
  return rows;
}

const ROWS = unpack(DATA.rows);

// An element: texts become text nodes, so nothing in the data can become markup.
function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const distinct = (values) => [...new Set(values)];
const present = (value) => value !== null && value !== undefined && value !== "";
const text = (value) => (present(value) ? String(value) : "–");
const failed = (row) => row.status !== "ok" || !present(row.value);
const pending = (row) => row.status === "missing";
const doubted = (row) => present(row.doubts);
const doubtsOf = (row) => (doubted(row) ? row.doubts.split("\n") : []);
const small = (row) => !failed(row) && row.small === true;
const markOf = (row) => (doubted(row) ? DATA.doubt.mark : "") + (small(row) ? "‡" : "");
const marked = (row) => (markOf(row) ? `${spell(row.value)} ${markOf(row)}` : spell(row.value));
// What stands below marked numbers, given the sentences of those shown; nothing where none is marked.
const doubtNote = (sentences) => (sentences.length ? h("p", { class: "note" }, `${DATA.doubt.says}${distinct(sentences).join("; or ")}. Its details say more.`) : "");
const SMALL_NOTE = "‡ n too small: the interval fills half of the metric's range or more.";
const detection = (row) => present(row.ood_set);

function spell(value) {
  if (typeof value !== "number") return text(value);
  const size = Math.abs(value);
  return size < 10 ? value.toFixed(3) : size < 100 ? value.toFixed(2) : value.toFixed(0);
}

const interval = (row) => (present(row.ci_low) && present(row.ci_high) ? `[${spell(row.ci_low)}, ${spell(row.ci_high)}]` : "");

// What a row's value is of, in words: the first line of its tooltip and of its details.
function subject(row) {
  const parts = [row.model, row.variant, row.label, row.calibrator && row.calibrator !== "none" ? row.calibrator : null];
  if (detection(row)) parts.push(row.detector, `against ${row.over}`);
  return parts.filter(present).join(" · ");
}

function tip(row) {
  const value = failed(row) ? `${row.status}: ${row.error || "no value"}` : `${row.metric} ${marked(row)} ${interval(row)}`;
  return `${subject(row)} — ${value}${doubted(row) ? ` — ${doubtsOf(row).join("; ")}` : ""}`;
}

// Groups of rows by a key, in order of first appearance.
function groups(rows, key) {
  const found = new Map();
  for (const row of rows) {
    const name = key(row);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return found;
}

// Conditions as they come, the points of a curve by what grows along it; clean first.
function conditionOrder(rows) {
  const first = new Map();
  for (const row of rows) if (!first.has(row.condition)) first.set(row.condition, row.kind === "clean" ? -1 : first.size);
  const key = (row) => [first.get(row.condition), row.severity || 0, row.eps || 0];
  const seen = new Map(rows.map((row) => [row.label, key(row)]));
  return [...seen.keys()].sort((a, b) => {
    const [left, right] = [seen.get(a), seen.get(b)];
    const at = left.findIndex((value, i) => value !== right[i]);
    return at < 0 ? 0 : left[at] - right[at];
  });
}

// A labelled choice; `options` are values, or [value, words] pairs.
function choice(label, options, value, change) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, text(option)]));
  const select = h("select", { on: { change: () => change(pairs[select.selectedIndex][0]) } },
    pairs.map(([option, words]) => h("option", { selected: option === value }, words)));
  return h("label", { class: "choice" }, h("span", {}, label), select);
}

// A section whose content is made anew whenever one of its choices changes.
function section(id, title, note, draw) {
  const body = h("div", { class: "body" });
  const state = {};
  const redraw = (change) => {
    Object.assign(state, change);
    body.replaceChildren(...draw(state, redraw).filter(Boolean));
  };
  redraw({});
  return h("section", { id }, h("h2", {}, title), note ? h("p", { class: "note" }, note) : null, body);
}

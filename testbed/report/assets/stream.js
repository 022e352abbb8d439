// The page of a stream: what happened, measures over time, drift detectors, updates, and every segment in numbers.

const SETTINGS = DATA.settings;
const CALIBRATORS = distinct(DATA.rolling.map((row) => row.calibrator));
const BACK = DATA.events.filter((row) => row.scope === "update");
const EPISODES = DATA.events.filter((row) => row.scope === "episode");

const estimate = (row) => (row ? [h("span", { class: "value" }, spell(row.value)), h("span", { class: "between" }, interval(row))] : ["–"]);
const spelled = (row) => `${spell(row.value)} ${interval(row)}`;

// A chart over steps; `target` is where its dashed rule stands, null for none.
function timeline(title, subtitle, name, values, target, adjust) {
  return card(title, subtitle, name, values, (spec) => {
    spec.layer[0].data.values = DATA.segments;
    spec.layer[1].data.values = DATA.segments.slice(1);
    if (target === null || target === undefined) spec.layer.splice(2, 1);
    else spec.layer[2].data.values = [{ target }];
    if (adjust) adjust(spec);
  });
}

function happened() {
  const strip = h("div", { class: "segments", "aria-hidden": "true" }, DATA.segments.map(({ first, last, title, drifted }) =>
    h("div", { class: drifted ? "drifted" : null, style: { "flex-grow": String(last - first) }, title: `${title}, steps ${first} to ${last}` }, title)));
  const list = DATA.segments.map(({ first, last, title }) => `${title} (${last - first})`).join(", then ");
  const undone = BACK.filter((row) => row.alarm);
  const lines = [...EPISODES.map((row) => ({ row, who: row.detector, what: present(row.value) ? `${row.event}, ${row.value} steps late` : row.event, bad: !present(row.value) })),
    ...undone.map((row) => ({ row, who: row.calibrator, what: `${row.event}: ${row.metric} ${spelled(row)}`, bad: true }))].sort((a, b) => a.row.step - b.row.step);
  const items = lines.slice(0, 200).map(({ row, who, what, bad }) => h("tr", { class: bad ? "undone" : null },
    h("td", { class: "numeric" }, String(row.step)), h("td", {}, who), h("td", {}, what)));
  const table = h("div", { class: "scroll tall" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["step", "who", "what"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, items)));
  const more = lines.length > items.length ? h("p", { class: "note" }, `and ${lines.length - items.length} more in stream.parquet`) : null;
  return section("happened", "What happened", `${list}. Labels are known ${SETTINGS.label_delay} steps late.`, () => [strip, h("details", { open: lines.length <= 12 }, h("summary", {}, `${EPISODES.length} detections and misses, ${undone.length} rollbacks`), table, more)]);
}

function overTime() {
  const { window } = SETTINGS.rolling;
  const note = `Of the last ${window} labelled examples, as known at each step by the labels that had arrived; bands are 95 % intervals, shades are segments with drift, dashed is the target coverage.`;
  return section("rolling", "Over time", note, (state, redraw) => {
    const chosen = state.chosen ?? null;
    const shown = DATA.rolling.filter((row) => chosen === null || row.calibrator === chosen);
    const cards = Object.entries(DATA.measures).map(([metric, title]) => {
      const values = shown.filter((row) => row.metric === metric).map((row) => ({ step: row.step, value: row.value, low: row.ci_low, high: row.ci_high, calibrator: row.calibrator, tip: `${row.calibrator} at ${row.step}: ${metric} ${spelled(row)}, n = ${row.n}` }));
      const target = metric.startsWith("coverage") ? 1 - SETTINGS.conformal.alpha : null;
      return timeline(title, "", "rolling", values, target, (spec) => {
        for (const layer of spec.layer) if (layer.encoding.color) layer.encoding.color.scale = { domain: CALIBRATORS };
      });
    });
    return [
      CALIBRATORS.length > 1 ? h("div", { class: "controls" }, choice("calibrator", [[null, "all"], ...CALIBRATORS.map((name) => [name, name])], chosen, (value) => redraw({ chosen: value }))) : null,
      legend({ colours: CALIBRATORS, dashes: [] }), h("div", { class: "cards wide" }, cards),
    ];
  });
}

function detectors() {
  const names = distinct(DATA.drift.map((row) => row.detector));
  if (!names.length) return null;
  const of = (name, metric) => DATA.summary.find((row) => row.scope === "detector" && row.detector === name && row.metric === metric);
  const body = names.map((name) => {
    const [found, delay, wrong] = ["detected", "mean_delay", "false_alarm_rate"].map((metric) => of(name, metric));
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "numeric" }, found ? `${Math.round(found.value * found.n)} of ${found.n}` : "no drift"),
      h("td", { class: "numeric" }, delay ? spell(delay.value) : "–"), h("td", { class: "numeric" }, ...estimate(wrong)), h("td", { class: "numeric" }, wrong ? String(wrong.n) : "0"),
      h("td", {}, text(DATA.drift.find((row) => row.detector === name).convention)));
  });
  const head = ["detector", "episodes detected", "mean delay, steps", "false alarm rate", "windows without drift", "test"];
  const table = h("div", { class: "scroll" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, body)));
  const note = `Each test compares the last ${SETTINGS.window} uncalibrated outputs with those of calibration examples, without labels. An alarm is a p-value below ${SETTINGS.level} (dashed); p-values below 1e-12 stand at 1e-12.`;
  return section("drift", "Drift detectors", note, () => [table, h("div", { class: "cards wide" }, names.map((name) => {
    const values = DATA.drift.filter((row) => row.detector === name).map((row) => ({ step: row.step, value: Math.max(row.value, 1e-12), alarm: row.alarm ? "alarm" : "no alarm", tip: `${name} at ${row.step}: p = ${row.value}` }));
    return timeline(name, "", "drift", values, SETTINGS.level, marks);
  }))]);
}

// Alarms in the second colour and another shape, everything else in the first.
function marks(spec) {
  for (const layer of spec.layer) {
    if (layer.encoding.color) layer.encoding.color.scale = { domain: ["no alarm", "alarm"] };
    if (layer.encoding.shape) layer.encoding.shape.scale = { domain: ["no alarm", "alarm"], range: ["circle", "triangle-up"] };
  }
}

function rollbacks() {
  const names = distinct(BACK.map((row) => row.calibrator));
  if (!names.length) return null;
  const { metric, window, margin } = SETTINGS.rollback;
  const note = `After every ${window} labels, ${metric} of what an online calibrator announced minus that of the state it could go back to, on the same examples, with its paired interval. Above 0 the update was worse; a triangle is a rollback (significant${margin ? `, and by more than ${margin}` : ""}).`;
  return section("updates", "Updates of online calibrators", note, () => [h("div", { class: "cards wide" }, names.map((name) => {
    const own = BACK.filter((row) => row.calibrator === name);
    const values = own.map((row) => ({ step: row.step, value: row.value, low: row.ci_low, high: row.ci_high, alarm: row.alarm ? "alarm" : "no alarm", tip: `${name} at ${row.step}: ${row.event}, ${row.metric} ${spelled(row)}, n = ${row.n}` }));
    return timeline(name, `${own.filter((row) => row.alarm).length} of ${own.length} updates rolled back`, "updates", values, 0, marks);
  }))]);
}

function numbers() {
  const metrics = ["accuracy", "ece", "nll", "coverage", "coverage_adaptive", "set_size", "set_size_adaptive", "ece_change", "nll_change"];
  const of = groups(DATA.summary.filter((row) => ["segment", "stream"].includes(row.scope) && row.metric !== "rollbacks"), (row) => `${row.scope}\u0000${row.segment}\u0000${row.calibrator}`);
  let above = null;
  const body = [...of.values()].map((rows) => {
    const [first] = rows;
    const title = first.scope === "stream" ? "whole stream" : first.condition;
    const here = `${first.segment} ${title}`;
    const line = h("tr", { class: here === above ? null : "first" }, h("th", { scope: "row" }, here === above ? "" : title), h("td", {}, first.calibrator),
      metrics.map((metric) => h("td", { class: "numeric" }, ...estimate(rows.find((row) => row.metric === metric)))));
    above = here;
    return line;
  });
  const first = CALIBRATORS[0];
  const note = `By the true labels, with 95 % intervals; changes are paired, against ${first}.`;
  return section("numbers", "Segments in numbers", note, () => [h("div", { class: "scroll" }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, ["segment", "calibrator", ...metrics.map((name) => name.replaceAll("_", " "))].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, body)))]);
}

function about() {
  const { packages, ...rest } = DATA.provenance;
  const line = ([name, value]) => [h("dt", {}, name), h("dd", {}, value !== null && typeof value === "object" ? JSON.stringify(value) : text(value))];
  const entries = [...Object.entries(DATA.named), ...Object.entries(SETTINGS), ["file", DATA.file], ...Object.entries(rest)].filter(([, value]) => present(value));
  return h("section", { id: "provenance" }, h("h2", {}, "Settings and provenance"), h("dl", {}, entries.flatMap(line)),
    packages ? h("details", {}, h("summary", {}, `${Object.keys(packages).length} packages`), h("p", { class: "packages" }, Object.entries(packages).map(([name, version]) => `${name}==${version}`).join("  "))) : null);
}

function main() {
  const steps = DATA.segments.at(-1).last;
  document.getElementById("top").replaceChildren(h("h1", {}, DATA.name),
    h("p", { class: "counts" }, [[steps, "examples"], [DATA.segments.length, "segments"], [CALIBRATORS.length, "calibrators"], [BACK.filter((row) => row.alarm).length, "rollbacks"]].map(([count, words]) => h("span", {}, h("b", {}, String(count)), ` ${words}`))),
    h("p", { class: "note" }, `${DATA.named.model} on ${DATA.named.dataset}`));
  const parts = [happened(), overTime(), detectors(), rollbacks(), numbers(), about()].filter(Boolean);
  const nav = h("nav", {}, parts.map((part) => h("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
  document.getElementById("main").replaceChildren(nav, ...parts);
}

main();

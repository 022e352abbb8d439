// Which combination to deploy: weights that can be moved, the Pareto front, and the set that may hold the best one.

function weighted(table, weights) {
  const sign = table.criteria.map(({ higher }) => (higher ? 1 : -1));
  const oriented = (values) => values.map((value, c) => value * sign[c]);
  const points = table.candidates.map(({ values }) => oriented(values));
  const low = sign.map((_, c) => Math.min(...points.map((values) => values[c])));
  const span = sign.map((_, c) => Math.max(...points.map((values) => values[c])) - low[c]);
  const score = (values) => values.reduce((sum, value, c) => sum + (span[c] > 0 ? weights[c] * (value - low[c]) / span[c] : 0), 0);
  const utilities = points.map(score);
  const may = mayBeBest(utilities, table.replicates.map((resample) => resample.map((values) => score(oriented(values)))));
  return table.candidates.map((candidate, i) => ({ ...candidate, utility: utilities[i], may: may[i] }));
}

// Hsu's set, as testbed.metrics.selection.may_be_best: out where another is ahead by more standard errors than chance gives.
function mayBeBest(utilities, draws) {
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const means = utilities.map((_, k) => mean(draws.map((draw) => draw[k])));
  return utilities.map((mine, j) => {
    const apart = draws.map((draw) => draw.map((value, k) => value - means[k] - (draw[j] - means[j])));
    const errors = utilities.map((_, k) => Math.sqrt(mean(apart.map((row) => row[k] ** 2))));
    const noisy = utilities.flatMap((_, k) => (errors[k] > 1e-9 ? [k] : []));
    if (utilities.some((other, k) => errors[k] <= 1e-9 && other > mine + 1e-9)) return false;
    if (!noisy.length) return true;
    const most = (row) => Math.max(...noisy.map((k) => row[k] / errors[k]));
    const chance = apart.map(most).sort((a, b) => a - b);
    return most(utilities.map((other) => other - mine)) <= chance[Math.ceil(0.95 * chance.length) - 1];
  });
}

function weightInputs(table, weights, change) {
  return table.criteria.map(({ name, higher, convention }, c) => h("label", { class: "choice", title: `${convention}; ${higher ? "more" : "less"} is better` },
    h("span", {}, `${name} ${higher ? "↑" : "↓"}`), h("input", { type: "number", min: "0", step: "0.5", value: String(weights[c]), style: { width: "4.5rem" },
      on: { change: (event) => change(weights.map((weight, i) => (i === c ? Math.max(0, Number(event.target.value) || 0) : weight))) } })));
}

function selectionTable(table, weights) {
  const rows = weighted(table, weights).sort((a, b) => b.may - a.may || b.utility - a.utility);
  const cell = (row, c) => h("td", { class: "numeric" }, h("span", { class: "value" }, spell(row.values[c]) + (row.doubts[c].length ? ` ${DATA.doubt.mark}` : "")),
    present(row.low[c]) ? h("span", { class: "between" }, ` [${spell(row.low[c])}, ${spell(row.high[c])}]`) : null);
  const head = ["may be best", "Pareto", "model", "calibrator", "detector", ...table.criteria.map(({ name }) => name), "utility"];
  const words = head.length - table.criteria.length - 1;
  const body = rows.map((row) => h("tr", {}, h("td", {}, row.may ? "yes" : ""), h("td", {}, row.front ? "★" : ""), h("th", { scope: "row" }, row.model + (row.train_seed ? ` #${row.train_seed}` : "")), h("td", {}, row.calibrator), h("td", {}, text(row.detector)),
    table.criteria.map((_, c) => cell(row, c)), h("td", { class: "numeric" }, spell(row.utility))));
  return h("div", { class: "scroll tall" }, h("table", { class: "chosen" }, h("thead", {}, h("tr", {}, head.map((name, i) => h("th", { scope: "col", class: i < words ? null : "numeric" }, name)))), h("tbody", {}, body)));
}

function modelSelection(dataset) {
  const tables = DATA.selection.filter((table) => table.dataset === dataset);
  if (!tables.length) return null;
  const note = "Each criterion is scaled by its range over these combinations, weighted and summed. Those that may be best are the set that holds the best one in 95 of 100 test sets (Hsu): where there are several, this test set names no winner. testbed report --weights adds a shrunk probability. A star: no other combination is at least as good in everything.";
  return section("selection", "Model selection", note, (state, redraw) => tables.flatMap((table, t) => {
    const weights = state[t] ?? table.criteria.map(() => 1);
    const said = table.criteria.map(({ name, convention }) => `${name}: ${convention}`).join("; ");
    const more = table.not_shown ? ` ${table.not_shown} more combinations are not shown; testbed report --weights has them.` : "";
    return [
      h("div", { class: "controls" }, tables.length > 1 ? h("strong", {}, `seed ${table.seed}`) : null, weightInputs(table, weights, (value) => redraw({ [t]: value }))),
      selectionTable(table, weights), doubtNote(table.candidates.flatMap((row) => row.doubts.flat())), h("p", { class: "note" }, said + more),
      table.left_out.length ? h("details", {}, h("summary", {}, `${table.left_out.length} left out`), h("ul", {}, table.left_out.map((reason) => h("li", {}, reason)))) : null,
    ];
  }));
}

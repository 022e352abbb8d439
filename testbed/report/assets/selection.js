// Which combination to deploy: weights that can be moved, the Pareto front, and how often each wins in paired resamples.

function weighted(table, weights) {
  const sign = table.criteria.map(({ higher }) => (higher ? 1 : -1));
  const oriented = (values) => values.map((value, c) => value * sign[c]);
  const points = table.candidates.map(({ values }) => oriented(values));
  const low = sign.map((_, c) => Math.min(...points.map((values) => values[c])));
  const span = sign.map((_, c) => Math.max(...points.map((values) => values[c])) - low[c]);
  const score = (values) => values.reduce((sum, value, c) => sum + (span[c] > 0 ? weights[c] * (value - low[c]) / span[c] : 0), 0);
  const wins = points.map(() => 0);
  for (const resample of table.replicates) {
    const scores = resample.map((values) => score(oriented(values)));
    const best = Math.max(...scores);
    const winners = scores.flatMap((value, i) => (value === best ? [i] : []));
    for (const i of winners) wins[i] += 1 / winners.length;
  }
  return table.candidates.map((candidate, i) => ({ ...candidate, utility: score(points[i]), best: wins[i] / table.replicates.length }));
}

function weightInputs(table, weights, change) {
  return table.criteria.map(({ name, higher, convention }, c) => h("label", { class: "choice", title: `${convention}; ${higher ? "more" : "less"} is better` },
    h("span", {}, `${name} ${higher ? "↑" : "↓"}`), h("input", { type: "number", min: "0", step: "0.5", value: String(weights[c]), style: { width: "4.5rem" },
      on: { change: (event) => change(weights.map((weight, i) => (i === c ? Math.max(0, Number(event.target.value) || 0) : weight))) } })));
}

function selectionTable(table, weights) {
  const rows = weighted(table, weights).sort((a, b) => b.best - a.best || b.utility - a.utility);
  const cell = (row, c) => h("td", { class: "numeric" }, h("span", { class: "value" }, spell(row.values[c]) + (row.doubted && row.doubted[c] ? " †" : "")),
    present(row.low[c]) ? h("span", { class: "between" }, ` [${spell(row.low[c])}, ${spell(row.high[c])}]`) : null);
  const head = ["Pareto", "model", "calibrator", "detector", ...table.criteria.map(({ name }) => name), "utility", "P(best)"];
  const body = rows.map((row) => h("tr", {}, h("td", {}, row.front ? "★" : ""), h("th", { scope: "row" }, row.model + (row.train_seed ? ` #${row.train_seed}` : "")), h("td", {}, row.calibrator), h("td", {}, text(row.detector)),
    table.criteria.map((_, c) => cell(row, c)), h("td", { class: "numeric" }, spell(row.utility)), h("td", { class: "numeric" }, row.best.toFixed(3))));
  return h("div", { class: "scroll tall" }, h("table", { class: "chosen" }, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, body)));
}

function modelSelection(dataset) {
  const tables = DATA.selection.filter((table) => table.dataset === dataset);
  if (!tables.length) return null;
  const note = "Each criterion is scaled by its range over these combinations, weighted and summed. P(best) is the share of paired resamples of the test examples in which a combination has the largest sum: where it is spread, this test set cannot tell the winners apart. A star: no other combination is at least as good in everything.";
  return section("selection", "Model selection", note, (state, redraw) => tables.flatMap((table, t) => {
    const weights = state[t] ?? table.criteria.map(() => 1);
    const said = table.criteria.map(({ name, convention }) => `${name}: ${convention}`).join("; ");
    const more = table.not_shown ? ` ${table.not_shown} more combinations are not shown; testbed report --weights has them.` : "";
    return [
      h("div", { class: "controls" }, tables.length > 1 ? h("strong", {}, `seed ${table.seed}`) : null, weightInputs(table, weights, (value) => redraw({ [t]: value }))),
      selectionTable(table, weights), table.candidates.some((row) => (row.doubted || []).some(Boolean)) ? h("p", { class: "note" }, DOUBT_NOTE) : "", h("p", { class: "note" }, said + more),
      table.left_out.length ? h("details", {}, h("summary", {}, `${table.left_out.length} left out`), h("ul", {}, table.left_out.map((reason) => h("li", {}, reason)))) : null,
    ];
  }));
}

// Tables of numbers: a heat table, the full table with sort and filter, and the details behind a number.

function detail(row) {
  const command = (line) => {
    const button = h("button", { class: "copy", type: "button", on: { click: () => {
      navigator.clipboard?.writeText(line).then(() => { button.textContent = "copied"; }, () => { button.textContent = "select and copy"; });
    } } }, "copy");
    return h("div", { class: "command" }, h("code", {}, line), button);
  };
  const shown = ["dataset", "protocol", "group", "model", "variant", "train_seed", "condition", "kind", "severity", "norm", "eps", "victim", "params", "condition_id",
    "calibrator", "fit", "detector", "ood_set", "ood_condition", "metric", "metric_params", "convention", "n", "seed", "status", "flags", "digest"];
  const dialog = document.getElementById("detail");
  dialog.replaceChildren(
    h("h3", {}, `${row.metric}: `, failed(row) ? text(row.status) : `${marked(row)} ${interval(row)}`),
    h("p", {}, subject(row)),
    ...doubtsOf(row).map((sentence) => h("p", { class: "reason" }, `${DATA.doubt.mark} ${sentence}`)),
    ...(present(row.error) ? [h("p", { class: "reason" }, row.error)] : []),
    h("dl", {}, shown.filter((name) => present(row[name])).flatMap((name) => [h("dt", {}, name), h("dd", {}, text(row[name]))])),
    h("h4", {}, "Do this number again"), command(`${DATA.commands.redo} ${row.digest}`),
    h("h4", {}, "See what it is made of"), command(`${DATA.commands.explain} ${row.digest}`),
    h("form", { method: "dialog" }, h("button", { autofocus: true }, "Close")),
  );
  if (!dialog.open) dialog.showModal();
}

// One number; clicking it (or Enter on it) opens what is behind it. `tint` in [0, 1] shades it.
function numberCell(row, tint) {
  const open = () => detail(row);
  const properties = {
    class: pending(row) ? "number pending" : failed(row) ? "number failed" : text(row.flags).startsWith("fail") ? "number warned" : "number", tabindex: 0, role: "button", title: `${tip(row)}\ndigest ${row.digest}`,
    on: { click: open, keydown: (event) => { if (event.key === "Enter") open(); } },
  };
  if (failed(row)) return h("td", properties, text(row.status));
  if (tint !== undefined) properties.style = { "--tint": String(Math.round(tint * 45)) + "%" };
  return h("td", properties, h("span", { class: "value" }, marked(row)), h("span", { class: "between" }, interval(row)));
}

// The group (near, far) of the OOD set that heads a column.
function groupOf(rows, over, name) {
  const first = rows.find((row) => over(row) === name);
  return detection(first) && present(first.group) ? h("span", { class: "between" }, first.group) : null;
}

// Rows by `stub` columns, columns by `over`; shading grows with the value.
function heatTable(rows, stub, over, order) {
  const values = rows.filter((row) => !failed(row) && typeof row.value === "number").map((row) => row.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const heads = order.filter((name) => rows.some((row) => over(row) === name));
  const lines = groups(rows, (row) => stub.map((name) => text(row[name])).join("\u0000"));
  const body = [...lines.values()].map((line) => h("tr", {},
    stub.map((name) => h("th", { scope: "row", class: text(line[0][name]).length > 40 ? "long" : null }, text(line[0][name]))),
    heads.map((head) => {
      const row = line.find((candidate) => over(candidate) === head);
      return row ? numberCell(row, high > low ? (row.value - low) / (high - low) : 0) : h("td", { class: "absent" }, "");
    })));
  const head = h("tr", {}, stub.map((name) => h("th", { scope: "col" }, name)), heads.map((name) => h("th", { scope: "col", class: "over" }, name, groupOf(rows, over, name))));
  const doubts = doubtNote(rows.flatMap(doubtsOf));
  const smalls = rows.some(small) ? h("p", { class: "note" }, SMALL_NOTE) : "";
  return h("div", {}, h("div", { class: "scroll" }, h("table", { class: "heat" }, h("thead", {}, head), h("tbody", {}, body))), doubts, smalls);
}

// Label columns: the given ones, and of the others those without which two rows would stand in one place.
function stubOf(rows, always, sometimes) {
  const place = (row, names) => [...names, "label", "over", "metric"].map((name) => text(row[name])).join("\u0000");
  return sometimes.reduce((stub, name) => {
    const values = groups(rows, (row) => place(row, stub));
    return [...values.values()].some((list) => distinct(list.map((row) => row[name])).length > 1) ? [...stub, name] : stub;
  }, always);
}

const PAGE = 100;

// All rows as they are in results.parquet: every word typed must occur in a row; a click on a head sorts.
function fullTable(rows) {
  const columns = ["dataset", "protocol", "group", "model", "variant", "train_seed", "label", "victim", "calibrator", "fit", "detector", "over", "metric", "convention", "value", "ci_low",
    "ci_high", "n", "seed", "status", "flags", "digest"].filter((name) => rows.some((row) => present(row[name])));
  const names = { label: "condition", over: "OOD set", ci_low: "low", ci_high: "high" };
  const state = { words: [], by: null, down: false, shown: PAGE };
  const haystack = new Map(rows.map((row) => [row, columns.map((name) => text(row[name])).concat(row.error || "").join(" ").toLowerCase()]));
  const count = h("span", { class: "count", role: "status" });
  const head = h("tr", {});
  const body = h("tbody", {});
  const below = h("div", {});
  const more = h("button", { type: "button", on: { click: () => { state.shown += 5 * PAGE; draw(); } } }, "Show more");

  function compare(a, b) {
    const [left, right] = [a[state.by], b[state.by]];
    if (!present(left) || !present(right)) return Number(!present(left)) - Number(!present(right));
    const order = typeof left === "number" && typeof right === "number" ? left - right : String(left).localeCompare(String(right), undefined, { numeric: true });
    return state.down ? -order : order;
  }

  function draw() {
    const found = rows.filter((row) => state.words.every((word) => haystack.get(row).includes(word)));
    if (state.by) found.sort(compare);
    count.textContent = `${found.length} of ${rows.length} numbers`;
    head.replaceChildren(...columns.map((name) => h("th", { scope: "col", "aria-sort": state.by === name ? (state.down ? "descending" : "ascending") : "none" },
      h("button", { type: "button", on: { click: () => { state.down = state.by === name && !state.down; state.by = name; draw(); } } },
        names[name] || name, state.by === name ? (state.down ? " ↓" : " ↑") : ""))));
    body.replaceChildren(...found.slice(0, state.shown).map((row) => h("tr", { class: failed(row) && !pending(row) ? "failed" : null, title: failed(row) ? row.error : null },
      columns.map((name) => {
        if (name === "value") return numberCell(row);
        const number = typeof row[name] === "number";
        return h("td", { class: name === "digest" ? "digest" : number ? "numeric" : null }, number && name.startsWith("ci_") ? spell(row[name]) : text(row[name]));
      }))));
    more.hidden = found.length <= state.shown;
    below.replaceChildren(doubtNote(found.slice(0, state.shown).flatMap(doubtsOf)));
  }

  const filter = h("input", { type: "search", placeholder: "Filter: words that must all occur, e.g. pgd temperature ece", "aria-label": "Filter the numbers",
    on: { input: () => { state.words = filter.value.toLowerCase().split(/\s+/).filter(Boolean); state.shown = PAGE; draw(); } } });
  draw();
  return [h("div", { class: "controls" }, filter, count), h("div", { class: "scroll tall" }, h("table", { class: "full" }, h("thead", {}, head), body)), below, more];
}

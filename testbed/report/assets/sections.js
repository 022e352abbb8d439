// The sections of the page, each from the rows of one data set (and protocol).

const QUALITY_STUB = [["model", "calibrator"], ["variant", "train_seed", "seed", "fit", "group"]];
const DETECTION_STUB = [["model", "detector"], ["variant", "train_seed", "seed", "calibrator", "fit"]];
const FIRST_METRICS = ["accuracy", "ece"];

const prefer = (options, ...wanted) => wanted.find((name) => options.includes(name)) ?? options[0];
const metricsOf = (rows) => distinct(rows.map((row) => row.metric)).filter((metric) => metric !== "audit");

function overview(rows) {
  const quality = rows.filter((row) => !detection(row) && row.metric !== "audit");
  if (!quality.length) return null;
  const metrics = metricsOf(quality);
  const partOf = (row) => (present(row.group) ? row.group : null);
  return section("overview", "Overview", "Model and calibrator down, condition across. The stronger the shade, the larger the value. Click a number for its digest and the command that does it again.", (state, redraw) => {
    const metric = state.metric ?? prefer(metrics, ...FIRST_METRICS);
    const parts = distinct(quality.filter((row) => row.metric === metric).map(partOf));
    const part = [state.part, null].find((name) => parts.includes(name)) ?? (parts.includes(null) ? null : parts[0]);
    const shown = quality.filter((row) => row.metric === metric && partOf(row) === part);
    const conventions = distinct(shown.map((row) => row.convention).filter(present));
    const convention = conventions.includes(state.convention) ? state.convention : conventions[0];
    const kept = conventions.length > 1 ? shown.filter((row) => row.convention === convention) : shown;
    const sizes = distinct(kept.map((row) => row.n).filter(present)).sort((a, b) => a - b);
    return [
      h("div", { class: "controls" }, choice("metric", metrics, metric, (value) => redraw({ metric: value })),
        parts.length > 1 ? choice("examples", parts.map((name) => [name, name ?? "all"]), part, (value) => redraw({ part: value })) : null,
        conventions.length > 1 ? choice("convention", conventions, convention, (value) => redraw({ convention: value })) : null,
        h("span", { class: "count" }, `n = ${sizes.length > 1 ? `${sizes[0]} to ${sizes.at(-1)}` : text(sizes[0])}${convention ? `, ${convention}` : ""}`)),
      heatTable(kept, stubOf(kept, ...QUALITY_STUB), (row) => row.label, conditionOrder(kept)),
    ];
  });
}

function curves(rows) {
  const quality = rows.filter((row) => !detection(row) && row.metric !== "audit" && !present(row.group) && (row.kind === "clean" || present(row.eps) || present(row.severity)));
  if (!families(quality).length) return null;
  const [models, calibrators, metrics] = ["model", "calibrator", "metric"].map((name) => distinct(quality.map((row) => row[name])));
  return section("curves", "Against severity and eps", "Bands are confidence intervals; 0 is clean data; a cross marks a failed cell.", (state, redraw) => {
    const model = state.model ?? null;
    const few = models.length * calibrators.length <= 6 ? null : prefer(calibrators, "none");
    const calibrator = state.calibrator === undefined ? few : state.calibrator;
    const shown = quality.filter((row) => (model === null || row.model === model) && (calibrator === null || row.calibrator === calibrator));
    const wanted = state.metric ? [state.metric] : FIRST_METRICS.filter((name) => metrics.includes(name));
    const colour = model !== null || models.length === 1 ? "calibrator" : "model";
    const style = lineStyle(shown, colour, colour === "model" ? "calibrator" : null);
    const cards = (wanted.length ? wanted : metrics.slice(0, 1)).map((metric) => curveCards(shown, metric, style));
    return [
      h("div", { class: "controls" },
        choice("metric", [[null, FIRST_METRICS.join(" and ")], ...metrics.map((name) => [name, name])], state.metric ?? null, (value) => redraw({ metric: value })),
        models.length > 1 ? choice("model", [[null, "all"], ...models.map((name) => [name, name])], model, (value) => redraw({ model: value })) : null,
        calibrators.length > 1 ? choice("calibrator", [[null, "all"], ...calibrators.map((name) => [name, name])], calibrator, (value) => redraw({ calibrator: value })) : null),
      legend(style),
      h("div", { class: "cards" }, cards[0].flatMap((_, i) => cards.map((list) => list[i]))),
      curveNote(shown, wanted.length ? wanted : metrics.slice(0, 1)),
    ];
  });
}

const CHANGES = unpack(DATA.regressions.rows);

// What each calibrator changed against the grid's `compare`: first what got worse although the average did not.
function regressions(dataset) {
  const found = CHANGES.filter((row) => row.dataset === dataset);
  if (!found.length) return null;
  const base = found[0].before_calibrator;
  const left = DATA.regressions.left_out;
  const sizes = DATA.regressions.families.map(({ whole, size, few }) => `${size} of ${whole ? "whole sets" : "parts"}, ${few} too few to tell`).join("; ");
  const words = `What recalibration changed against ${base}, on the same examples, by paired tests. Families over the whole run: ${sizes}; p is Holm's over the tests that can reject. Silent: a class or group that got worse although its whole set did not, or a condition that got worse although the mean over conditions did not.${left ? ` ${left} more rows are in regressions.parquet.` : ""}`;
  return section("regressions", "Silent regressions", words, (state, redraw) => {
    const show = state.show ?? "silent";
    const options = [["silent", "silent regressions"], ["worse", "all that got worse"], ["all", "whole sets"]];
    const keep = { silent: (row) => row.silent, worse: (row) => row.verdict === "worse", all: (row) => row.part === "all" }[show];
    const [calibrators, models] = [distinct(found.map((row) => row.calibrator)), distinct(found.map((row) => row.model))];
    const mine = found.filter((row) => keep(row) && (!present(state.calibrator) || row.calibrator === state.calibrator) && (!present(state.model) || row.model === state.model));
    const flips = (row) => (row.lost + row.gained + row.moved ? `${row.lost} lost, ${row.gained} gained, ${row.moved} moved` : "none");
    const cells = (row) => [row.model, row.label, row.calibrator, row.part, row.metric, row.n, spell(row.before), spell(row.after), `${row.change > 0 ? "+" : ""}${spell(row.change)} [${spell(row.low)}, ${spell(row.high)}]`,
      present(row.p_holm) ? (row.p_holm < 1e-15 ? "<1e-15" : row.p_holm.toPrecision(2)) : "–", `${row.verdict === "unclear" ? "no difference found" : row.verdict}${present(row.visible) ? `; shows ${row.visible.toPrecision(2)}` : ""}`, present(row.lost) ? flips(row) : ""];
    const heads = ["model", "condition", "calibrator", "part", "metric", "n", "before", "after", "change", "p", "verdict", "changed predictions"];
    return [
      h("div", { class: "controls" }, choice("show", options, show, (value) => redraw({ show: value })),
        models.length > 1 ? choice("model", [[null, "all"], ...models.map((name) => [name, name])], state.model ?? null, (value) => redraw({ model: value })) : null,
        calibrators.length > 1 ? choice("calibrator", [[null, "all"], ...calibrators.map((name) => [name, name])], state.calibrator ?? null, (value) => redraw({ calibrator: value })) : null,
        h("span", { class: "count" }, `${mine.length} rows`)),
      mine.length ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, mine.slice(0, 200).map((row) => h("tr", {}, cells(row).map((cell) => h("td", {}, String(cell)))))))) : h("p", { class: "note" }, "None."),
      mine.length > 200 ? h("p", { class: "note" }, `The first 200 of ${mine.length}, silent ones and small p-values first.`) : null,
    ].filter(Boolean);
  });
}

function reliabilityDiagrams(rows, dataset) {
  const entries = DATA.reliability.filter((entry) => entry.dataset === dataset);
  if (!entries.length) return null;
  const models = distinct(rows.map((row) => row.model)).filter((model) => entries.some((entry) => entry.model === model));
  return section("reliability", "Reliability", "Points are the accuracy of 15 equal-width bins at their mean confidence, with 95 % Wilson intervals; grey is the share of examples in a bin; on the dashed line confidence is right. A calibrator is judged by its own decisions.", (state, redraw) => {
    const model = state.model ?? models[0];
    const own = entries.filter((entry) => entry.model === model);
    const order = conditionOrder(rows).filter((name) => own.some((entry) => entry.condition === name));
    const conditions = order.concat(distinct(own.map((entry) => entry.condition)).filter((name) => !order.includes(name)));
    const condition = conditions.includes(state.condition) ? state.condition : conditions[0];
    const calibrators = distinct(rows.map((row) => row.calibrator));
    const place = (entry) => calibrators.indexOf(entry.calibrator);
    const eceOf = (entry) => rows.find((row) => row.metric === "ece" && !present(row.group) && row.model === model && row.label === condition && row.calibrator === entry.calibrator && row.train_seed === entry.train_seed);
    const mine = own.filter((entry) => entry.condition === condition).sort((a, b) => place(a) - place(b));
    return [
      h("div", { class: "controls" }, choice("model", models, model, (value) => redraw({ model: value })), choice("condition", conditions, condition, (value) => redraw({ condition: value }))),
      h("div", { class: "cards" }, mine.map((entry) => {
        const ece = eceOf(entry);
        const values = entry.bins.map((bin) => ({ ...bin, tip: `${bin.n} examples: confidence ${spell(bin.confidence)}, accuracy ${spell(bin.accuracy)} [${spell(bin.low)}, ${spell(bin.high)}]` }));
        return card(entry.calibrator, `${condition}, n = ${entry.n}${ece && !failed(ece) ? `, ECE ${marked(ece)} ${interval(ece)}` : ""}`, "reliability", values);
      })),
      doubtNote(mine.flatMap((entry) => doubtsOf(eceOf(entry) ?? {}))),
    ];
  });
}

function strip(rows) {
  const { rows: images, files, left_out: left } = DATA.images;
  const here = (image) => !present(image.dataset) || rows.some((row) => row.dataset === image.dataset);
  const own = images.filter((image) => image.clean !== image.perturbed && here(image));
  if (!own.length) return null;
  const models = distinct(own.map((image) => image.model));
  const picture = (name, words) => h("img", { src: files[name], alt: words, loading: "lazy" });
  return section("images", "Clean and perturbed", left ? `${left} more image pairs lie in the run folder.` : null, (state, redraw) => {
    const model = state.model ?? models[0];
    const mine = own.filter((image) => image.model === model);
    return [
      h("div", { class: "controls" }, choice("model", models, model, (value) => redraw({ model: value }))),
      h("div", { class: "strips" }, [...groups(mine, (image) => image.condition)].map(([condition, list]) => h("div", { class: "strip" }, h("h3", {}, condition),
        h("div", { class: "pairs" }, list.map((image) => {
          const right = text(image.prediction) === text(image.label);
          const before = present(image.clean_prediction) ? `, clean: ${text(image.clean_prediction)} ${spell(image.clean_confidence)}` : "";
          return h("figure", { class: right ? "pair" : "pair fooled", title: `example ${image.id}, label ${image.label}, prediction ${image.prediction}${before}` },
            h("div", {}, picture(image.clean, `clean ${image.label}`), picture(image.perturbed, `perturbed ${image.label}`)),
            h("figcaption", {}, h("span", {}, `${image.label} → ${image.prediction}`), h("span", { class: "between" }, `${(100 * image.confidence).toFixed(0)} %`)));
        }))))),
    ];
  });
}

// A mean over OOD sets stands beside them: its convention without the words about the mean.
const ofOneSet = (row) => row.convention?.replace(/^unweighted mean over \d+ OOD sets; /, "").replace(/; interval: mean of the sets' ends, an upper bound$/, "");

function detectionMap(rows) {
  const found = rows.filter(detection);
  if (!found.length) return null;
  const metrics = metricsOf(found);
  const [conditions, calibrators] = [conditionOrder(found), distinct(found.map((row) => row.calibrator))];
  const sets = distinct(found.map((row) => row.over));
  return section("detection", "Out-of-distribution detection", "Detector down, OOD set across, with intervals. Scores are larger for more out-of-distribution; OOD is the positive class unless the convention says otherwise.", (state, redraw) => {
    const metric = state.metric ?? prefer(metrics, "auroc");
    const condition = state.condition ?? conditions[0];
    const calibrator = state.calibrator === undefined ? prefer(calibrators, "none") : state.calibrator;
    const shown = found.filter((row) => row.metric === metric && row.label === condition && (calibrator === null || row.calibrator === calibrator));
    const conventions = distinct(shown.map(ofOneSet).filter(present));
    const convention = conventions.includes(state.convention) ? state.convention : conventions[0];
    const kept = conventions.length > 1 ? shown.filter((row) => ofOneSet(row) === convention) : shown;
    return [
      h("div", { class: "controls" }, choice("metric", metrics, metric, (value) => redraw({ metric: value })),
        conventions.length > 1 ? choice("convention", conventions, convention, (value) => redraw({ convention: value })) : h("span", { class: "count" }, text(convention)),
        choice("in-distribution set", conditions, condition, (value) => redraw({ condition: value })),
        calibrators.length > 1 ? choice("calibrator", [[null, "all"], ...calibrators.map((name) => [name, name])], calibrator, (value) => redraw({ calibrator: value })) : null),
      heatTable(kept, stubOf(kept, ...DETECTION_STUB), (row) => row.over, sets),
    ];
  });
}

function detectionCurves(rows) {
  const found = rows.filter((row) => detection(row) && row.metric === "auroc");
  if (!families(found).length) return null;
  const [sets, models, calibrators] = ["over", "model", "calibrator"].map((name) => distinct(found.map((row) => row[name])));
  return section("detection-curves", "Detection under shift and attack", "AUROC against the severity and eps of what was done to the in-distribution set, with intervals.", (state, redraw) => {
    const over = state.over ?? sets[0];
    const model = state.model ?? models[0];
    const shown = found.filter((row) => row.over === over && row.model === model && row.calibrator === calibrators[0]);
    const style = lineStyle(shown, "detector", null);
    return [
      h("div", { class: "controls" }, choice("model", models, model, (value) => redraw({ model: value })), choice("OOD set", sets, over, (value) => redraw({ over: value }))),
      legend(style),
      h("div", { class: "cards" }, curveCards(shown, "auroc", style)),
      curveNote(shown, ["auroc"]),
    ];
  });
}

function scoreCharts(dataset) {
  const charts = DATA.scores.charts.filter((chart) => chart.dataset === dataset);
  if (!charts.length) return null;
  const left = DATA.scores.left_out;
  return section("scores", "Scores and ROC", left ? `The first ${DATA.scores.charts.length} pairs of sets; ${left} more are in samples.parquet.` : null, (state, redraw) => {
    const over = (chart) => (chart.ood_condition === "clean" ? chart.ood_set : `${chart.ood_set} · ${chart.ood_condition}`);
    let kept = charts;
    const pick = (name, key, words) => {
      const options = distinct(kept.map(key));
      const value = options.includes(state[name]) ? state[name] : options[0];
      kept = kept.filter((chart) => key(chart) === value);
      return choice(words, options, value, (chosen) => redraw({ [name]: chosen }));
    };
    const controls = [pick("model", (chart) => chart.model, "model"), pick("over", over, "OOD set"), pick("condition", (chart) => chart.condition, "in-distribution set")];
    const cards = kept.flatMap((chart) => {
      const bars = ["id", "ood"].flatMap((set) => chart[set].map((share, i) => ({
        from: chart.edges[i], to: chart.edges[i + 1], share, set: set === "id" ? chart.dataset : over(chart),
        tip: `${set === "id" ? chart.dataset : over(chart)}: ${(100 * share).toFixed(1)} % in [${spell(chart.edges[i])}, ${spell(chart.edges[i + 1])}]`,
      })));
      const line = chart.fpr.map((fpr, order) => ({ fpr, tpr: chart.tpr[order], order }));
      const points = chart.operating.map((point) => ({ ...point, tip: `${point.name}: ${(100 * point.tpr).toFixed(1)} % of OOD and ${(100 * point.fpr).toFixed(1)} % of ID flagged` }));
      const odd = chart.not_finite ? `, ${chart.not_finite} scores not finite` : "";
      return [card(chart.detector, `scores${odd}`, "histogram", bars), card(chart.detector, "ROC, OOD positive", "roc", [...line, ...points])];
    });
    return [h("div", { class: "controls" }, controls), h("div", { class: "cards" }, cards)];
  });
}

// Shares of a set that are wrong before, first fooled by each part of a cascade or each attack, and standing.
function whatFooled(dataset) {
  const sets = DATA.fooled.filter((one) => one.dataset === dataset);
  if (!sets.length) return null;
  const sum = (name) => sets.reduce((total, one) => total + (one.parts[name] || 0), 0);
  const parts = distinct(sets.flatMap((one) => Object.keys(one.parts))).sort((a, b) => sum(b) - sum(a));
  const stub = ["train_seed", "seed"].filter((name) => distinct(sets.map((one) => one[name])).length > 1);
  const share = (count, n, mark = "") => h("td", { class: count ? "number" : "absent", title: `${count} of ${n}` }, count ? `${(100 * count / n).toFixed(1)} %${mark}` : "");
  const head = h("tr", {}, ["model", ...stub, "condition"].map((name) => h("th", { scope: "col" }, name)), ["wrong before", ...parts, "standing"].map((name) => h("th", { scope: "col", class: "over" }, name)));
  const lines = sets.map((one) => h("tr", {}, ["model", ...stub, "condition"].map((name) => h("th", { scope: "row" }, text(one[name]))),
    share(one.before, one.n), parts.map((name) => share(one.parts[name] || 0, one.n)), share(one.standing, one.n, one.doubts.length ? ` ${DATA.doubt.mark}` : "")));
  return section("fooled", "What fooled", "The part of a cascade, or the attack, that first fooled an example, in shares of the set; what stands is the robust accuracy.", () => [
    h("div", { class: "scroll" }, h("table", { class: "heat" }, h("thead", {}, head), h("tbody", {}, lines))),
    doubtNote(sets.flatMap((one) => (one.standing ? one.doubts : [])))].filter(Boolean));
}

function audits(rows) {
  const found = rows.filter((row) => row.metric === "audit");
  if (!found.length) return null;
  return section("audits", "Audits of attacks", "What speaks against a robust number, each check with the value at which it passes. Where one fails, the numbers under that attack may be too good.", () => [
    heatTable(found, stubOf(found, ["model", "convention"], ["variant", "train_seed", "seed"]), (row) => row.label, conditionOrder(found))]);
}

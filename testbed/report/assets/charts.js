// Charts: a card for each, drawn when it comes into view and again when the theme changes.

const DARK = window.matchMedia("(prefers-color-scheme: dark)");
function theme() {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [ink, muted, line, accent] = ["--ink", "--muted", "--line", "--accent"].map(colour);
  const lines = Array.from({ length: 10 }, (_, i) => colour(`--line${i}`));
  return {
    params: { ink, muted, accent },
    config: {
      background: null, font: "system-ui, sans-serif", view: { stroke: null }, range: { category: lines },
      axis: { labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11 },
      legend: { labelColor: ink, titleColor: muted, labelFontSize: 11, labelLimit: 220, symbolStrokeColor: muted },
    },
  };
}

const drawn = new Map();

async function drawCard(holder) {
  const { name, values, adjust } = drawn.get(holder);
  const { params, config } = theme();
  const spec = structuredClone(DATA.specs[name]);
  spec.data.values = values;
  if (spec.params) for (const param of spec.params) param.value = params[param.name];
  if (adjust) adjust(spec);
  try {
    await vegaEmbed(holder, spec, { renderer: "svg", config, actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false } });
  } catch (error) {
    holder.textContent = `This chart could not be drawn: ${error.message}`;
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) { seen.unobserve(target); drawCard(target); }
  }
}, { rootMargin: "400px" });

DARK.addEventListener("change", () => { for (const holder of drawn.keys()) if (holder.isConnected) drawCard(holder); });

// A chart with its title; `adjust` edits its own copy of the specification.
function card(title, subtitle, name, values, adjust) {
  const holder = h("div", { class: "chart" });
  drawn.set(holder, { name, values, adjust });
  seen.observe(holder);
  return h("figure", { class: "card" }, h("figcaption", {}, h("strong", {}, title), subtitle ? h("span", {}, subtitle) : null), holder);
}

// Curves over what grows: for each family of conditions its points by eps or severity, clean standing at 0.
function families(rows) {
  const clean = rows.filter((row) => row.kind === "clean");
  const found = groups(rows.filter((row) => present(row.eps) || present(row.severity)), (row) => row.family);
  return [...found.values()].map((points) => {
    const values = (name) => distinct(points.map((row) => row[name]).filter(present)).length;
    const by = values("eps") > 1 || !values("severity") ? "eps" : "severity";
    const first = points[0];
    const victim = present(first.victim) && first.victim !== "model" ? ` on ${first.victim}` : "";
    return { name: `${first.condition}${victim}`, by: by === "eps" ? `eps (${first.norm || "?"})` : "severity", length: values(by),
      points: [...clean.map((row) => ({ row, x: 0 })), ...points.map((row) => ({ row, x: row[by] }))] };
  }).filter((family) => family.length > 1);
}

const DASHES = [[1, 0], [6, 4], [2, 3], [8, 3, 2, 3], [12, 4], [4, 8]];

// Which column is told apart by colour and which by dashes: models first; calibrators where there is one model.
function lineStyle(rows, colour, dash) {
  const values = (name) => (name ? distinct(rows.map((row) => text(row[name]))) : []);
  return { colour, dash, colours: values(colour), dashes: values(dash) };
}

function legend({ colours, dashes }) {
  const svg = (tag, properties) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
    return element;
  };
  const key = (name, colour, pattern) => {
    const line = svg("svg", { width: 28, height: 8, "aria-hidden": "true" });
    line.append(svg("line", { x1: 0, x2: 28, y1: 4, y2: 4, "stroke-width": 2.5, class: colour, "stroke-dasharray": pattern.join(" ") }));
    return h("span", { class: "key" }, line, name);
  };
  return h("div", { class: "legend" }, colours.map((name, i) => key(name, `line${i % 10}`, [1, 0])),
    dashes.length > 1 ? dashes.map((name, i) => key(name, "neutral", DASHES[i % DASHES.length])) : []);
}

// What stands below the curves of these metrics: only what speaks against a point that is drawn.
const curveNote = (rows, metrics) => doubtNote(families(rows.filter((row) => metrics.includes(row.metric))).flatMap(({ points }) => points.flatMap(({ row }) => (failed(row) ? [] : doubtsOf(row)))));

// One card a family of conditions, with the colours and dashes of `style`.
function curveCards(rows, metric, style) {
  return families(rows.filter((row) => row.metric === metric)).map(({ name, by, points }) => {
    const values = points.filter(({ row }) => !pending(row)).map(({ row, x }) => ({
      x, value: failed(row) ? null : row.value, low: row.ci_low, high: row.ci_high, failed: failed(row) && !pending(row),
      colour: text(row[style.colour]), dash: style.dash ? text(row[style.dash]) : "", mark: doubted(row) ? DATA.doubt.mark : "", tip: tip(row),
    }));
    return card(metric, `${name}, against ${by}`, "curve", values, (spec) => {
      for (const layer of spec.layer) {
        layer.encoding.x.title = by;
        layer.encoding.color.scale = { domain: style.colours };
        if (layer.encoding.strokeDash) layer.encoding.strokeDash.scale = { domain: style.dashes, range: style.dashes.map((_, i) => DASHES[i % DASHES.length]) };
      }
      if (style.dashes.length < 2) delete spec.layer[1].encoding.strokeDash;
      const [band, line, point, cross, mark] = spec.layer;
      spec.layer = [values.some((value) => present(value.low)) && band, line, point, values.some((value) => value.failed) && cross, values.some((value) => value.mark) && mark].filter(Boolean);
    });
  });
}

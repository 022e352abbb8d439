// Puts the page together, for one data set and protocol at a time, and looks for a newer page while a run goes on.

function failures() {
  const found = groups(ROWS.filter((row) => row.status !== "ok" && !pending(row)), (row) => [row.model, row.label, row.over, row.status, row.error].map(text).join("\u0000"));
  if (!found.size) return null;
  const items = [...found.values()].map((list) => h("li", {}, h("strong", {}, [list[0].model, list[0].label, list[0].over].filter(present).join(" · ")),
    ` ${list[0].status}, ${list.length} number${list.length === 1 ? "" : "s"}: `, h("span", {}, text(list[0].error))));
  return h("details", { class: "failures", open: items.length <= 5 }, h("summary", {}, `${items.length} cell${items.length === 1 ? "" : "s"} without a value`), h("ul", {}, items));
}

function progressBar() {
  const { total, finished, failed: bad, skipped, missing, cached, running, ended } = DATA.progress;
  if (!DATA.live || !total) return null;
  return h("div", { class: "progress" }, h("progress", { max: total, value: finished }),
    h("span", {}, ended && !missing ? "finished" : `${finished} of ${total} jobs${cached ? `, ${cached} were there already` : ""}${bad ? `, ${bad} failed` : ""}${skipped ? `, ${skipped} skipped` : ""}${missing ? `, ${missing} not run` : ""}`),
    running.length ? h("span", { class: "between" }, `now: ${running.join(", ")}`) : null);
}

function provenance() {
  const { packages, ...rest } = DATA.provenance;
  const line = (name, value) => [h("dt", {}, name), h("dd", {}, value !== null && typeof value === "object" ? JSON.stringify(value) : text(value))];
  const sizes = Object.entries(DATA.jobs).map(([status, count]) => `${count} ${status}`).join(", ");
  return h("section", { id: "provenance" }, h("h2", {}, "Provenance"),
    h("dl", {}, Object.entries(rest).filter(([, value]) => present(value)).flatMap(([name, value]) => line(name, value)), sizes ? line("jobs", sizes) : []),
    packages ? h("details", {}, h("summary", {}, `${Object.keys(packages).length} packages`), h("p", { class: "packages" }, Object.entries(packages).map(([name, version]) => `${name}==${version}`).join("  "))) : null);
}

function header(views, view, change) {
  const unit = (name) => distinct(ROWS.map((row) => row[name]).filter(present)).length;
  const counts = [["model", "models"], ["label", "conditions"], ["calibrator", "calibrators"], ["detector", "detectors"], ["over", "OOD sets"]];
  const { testbed, code, python, cpu } = DATA.provenance;
  const where = [testbed && `testbed ${testbed}`, code && `code ${code}`, python && `Python ${python}`, cpu && cpu.model, DATA.provenance.packages?.torch && `torch ${DATA.provenance.packages.torch}`];
  document.getElementById("top").replaceChildren(...[
    h("h1", {}, DATA.name),
    h("p", { class: "counts" }, counts.filter(([name]) => unit(name)).map(([name, words]) => h("span", {}, h("b", {}, String(unit(name))), ` ${unit(name) === 1 ? words.replace(/s$/, "") : words}`)), h("span", {}, h("b", {}, String(ROWS.length)), " numbers")),
    h("p", { class: "note" }, where.filter(present).join(" · ")), eachAlone(),
    progressBar(), ...DATA.notes.map((note) => h("p", { class: "note" }, note)), failures(),
    views.length > 1 ? h("div", { class: "controls" }, choice("data set", views.map((name) => [name, name.replace("\u0000", " · ").replace(/ · $/, "")]), view, change)) : null,
  ].filter(Boolean));
}

// What to know of many intervals at once.
function eachAlone() {
  const count = ROWS.filter((row) => !failed(row) && present(row.ci_low)).length;
  if (count < 20) return null;
  return h("p", { class: "note" }, `Each 95 % interval alone is right in 95 of 100: of these ${count.toLocaleString("en")} some ${Math.round(count / 20).toLocaleString("en")} ${Math.round(count / 20) === 1 ? "is" : "are"} not. Whether two numbers differ is for paired tests to say (compare), never for intervals that overlap or do not.`);
}

function main() {
  const key = (row) => `${row.dataset}\u0000${row.protocol || ""}`;
  const views = distinct(ROWS.map(key));
  const show = (view) => {
    const rows = ROWS.filter((row) => key(row) === view);
    const dataset = view === undefined ? "" : view.split("\u0000")[0];
    header(views, view, show);
    const parts = [overview(rows), curves(rows), modelSelection(dataset), regressions(dataset), reliabilityDiagrams(rows, dataset), strip(rows), detectionMap(rows), detectionCurves(rows), scoreCharts(dataset), whatFooled(dataset), audits(rows)].filter(Boolean);
    const all = rows.length ? section("numbers", "All numbers", null, () => fullTable(rows)) : h("p", { class: "note" }, "No result yet.");
    const nav = h("nav", {}, [...parts, all].filter((part) => part.id).map((part) => h("a", { href: `#${part.id}` }, part.querySelector("h2").textContent)));
    document.getElementById("main").replaceChildren(nav, ...parts, all, provenance());
  };
  show(views[0]);
}

// The server answers with the mark of its newest page; another than ours means there is something new to show.
function follow() {
  let mark = null;
  const ask = async () => {
    try {
      const now = await (await fetch("mark", { cache: "no-store" })).text();
      if (mark !== null && now !== mark) { location.reload(); return; }
      mark = now;
    } catch { return; }
    setTimeout(ask, 2000);
  };
  ask();
}

main();
if (DATA.live) follow();

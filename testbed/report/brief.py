"""A run on one screen: a line a condition and model, what the run ends with on a terminal.

accuracy  of the uncalibrated model, with its interval
ece       one column a calibrator, in the convention of the run's first ECE
auroc     one column a detector, uncalibrated: the unweighted mean over the clean out-of-distribution sets

What has none of the three, such as the area under a security curve or a mean over all shifts, has a line below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from testbed.condition import label as condition_label
from testbed.report.doubt import doubts, marked, notes
from testbed.report.load import Run
from testbed.report.model_notes import model_notes
from testbed.report.table import OVER_SEEDS, number

Row = Mapping[str, Any]

#: Columns of detectors on one screen; the rest is in the report.
MOST_DETECTORS = 6

#: Lines of other metrics on one screen.
MOST_LINES = 16

#: The metrics of the table's columns.
SHOWN = ("accuracy", "ece", "auroc")


def show_brief(run: Run, console: Console) -> None:
    """Print the summary of a run and say where all of its numbers are."""
    rows = run.rows
    said: list[tuple[str, ...]] = []
    for dataset, seed in dict.fromkeys((r["dataset"], r["seed"]) for r in rows):
        part = [r for r in rows if (r["dataset"], r["seed"]) == (dataset, seed)]
        console.print(table(part, f"{dataset}, seed {seed}" if seed else str(dataset), said))
        if others := rest(part):
            console.print(rest_table(others, said))
    for note in notes(said):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for note in (*(run.plan.get("notes") or ()), *model_notes(rows)):
        console.print(f"note: {note}", markup=False, highlight=False, style="yellow", soft_wrap=True)
    counts = Counter(r["status"] for r in rows if r["status"] != "ok")
    console.print(
        f"{len(rows):,} numbers with intervals in {run.folder}/results.parquet", highlight=False, soft_wrap=True
    )
    if missing := counts.pop("missing", 0):
        console.print(f"{missing:,} of them are missing: nothing has run them yet", highlight=False)
    if counts:
        words = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        console.print(f"without a value: {words}; the column `error` says why", style="red", highlight=False)


def table(rows: Sequence[Row], title: str = "", said: list[tuple[str, ...]] | None = None) -> Table:
    """One line a condition and model of these rows; `said` collects the doubts of the numbers that are shown."""
    rows = [r for r in rows if not r["metric"].endswith(OVER_SEEDS)]
    calibrators = distinct(rows, "calibrator", metric="ece")
    every = distinct(rows, "detector", metric="auroc")
    detectors, left = every[:MOST_DETECTORS], len(every) - MOST_DETECTORS
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    if left > 0:
        shown.caption = f"auroc of the first {MOST_DETECTORS} detectors; {left} more are in the report"
    shown.add_column("condition", no_wrap=True)
    shown.add_column("model", no_wrap=True)
    shown.add_column("accuracy", justify="right", no_wrap=True)
    for name in (*(f"ece\n{c}" for c in calibrators), *(f"auroc\n{d}" for d in detectors)):
        shown.add_column(name, justify="right")
    conditions = dict.fromkeys(condition_label(r) for r in rows if r["metric"] in SHOWN)
    models = dict.fromkeys((r["model"], r["train_seed"]) for r in rows)
    by_line: dict[tuple[Any, ...], list[Row]] = {}
    for r in rows:
        by_line.setdefault((condition_label(r), r["model"], r["train_seed"]), []).append(r)
    several = len({seed for _, seed in models}) > 1
    for condition in conditions:
        for model, seed in models:
            found = by_line.get((condition, model, seed), [])
            name = f"{model} #{seed}" if several and seed is not None else model
            eces = (interval(found, said, metric="ece", calibrator=c, brief=True) for c in calibrators)
            aurocs = (mean(found, d, said) for d in detectors)
            shown.add_row(condition, name, interval(found, said, metric="accuracy"), *eces, *aurocs)
    return shown


def rest(rows: Sequence[Row]) -> list[Row]:
    """The rows of conditions that the table has no column for, under the first calibrator each."""
    shown = {condition_label(r) for r in rows if r["metric"] in SHOWN}
    found: dict[tuple[Any, ...], Row] = {}
    for r in rows:
        if condition_label(r) not in shown and r["metric"] != "audit" and r["group"] is None:
            found.setdefault((condition_label(r), r["model"], r["train_seed"], r["metric"], r["convention"]), r)
    return list(found.values())[:MOST_LINES]


def rest_table(rows: Sequence[Row], said: list[tuple[str, ...]] | None = None) -> Table:
    """One line a metric of these rows."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("condition", "model", "metric", "value"):
        shown.add_column(name, no_wrap=True)
    for r in rows:
        shown.add_row(condition_label(r), r["model"], r["metric"], interval([r], said))
    return shown


def distinct(rows: Iterable[Row], column: str, metric: str) -> list[str]:
    """The values of a column among the rows of a metric, in order."""
    return list(dict.fromkeys(r[column] for r in rows if r["metric"] == metric and r[column] is not None))


def interval(rows: Sequence[Row], said: list[tuple[str, ...]] | None = None, brief: bool = False, **where: Any) -> str:
    """The first number of these rows that fits, with its interval; its status where there is none.

    said  collects what speaks against the number

    >>> row = {"metric": "ece", "calibrator": "none", "status": "ok", "value": 0.1, "ci_low": 0.0, "ci_high": 0.2}
    >>> interval([row], metric="ece")
    '0.100 [0.000, 0.200]'
    >>> interval([{**row, "ci_high": None}])  # a median that too few examples reach has no upper end
    '0.100 [0.000, -]'
    """
    first = next((r for r in rows if all(r[k] == v for k, v in where.items())), None)
    if first is None:
        return "-"
    if first["value"] is None:
        return number(first).status
    low, high = ("-" if first[end] is None else f"{first[end]:.3f}" for end in ("ci_low", "ci_high"))
    ends = "" if brief or low == high == "-" else f" [{low}, {high}]"
    return noted(f"{first['value']:.3f}{ends}", [first], said)


def mean(rows: Sequence[Row], detector: str, said: list[tuple[str, ...]] | None = None) -> str:
    """Mean AUROC of a detector over the clean out-of-distribution sets, under no calibrator where there is a choice."""
    mine = [r for r in rows if r["metric"] == "auroc" and r["detector"] == detector and r["ood_condition"] == "clean"]
    mine = [r for r in mine if not r["ood_set"].startswith("mean(")]
    first = mine[0]["calibrator"] if mine else None
    mine = [r for r in mine if r["calibrator"] == first]
    values = [r["value"] for r in mine]
    if not values:
        return "-"
    if None in values:
        return next(number(r).status for r in mine if r["value"] is None)
    return noted(f"{sum(values) / len(values):.3f}", mine, said)


def noted(text: str, rows: Sequence[Row], said: list[tuple[str, ...]] | None) -> str:
    """The text of a number that is made of these rows, marked; what speaks against it goes to `said`."""
    against = tuple(words for row in rows for words in doubts(row))
    if said is not None:
        said.append(against)
    return marked(text, against)

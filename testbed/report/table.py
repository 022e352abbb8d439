"""The rows of a run as tables: model x calibrator down, condition and metric across; and detection likewise.

Pure: rows of results.parquet in, `Table` out; terminal, Markdown and LaTeX writers only lay it out. A table never joins
two protocols or two data sets. A column of labels that holds one value everywhere is left out. A failed cell stays a
cell with its reason. Nothing is bold: whether a difference means something is for `testbed compare` to test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from testbed.condition import label as condition_label
from testbed.report.doubt import doubts, marked
from testbed.report.doubt import notes as doubt_notes

Row = Mapping[str, Any]

#: Label columns of the two tables; the first ones always stand, the others where their values differ.
QUALITY = (("model", "calibrator"), ("variant", "train_seed", "seed", "fit", "group"))
DETECTION = (("model", "condition", "detector"), ("variant", "train_seed", "seed", "calibrator"))

#: The kinds of table, in order, as their titles say them: whole sets, detection, classes and groups apart, and the
#: first two as mean and spread over training seeds.
KINDS = (
    "", "OOD detection", "by class and group", "over training seeds", "OOD detection over training seeds",
)  # fmt: skip

#: Stands after a number whose interval fills half of the metric's range or more: n is too small to say where it is.
SMALL = "‡"

#: Length of the range of each metric that has one.
SPANS: Mapping[str, float] = {
    **dict.fromkeys(
        ("accuracy", "subset_accuracy", "worst_group_accuracy", "conformal_coverage", "coverage_at_risk", "gde",
         "ece", "adaptive_ece", "top_label_ece", "debiased_ece", "smooth_ece", "mce", "ks_error", "kuiper_error",
         "auroc", "fpr95", "fpr95_id", "aupr_out", "aupr_in", "detection_error", "oscr", "aurc", "aurc_ood",
         "flip_probability"), 1.0),
    "augrc": 0.5, "augrc_ood": 0.5, "brier": 2.0,
}  # fmt: skip

#: Status of a cell whose job went well and had no number to give, such as a median that more than half never reached.
UNDEFINED = "undefined"

#: Metrics that are not columns: an audit is a judgement of the others.
NOT_SHOWN = frozenset({"audit"})

_OVER_SETS = re.compile(
    r"unweighted mean over \d+ OOD sets; |ID pooled over \d+ sets, examples as clusters; "
    r"|; interval: mean of the sets' ends, an upper bound"
)

#: How the metrics end that are a mean or a standard deviation over training seeds.
OVER_SEEDS = (":seed_mean", ":seed_std")


def has_samples(row: Row) -> bool:
    """Whether a row is of one set of examples, or of one against one OOD set, which has samples of its own.

    Means over OOD sets, sets pooled, aggregates over conditions and figures over training seeds have none.

    >>> row = {"kind": "clean", "metric": "auroc", "ood_set": "mean(far)"}
    >>> has_samples(row), has_samples({**row, "ood_set": "gaussian"})
    (False, True)
    """
    over_sets = str(row.get("ood_set") or "").startswith("mean(") or row.get("kind") in ("full_spectrum", "aggregate")
    return not over_sets and not row["metric"].endswith(OVER_SEEDS)


@dataclass(frozen=True)
class Number:
    """One cell: a value with its interval, or why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    status: str = "ok"
    error: str = ""
    n: int | None = None
    digest: str = ""
    convention: str = ""
    flags: str = ""
    small: bool = False

    @property
    def failed(self) -> bool:
        """Whether this cell has no value and should; one not made yet, or undefined, has not failed."""
        return self.value is None and self.status not in ("missing", UNDEFINED)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against this number."""
        return doubts(vars(self))


@dataclass(frozen=True)
class Table:
    """`cells[row, column]` with label columns `stub`; a column is (condition or OOD set, metric)."""

    title: str
    stub: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[tuple[str, str], ...]
    cells: Mapping[tuple[tuple[str, ...], tuple[str, str]], Number]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics across, in order."""
        return tuple(dict.fromkeys(metric for _, metric in self.columns))

    def only(self, metric: str) -> Table:
        """The columns of one metric."""
        cells = {(row, column): cell for (row, column), cell in self.cells.items() if column[1] == metric}
        columns = tuple(column for column in self.columns if column[1] == metric)
        return replace(self, title=f"{self.title}: {metric}", columns=columns, cells=cells)

    def long(self) -> Table:
        """The same cells with conditions (or OOD sets) down as well, and only metrics across."""
        at = len(self.stub) if "condition" in self.stub else 1
        name = "OOD set" if "condition" in self.stub else "condition"
        cells = {((*r[:at], over, *r[at:]), ("", metric)): cell for (r, (over, metric)), cell in self.cells.items()}
        overs = list(dict.fromkeys(over for over, _ in self.columns))
        place = {row: i for i, row in enumerate(self.rows)}
        firsts = list(dict.fromkeys(row[:at] for row in self.rows))
        order = sorted(
            {row for row, _ in cells},
            key=lambda r: (firsts.index(r[:at]), overs.index(r[at]), place[(*r[:at], *r[at + 1 :])]),
        )
        stub = (*self.stub[:at], name, *self.stub[at:])
        return replace(self, stub=stub, rows=tuple(order), columns=tuple(("", m) for m in self.metrics), cells=cells)

    def get(self, row: tuple[str, ...], column: tuple[str, str]) -> Number | None:
        """The cell, None where the grid has none."""
        return self.cells.get((row, column))

    def failures(self) -> tuple[str, ...]:
        """One line for each reason why cells of this table have no value."""
        seen: dict[tuple[str, str, str], list[str]] = {}
        for (row, (over, metric)), cell in self.cells.items():
            if cell.failed:
                seen.setdefault((row[0], over, f"{cell.status}: {cell.error}".rstrip(": ")), []).append(metric)
        return tuple(f"{first}, {over}: {why}" for first, over, why in seen)

    def notes(self) -> tuple[str, ...]:
        """n, and the convention of each metric."""
        sizes = sorted({cell.n for cell in self.cells.values() if cell.n is not None})
        named = {metric: cell.convention for (_, (_, metric)), cell in self.cells.items() if cell.convention}
        spelled = [f"{metric}: {named[metric]}" for metric in self.metrics if metric in named]
        spelled += doubt_notes(cell.doubts for cell in self.cells.values())
        if any(cell.small and not cell.failed for cell in self.cells.values()):
            spelled.append(f"{SMALL} n too small: the interval fills half of the metric's range or more")
        size = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}" if sizes else "n unknown"
        many = sum(cell.value is not None and cell.low is not None for cell in self.cells.values())
        return (f"{size}; [low, high] is the confidence interval{each_alone(many)}", *spelled)


def each_alone(intervals: int) -> str:
    """What to know of so many 95 % intervals at once; nothing of few.

    >>> each_alone(5), each_alone(5000)
    ('', ': each alone is right in 95 of 100, of 5,000 some 250 are not; `testbed compare` tests differences')
    """
    if intervals < 20:
        return ""
    wrong = f"of {intervals:,} some {round(intervals / 20):,} {'is' if round(intervals / 20) == 1 else 'are'} not"
    return f": each alone is right in 95 of 100, {wrong}; `testbed compare` tests differences"


def too_small(row: Row) -> bool:
    """Whether the interval of a row of results.parquet fills half of its metric's range.

    >>> wide = {"ci_low": 0.4, "ci_high": 0.95}
    >>> too_small({"metric": "accuracy", **wide}), too_small({"metric": "nll", **wide})
    (True, False)
    """
    low, high = row.get("ci_low"), row.get("ci_high")
    span = SPANS.get(str(row.get("metric")).partition(":")[0])
    return span is not None and low is not None and high is not None and high - low >= span / 2 - 1e-9


def tables(rows: Iterable[Row]) -> list[Table]:
    """All tables of a run: for each protocol and data set, quality first, then detection, then parts and seeds."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in (row for row in rows if row["metric"] not in NOT_SHOWN):
        found.setdefault((row.get("protocol") or "", row["dataset"], _kind(row)), []).append(row)
    ordered = sorted(found.items(), key=lambda item: KINDS.index(item[0][2]))
    return [pivot(part, *key) for key, part in ordered]


def _kind(row: Row) -> str:
    """Which table a row stands in: see `KINDS`."""
    if row["metric"].endswith(OVER_SEEDS):
        return KINDS[4] if row.get("ood_set") is not None else KINDS[3]
    return KINDS[1] if row.get("ood_set") is not None else KINDS[2] if row.get("group") else KINDS[0]


def pivot(rows: Sequence[Row], protocol: str, dataset: str, kind: str) -> Table:
    """One table of rows that share protocol, data set and kind."""
    detection = kind in (KINDS[1], KINDS[4])
    stub = _stub(rows, *(DETECTION if detection else QUALITY))
    several, parameters = _several_conventions(rows), _several_parameters(rows)
    cells: dict[tuple[tuple[str, ...], tuple[str, str]], Number] = {}
    order = _condition_order(rows)
    for row in sorted(rows, key=lambda r: order[condition_label(r)]):
        metric = metric_label(row, several, parameters)
        over = ood_label(row) if detection else condition_label(row)
        key = tuple(condition_label(row) if name == "condition" else _text(row.get(name)) for name in stub)
        cells[key, (over, metric)] = number(row)
    heads = tuple(dict.fromkeys(column for _, column in cells))
    firsts = list(dict.fromkeys(over for over, _ in heads))
    metrics = list(dict.fromkeys(metric for _, metric in heads))
    columns = tuple(sorted(heads, key=lambda c: (firsts.index(c[0]), metrics.index(c[1]))))
    labels = tuple(sorted(dict.fromkeys(row for row, _ in cells), key=_appearance(rows, stub)))
    title = " · ".join(part for part in (dataset, protocol, kind) if part)
    return Table(title, stub, labels, columns, cells)


def metric_label(row: Row, conventions: Set[str], parameters: Mapping[str, Set[str]]) -> str:
    """A metric in the head of a column, with its convention or parameters where the table has several."""
    name = str(row["metric"])
    if name in conventions and row.get("convention"):
        return f"{name} ({of_one_set(row)})"
    if name in parameters:
        given = json.loads(row.get("metric_params") or "{}")
        said = ", ".join(f"{key}={given[key]}" for key in sorted(parameters[name]) if key in given)
        return f"{name} ({said})" if said else name
    return name


def number(row: Row) -> Number:
    """The cell of one row of results.parquet; a job that went well may have no number to give."""
    status = row.get("status") or "ok"
    value = row.get("value") if status == "ok" else None
    return Number(
        value=value,
        low=row.get("ci_low"),
        high=row.get("ci_high"),
        status=UNDEFINED if status == "ok" and value is None else status,
        error=row.get("error") or "",
        n=row.get("n"),
        digest=row.get("digest") or "",
        convention=row.get("convention") or "",
        flags=row.get("flags") or "",
        small=value is not None and too_small(row),
    )


def of_one_set(row: Row) -> str:
    """A row's convention without the words that say which sets were averaged or pooled: those the row's labels say.

    >>> of_one_set({"convention": "unweighted mean over 2 OOD sets; ood positive; ties half; delong-gamma 95%"})
    'ood positive; ties half; delong-gamma 95%'
    """
    return _OVER_SETS.sub("", row["convention"] or "")


def ood_label(row: Row) -> str:
    """An OOD set in one cell: its name, and what was done to it unless it is clean.

    >>> ood_label({"ood_set": "gaussian", "ood_condition": "pgd linf 0.1"})
    'gaussian · pgd linf 0.1'
    """
    done = row.get("ood_condition")
    return str(row["ood_set"]) if done in (None, "", "clean") else f"{row['ood_set']} · {done}"


def spell(value: float) -> str:
    """A metric value in few characters; NaN as such.

    >>> [spell(v) for v in (0.91249, 12.345, 1234.6, float("nan"))]
    ['0.912', '12.35', '1235', 'nan']
    """
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def shown(cell: Number) -> str:
    """The value of a cell, marked where it is doubted or n is too small; the status where there is none."""
    if cell.value is None:
        return cell.status
    text = marked(spell(cell.value), cell.doubts)
    return f"{text}{'' if cell.doubts else ' '}{SMALL}" if cell.small else text


def interval(cell: Number) -> str:
    """`[low, high]`, empty where the cell has none."""
    return "" if cell.low is None or cell.high is None else f"[{spell(cell.low)}, {spell(cell.high)}]"


def _stub(rows: Sequence[Row], always: tuple[str, ...], sometimes: tuple[str, ...]) -> tuple[str, ...]:
    """The label columns: those that always stand, and those without which two rows would stand in one place."""
    stub = always
    for name in sometimes:
        places: dict[tuple[Any, ...], set[Any]] = {}
        for row in rows:
            here = (
                condition_label(row),
                row.get("ood_set"),
                row.get("ood_condition"),
                row["metric"],
                row.get("convention"),
            )
            places.setdefault((*here, *(row.get(label) for label in stub)), set()).add(row.get(name))
        if any(len(values) > 1 for values in places.values()):
            stub = (*stub, name)
    return stub


def _several_conventions(rows: Sequence[Row]) -> set[str]:
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.get("convention"):
            found.setdefault(row["metric"], set()).add(of_one_set(row))
    return {metric for metric, conventions in found.items() if len(conventions) > 1}


def _several_parameters(rows: Sequence[Row]) -> dict[str, set[str]]:
    """Metric -> the names of the parameters in which its rows differ."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        text = row.get("metric_params") or "{}"
        found.setdefault(row["metric"], {}).setdefault(text, json.loads(text))
    differ = {
        metric: {key for one in given.values() for key in one
                 if len({repr(other.get(key)) for other in given.values()}) > 1}
        for metric, given in found.items()
    }  # fmt: skip
    return {metric: names for metric, names in differ.items() if names}


def _condition_order(rows: Sequence[Row]) -> dict[str, tuple[Any, ...]]:
    """Conditions by first appearance of their name, then by severity and eps; clean first."""
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(row["condition"], -1 if row.get("kind") == "clean" else len(first))
    keys = ((first[r["condition"]], r.get("norm") or "", r.get("severity") or 0.0, r.get("eps") or 0.0) for r in rows)
    return dict(zip(map(condition_label, rows), keys, strict=True))


def _appearance(rows: Sequence[Row], stub: tuple[str, ...]) -> Any:
    """A sort key that keeps every label in the order in which it first appears (conditions in their own order)."""
    order = _condition_order(rows)
    ranks = []
    for name in stub:
        if name == "condition":
            ranks.append({label: rank for rank, label in enumerate(sorted(order, key=lambda k: order[k]))})
        else:
            values = dict.fromkeys(_text(row.get(name)) for row in rows)
            ranks.append({label: rank for rank, label in enumerate(values)})
    return lambda key: tuple(rank[label] for rank, label in zip(ranks, key, strict=True))


def _text(value: Any) -> str:
    return "–" if value is None or value == "" else str(value)

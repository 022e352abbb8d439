"""Ours against theirs, figure by figure."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from testbed.errors import DataError, EnvironmentProblem
from testbed.papers.book import Figure, Table
from testbed.papers.order import reversed_pairs

Verdict = Literal["within", "missed", "reported", "not attempted", "failed"]


@dataclass(frozen=True)
class Compared:
    """A published figure, ours with its interval in the paper's unit, and whether they agree."""

    figure: Figure
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    verdict: Verdict
    note: str = ""

    @property
    def published(self) -> float | None:
        """The printed number, where it was read at its source."""
        return self.figure.published if self.figure.verified else None

    @property
    def difference(self) -> float | None:
        """Ours less theirs."""
        return None if self.value is None or self.published is None else self.value - self.published


def compare(
    table: Table, runs: Mapping[str, Path | str], *, quick: bool = False, store: str | None = None
) -> list[Compared]:
    """Every figure of the table (in quick mode, those marked quick) beside what the runs or a function give.

    runs  name of a grid ("" is grid.yaml) -> the results.parquet of its run, or the reason why there is none
    """
    figures = [figure for figure in table.figures if figure.quick or not quick]
    figures = [figure if figure.judged_quick or not quick else replace(figure, tolerance=None) for figure in figures]
    return [_one(figure, runs, store) for figure in figures]


def passed(rows: list[Compared]) -> bool:
    """True where no judged row missed its tolerance and none failed."""
    return not any(row.verdict in ("missed", "failed") for row in rows)


def nothing(rows: list[Compared]) -> str:
    """Why no figure at all could be had; "" where some could. One that holds by definition is not had."""
    asked = [row for row in rows if not row.figure.source.startswith("by definition")]
    return asked[0].note if asked and all(row.verdict == "not attempted" for row in asked) else ""


def judge(figure: Figure, value: float, low: float, high: float, n: int) -> Compared:
    """Ours, as a fraction or a number, in the paper's unit and against its tolerance.

    >>> figure = Figure("ResNet-20", "error", 8.27, 1.0, "error", "rows: 1=1", "", True, False)
    >>> found = judge(figure, 0.912, 0.893, 0.929, 1017)
    >>> round(found.value, 2), round(found.low, 2), found.verdict
    (8.8, 7.1, 'within')
    """
    if figure.unit == "percent":
        value, low, high = 100 * value, 100 * low, 100 * high
    elif figure.unit == "error":
        value, low, high = 100 * (1 - value), 100 * (1 - high), 100 * (1 - low)
    if figure.published is None or not figure.verified or figure.tolerance is None:
        return Compared(figure, value, low, high, n, "reported")
    near = abs(value - figure.published) <= figure.tolerance + 1e-9
    return Compared(figure, value, low, high, n, "within" if near else "missed")


def _one(figure: Figure, runs: Mapping[str, Path | str], store: str | None) -> Compared:
    if figure.kind == "not attempted":
        return _absent(figure, figure.words)
    if figure.kind == "compute":
        try:
            return judge(figure, *_compute(figure.words))
        except EnvironmentProblem as problem:
            return _absent(figure, str(problem))
    results = runs.get(figure.run or "", "no run was given")
    if isinstance(results, str):
        return _absent(figure, results)
    if figure.kind == "order":
        wrong, pairs, n = reversed_pairs(figure.words, results.parent, store)
        note = f"{pairs} pairs" + "".join(f"; {low} above {high}" for low, high in wrong)
        return replace(judge(figure, len(wrong), len(wrong), len(wrong), n), note=note)
    if figure.kind == "stored":
        return _from_store(figure, results, store)
    return _from_rows(figure, figure.words, results)


def _absent(figure: Figure, reason: str) -> Compared:
    return Compared(figure, None, None, None, None, "not attempted", reason)


def _from_store(figure: Figure, results: Path, store: str | None) -> Compared:
    """What a function of `testbed.papers.stored` gives; a cell that failed is a failed figure."""
    from testbed.papers.cells import Cells
    from testbed.papers.stored import FUNCTIONS

    name, _, words = figure.words.partition(" ")
    if name not in FUNCTIONS:
        raise DataError(f"no function {name!r} of stored cells; known: {', '.join(FUNCTIONS)}")
    try:
        found = FUNCTIONS[name](Cells.of(results.parent, store), words)
    except DataError as problem:
        return Compared(figure, None, None, None, None, "failed", str(problem))
    return replace(judge(figure, found.value, found.low, found.high, found.n), note=found.note)


def _from_rows(figure: Figure, condition: str, results: Path) -> Compared:
    """The one row of results.parquet that meets the condition."""
    import duckdb

    query = f"SELECT value, ci_low, ci_high, n, status, error FROM read_parquet(?) WHERE {condition}"
    try:
        found = duckdb.connect().execute(query, [str(results)]).fetchall()
    except duckdb.Error as problem:
        raise DataError(
            f"{figure.row}, {figure.figure}: the condition {condition!r} is not understood: {problem}"
        ) from None
    if len(found) != 1:
        return Compared(figure, None, None, None, None, "failed", f"{len(found)} rows of the run meet {condition!r}")
    value, low, high, n, status, error = found[0]
    if value is None or status not in ("ok", "done"):
        return Compared(figure, None, None, None, n, "failed", str(error or status))
    return judge(figure, value, value if low is None else low, value if high is None else high, n)


def _compute(call: str) -> tuple[float, float, float, int]:
    from testbed.papers import compute

    name, *arguments = shlex.split(call)
    function: Callable[..., Any] | None = compute.FUNCTIONS.get(name)
    if function is None and ":" in name:
        module, _, attribute = name.partition(":")
        try:
            function = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise DataError(f"the computation {name!r} cannot be had: {error}") from None
    if function is None:
        raise DataError(f"no computation {name!r}; known: {', '.join(compute.FUNCTIONS)}, or package.module:function")
    value, low, high, n = function(*arguments)
    return value, low, high, n

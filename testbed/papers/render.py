"""A compared table as text, Markdown (also for the terminal) or LaTeX, in two layouts.

rows   a line a figure, with interval, difference, tolerance and verdict
paper  the paper's own: its rows down, its figures across, each cell "published / ours" with a mark
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from testbed.papers.compare import Compared

HEADER = ("row", "figure", "published", "ours", "95 % interval", "n", "difference", "allowed", "verdict")


#: What follows ours in the paper's layout, by verdict.
MARKS: Final = {"within": "", "missed": "!", "failed": "failed", "reported": "", "not attempted": "-"}
KEY: Final = "published / ours; ! outside the tolerance, - not attempted"


def cells(row: Compared) -> tuple[str, ...]:
    """One line of the table as strings."""
    digits = 3 if row.figure.unit == "number" else 2
    interval = "" if row.low == row.high else f"{_number(row.low, digits)} to {_number(row.high, digits)}"
    difference = "" if row.difference is None else f"{row.difference:+.{digits}f}"
    return (
        row.figure.row,
        row.figure.figure,
        _number(row.published, digits),
        _number(row.value, digits),
        interval,
        "" if row.n is None else str(row.n),
        difference,
        _number(row.figure.tolerance, digits),
        row.verdict + (f": {row.note}" if row.note else ""),
    )


def grid(rows: Sequence[Compared]) -> list[tuple[str, ...]]:
    """The table in the paper's layout, header first: a line a row of the paper, a column a figure."""
    columns = list(dict.fromkeys(row.figure.figure for row in rows))
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        lines.setdefault(row.figure.row, {})[row.figure.figure] = _both(row)
    return [("", *columns), *((name, *(cell.get(column, "") for column in columns)) for name, cell in lines.items())]


def _both(row: Compared) -> str:
    digits = 3 if row.figure.unit == "number" else 2
    theirs, ours = _number(row.published, digits), _number(row.value, digits)
    return " ".join(part for part in (theirs and f"{theirs} /", ours, MARKS[row.verdict]) if part)


def markdown(title: str, rows: Sequence[Compared], *, paper: bool = False) -> str:
    """A Markdown table under its title; `paper` in the paper's layout."""
    table = grid(rows) if paper else [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    head, *body = ["| " + " | ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) + " |" for line in table]
    return "\n".join([f"# {title}", "", head, rule, *body, *(["", KEY] if paper else [])]) + "\n"


def latex(title: str, rows: Sequence[Compared], *, paper: bool = False) -> str:
    """A LaTeX table (booktabs); `paper` in the paper's layout."""
    table = grid(rows) if paper else [HEADER, *(cells(row) for row in rows)]
    lines = [" & ".join(map(_escape, line)) + r" \\" for line in table]
    columns = "l" + "r" * (len(table[0]) - 1) if paper else "llrrrrrrl"
    return "\n".join([
        r"\begin{table}",
        rf"\caption{{{_escape(title + (f' ({KEY})' if paper else ''))}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _escape(text: str) -> str:
    """Text with LaTeX's special characters escaped.

    >>> print(_escape("95 % of a_b"))
    95 \\% of a\\_b
    """
    special: dict[str, str | int | None] = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return text.translate(str.maketrans(special | {c: "\\" + c for c in "&%#_{}$"}))

"""A compared table as text: Markdown (also for the terminal) and LaTeX."""

from __future__ import annotations

from testbed.papers.compare import Compared

HEADER = ("row", "figure", "published", "ours", "95 % interval", "n", "difference", "allowed", "verdict")


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


def markdown(title: str, rows: list[Compared]) -> str:
    """A Markdown table under its title."""
    table = [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADER))]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    head, *body = ["| " + " | ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) + " |" for line in table]
    return "\n".join([f"# {title}", "", head, rule, *body]) + "\n"


def latex(title: str, rows: list[Compared]) -> str:
    """A LaTeX table (booktabs)."""
    lines = [" & ".join(map(_escape, line)) + r" \\" for line in (HEADER, *(cells(row) for row in rows))]
    return "\n".join([
        r"\begin{table}",
        rf"\caption{{{_escape(title)}}}",
        r"\begin{tabular}{llrrrrrrl}",
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

r"""The result tables as LaTeX (`booktabs`), for a paper.

A table of more than `WIDEST` number columns is written as one table a metric.

    >>> escape("50% of a_b & {c}")
    '50\\% of a\\_b \\& \\{c\\}'
"""

from __future__ import annotations

from testbed.report.load import Run
from testbed.report.table import Number, Table, interval, shown, tables

WIDEST = 6

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--", "†": r"$\dagger$", "·": r"$\cdot$",
}  # fmt: skip


def latex(run: Run) -> str:
    """All tables of a run; needs `\\usepackage{booktabs}`."""
    found = tables(run.rows)
    narrow = [p for t in found for p in ([t] if len(t.columns) <= WIDEST else [t.only(m) for m in t.metrics])]
    return "\n".join(render(table) for table in narrow)


def render(table: Table) -> str:
    """One `table` environment with a two-level head: condition above, metric below."""
    columns = "l" * len(table.stub) + "r" * len(table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
    ]
    for row in table.rows:
        lines.append(_line([*map(escape, row), *(cell(table.get(row, column)) for column in table.columns)]))
    notes = [*table.notes(), *(f"no value for {reason}" for reason in table.failures())]
    caption = escape(". ".join([table.title, *notes])) + "."
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}", ""])


def _head(table: Table) -> list[str]:
    groups: list[list[str]] = []
    for over, metric in table.columns:
        if groups and groups[-1][0] == over:
            groups[-1].append(metric)
        else:
            groups.append([over, metric])
    above, rules, at = [""] * len(table.stub), [], len(table.stub)
    for over, *metrics in groups:
        above.append(rf"\multicolumn{{{len(metrics)}}}{{c}}{{{escape(over)}}}")
        rules.append(rf"\cmidrule(lr){{{at + 1}-{at + len(metrics)}}}")
        at += len(metrics)
    below = [*map(escape, table.stub), *(escape(metric) for _, metric in table.columns)]
    return [_line(above), " ".join(rules), _line(below)]


def cell(number: Number | None) -> str:
    """Value with the interval in small type; a cell without a value says its status."""
    if number is None:
        return ""
    if number.value is None:
        return rf"\emph{{{escape(number.status)}}}"
    between = interval(number)
    return escape(shown(number)) + (rf" {{\scriptsize {between}}}" if between else "")


def escape(text: str) -> str:
    """Text with every character that LaTeX reads as a command made plain."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"

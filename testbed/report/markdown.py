"""The result tables as GitHub Markdown, for a README or a pull request.

>>> cell(Number(0.91249, 0.89, 0.93)), cell(Number(None, status="failed")), escape("a|b <c>")
('0.912 [0.890, 0.930]', '*failed*', 'a\\\\|b &lt;c&gt;')
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from testbed.report.load import Run
from testbed.report.table import Number, Table, interval, shown, tables


def markdown(run: Run) -> str:
    """All tables of a run."""
    return "\n".join(render(table) for table in tables(run.rows))


def render(table: Table) -> str:
    """One table: a row for each model x calibrator, a column for each condition and metric, then notes and failures."""
    heads = [*table.stub, *(f"{over} {metric}" for over, metric in table.columns)]
    lines = [f"### {escape(table.title)}", "", _line(map(escape, heads))]
    lines.append(_line(["---"] * len(table.stub) + ["---:"] * len(table.columns)))
    for row in table.rows:
        lines.append(_line([*map(escape, row), *(cell(table.get(row, column)) for column in table.columns)]))
    lines += ["", *(f"- {escape(note)}" for note in table.notes())]
    lines += [f"- no value for {escape(reason)}" for reason in table.failures()]
    return "\n".join([*lines, ""])


def cell(number: Number | None) -> str:
    """Value and interval; a cell without a value says its status, one outside the grid is empty."""
    if number is None:
        return ""
    if number.value is None:
        return f"*{escape(number.status)}*"
    return f"{shown(number)} {interval(number)}".strip()


def escape(text: str) -> str:
    """Text that neither ends a cell nor becomes markup."""
    plain = html.escape(text, quote=False).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return "".join("\\" + c if c in "*_`[]" else c for c in plain)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"

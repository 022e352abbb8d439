"""`testbed report --weights`: which combination of model, calibrator and detector to deploy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.report.load import Run


def choose(run: Run, text: str, form: str) -> None:
    """Print the selection table of each data set under these weights; `form` is terminal or markdown."""
    from testbed.report.candidates import every_pool
    from testbed.report.selection import notes, nothing_to_choose, parse_weights, selection, table_rows

    if form not in ("terminal", "markdown"):
        raise UsageError("--weights prints to the terminal or as --table markdown")
    weights = parse_weights(text)
    found = every_pool(run)
    tables = [table for pool in found if (table := selection(pool)) is not None]
    if not tables:
        raise UsageError(nothing_to_choose(run, found))
    for table in tables:
        head, rows = table_rows(table, weights)
        title = f"{table.pool.dataset}, seed {table.pool.seed}: which combination"
        (_markdown if form == "markdown" else _terminal)(title, head, rows)
        for note in notes(table, weights):
            print(f"- {note}" if form == "markdown" else note)
        print()


def _terminal(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console
    from testbed.report.terminal import put

    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < 5 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    put(console(), table)


def _markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from testbed.report.markdown import escape

    print(f"### {title}\n")
    for row in (head, ["---"] * len(head), *(list(map(escape, row)) for row in rows)):
        print("| " + " | ".join(row) + " |")
    print()

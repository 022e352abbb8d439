"""The result table on a terminal, wide or narrow.

Where all columns fit, one table holds them; where they do not, each metric has its own, cut into panels that fit, with
the interval below its value. Below 60 columns the labels share one column. A label is not repeated down a column.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from testbed.report.load import Run
from testbed.report.table import Number, Table, interval, shown, tables

#: Characters between two columns.
GAP = 2
NARROW = 60

Column = tuple[str, str]


def show(run: Run, console: Console) -> None:
    """Print the tables of a run, its conventions and the reasons of its failed cells."""
    found = tables(run.rows)
    if not found:
        console.print(f"{run.name}: no result yet", markup=False)
    for table in found:
        console.print(render(table, console.width))


def render(table: Table, width: int) -> Group:
    """The table for a window `width` characters wide."""
    parts: list[RenderableType] = [Text(table.title, style="bold")]
    whole = _stub_width(table, width) + sum(_column_width(table, c, stacked=False) for c in table.columns)
    if whole <= width:
        parts.append(_panel(table, table.columns, width, stacked=False))
    else:
        for metric in table.metrics:
            one = table.only(metric)
            parts += [_panel(one, columns, width, stacked=True) for columns in panels(one, width)]
    parts += [Text(note, style="dim") for note in table.notes()]
    parts += [Text(f"no value for {reason}", style="red") for reason in table.failures()]
    return Group(*parts, Text())


def panels(table: Table, width: int) -> list[tuple[Column, ...]]:
    """The columns in runs that fit into `width`, at least one each."""
    found: list[list[Column]] = []
    left = 0
    for column in table.columns:
        need = _column_width(table, column, stacked=True)
        if not found or need > left:
            found.append([])
            left = width - _stub_width(table, width)
        found[-1].append(column)
        left -= need
    return [tuple(columns) for columns in found]


def _panel(table: Table, columns: Sequence[Column], width: int, *, stacked: bool) -> Padding:
    panel = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold"
    )
    names = table.stub if width >= NARROW else ("\n".join(table.stub),)
    for name in names:
        panel.add_column(Text(name), overflow="fold", vertical="top")
    for over, metric in columns:
        panel.add_column(Text(f"{over}\n{metric}"), justify="right", no_wrap=True)
    above: tuple[str, ...] = ()
    for row in table.rows:
        labels = _unrepeated(row, above) if len(names) > 1 else ["\n".join(row)]
        panel.add_row(*map(Text, labels), *(cell_text(table.get(row, column), stacked=stacked) for column in columns))
        above = row
    return Padding(panel, (0, 0, 1, 0), expand=False)


def _unrepeated(row: tuple[str, ...], above: tuple[str, ...]) -> list[str]:
    """The labels of a row, those that stand unchanged in the row above left empty (never the last one).

    >>> _unrepeated(("net", "fog", "msp"), ("net", "clean", "msp"))
    ['', 'fog', 'msp']
    """
    same = 0
    while same < len(row) - 1 and above[same : same + 1] == row[same : same + 1]:
        same += 1
    return [""] * same + list(row[same:])


def cell_text(cell: Number | None, *, stacked: bool) -> Text:
    """Value and interval, on one line or two; a cell without a value says its status."""
    if cell is None:
        return Text("")
    if cell.value is None:
        return Text(cell.status, style="bold red" if cell.failed else "dim")
    text = Text(shown(cell))
    if between := interval(cell):
        text.append(("\n" if stacked else " ") + between, style="dim")
    return text


def _stub_width(table: Table, width: int) -> int:
    longest = [max(len(row[i]) for row in (table.stub, *table.rows)) + GAP for i in range(len(table.stub))]
    return sum(longest) if width >= NARROW else max(longest)


def _column_width(table: Table, column: Column, *, stacked: bool) -> int:
    texts = [cell_text(table.get(row, column), stacked=stacked).plain for row in table.rows]
    lines = [line for text in (*texts, *column) for line in text.split("\n")]
    return max(map(len, lines)) + GAP

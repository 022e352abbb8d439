"""The result table on a terminal, wide or narrow.

Conditions stand across or go down, and an interval stands beside its value or below it, whichever takes fewer lines in
this window; columns that do not fit go into panels below each other. Below 60 columns the labels share one column. A
label is not repeated down a column.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from testbed.report.load import Run
from testbed.report.model_notes import model_notes
from testbed.report.table import NOT_SHOWN, Number, Row, Table, interval, shown, tables

#: Characters between two columns.
GAP = 2
NARROW = 60

#: Numbers from which on `show` is brief.
MANY = 400

Column = tuple[str, str]


def show(run: Run, console: Console, *, brief: bool = True) -> None:
    """Print the tables of a run, its conventions and the reasons of its failed cells.

    brief  of a run with many rows only a part is printed, and the last line says which and how to see all of it
    """
    rows = [row for row in run.rows if row["metric"] not in NOT_SHOWN]
    chosen = shortened(rows) if brief and len(rows) > MANY else rows
    if not chosen:
        console.print(f"{run.name}: no result yet", markup=False)
    for table in tables(chosen):
        console.print(render(table, console.width))
    for note in model_notes(run.rows):
        console.print(f"note: {note}", markup=False, style="yellow")
    if len(chosen) < len(rows):
        what = "the first calibrator everywhere, every calibrator on clean data, detection on clean data"
        more = f"testbed report {run.folder} --table terminal"
        console.print(f"{len(chosen)} of {len(rows)} numbers: {what}. All: {more}", markup=False)


def put(console: Console, table: RichTable) -> None:
    """Print a table; into a file or a pipe, which has no edge, as wide as it needs to be."""
    if console.is_terminal:
        console.print(table)
        return
    needed = Measurement.get(console, console.options.update(width=100_000), table).maximum
    Console(file=console.file, width=max(console.width, needed), highlight=False).print(table)


def shortened(rows: Sequence[Row]) -> list[Row]:
    """The rows that say most: see the last line of `show`."""
    first = {row.get("calibrator") for row in rows[:1]} | {None}
    clean = [row.get("kind") == "clean" for row in rows]
    detection = [row.get("ood_set") is not None for row in rows]
    plain = [row.get("calibrator") in first for row in rows]
    keep = [(c and p) if d else (c or p) for c, d, p in zip(clean, detection, plain, strict=True)]
    return [row for row, kept in zip(rows, keep, strict=True) if kept]


def render(table: Table, width: int) -> Group:
    """The table for a window `width` characters wide, in the layout that takes the fewest lines."""
    layouts = [(t, stacked) for t in (table, table.long()) for stacked in (False, True)]
    whole, stacked = min(layouts, key=lambda layout: _lines(layout[0], layout[1], width))
    parts: list[RenderableType] = [Text(table.title, style="bold")]
    parts += [_panel(whole, columns, width, stacked=stacked) for columns in panels(whole, width, stacked)]
    parts += [Text(note, style="dim") for note in table.notes()]
    parts += [Text(f"no value for {reason}", style="red") for reason in table.failures()]
    return Group(*parts, Text())


def panels(table: Table, width: int, stacked: bool) -> list[tuple[Column, ...]]:
    """The columns in runs that fit into `width`, at least one each; metric by metric where one run is not enough."""
    needs = {column: _column_width(table, column, stacked=stacked) for column in table.columns}
    room = width - _stub_width(table, width)
    if sum(needs.values()) <= room:
        return [table.columns]
    found: list[list[Column]] = []
    left = 0
    for column in sorted(table.columns, key=lambda column: table.metrics.index(column[1])):
        if not found or needs[column] > left:
            found.append([])
            left = room
        found[-1].append(column)
        left -= needs[column]
    return [tuple(columns) for columns in found]


def _lines(table: Table, stacked: bool, width: int) -> int:
    """How many lines a layout takes; a column wider than the window makes it unusable."""
    room = width - _stub_width(table, width)
    if any(_column_width(table, column, stacked=stacked) > room + GAP for column in table.columns):
        return 10**9 + (0 if stacked else 1)
    a_row = max(1 + stacked, len(table.stub) if width < NARROW else 1)
    return len(panels(table, width, stacked)) * (len(table.rows) * a_row + 4)


def _panel(table: Table, columns: Sequence[Column], width: int, *, stacked: bool) -> Padding:
    panel = RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold"
    )
    names = table.stub if width >= NARROW else ("\n".join(table.stub),)
    for name in names:
        panel.add_column(Text(name), overflow="fold", vertical="top")
    for over, metric in columns:
        panel.add_column(Text(f"{over}\n{metric}".strip()), justify="right", no_wrap=True)
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

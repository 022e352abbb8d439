"""`testbed report`: the page of a run, its tables as text, or a page that follows it while it goes on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from testbed.errors import UsageError


class Format(StrEnum):
    """How tables are printed."""

    terminal = "terminal"
    markdown = "markdown"
    latex = "latex"


def report(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest under runs/ if left out.")] = None,
    table: Annotated[Format | None, typer.Option(help="Print the tables instead of writing the page.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the page; default RUN/report.html.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Choose a combination: equal, or accuracy=1,robust_accuracy=2,ece=1,auroc=1,latency=0.5"),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Serve the page on this machine until the run ends.")] = False,
    port: Annotated[int, typer.Option(help="With --live: the port on 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """One HTML page of a run that opens offline, or its table as text."""
    from testbed.report.load import read_run

    if (table is not None or weights is not None) and (live or out is not None):
        raise UsageError("--table and --weights print to the terminal; they go with neither --live nor --out")
    if live and out is not None:
        raise UsageError("--live writes RUN/report.html when the run ends; it does not go with --out")
    found = read_run(run)
    if (found.folder / "stream.parquet").exists():
        stream(found.folder, table, out, other=weights is not None or live)
    elif weights is not None:
        from testbed.cli.select import choose

        choose(found, weights, table or Format.terminal)
    elif live:
        from testbed.report.live import serve

        print(serve(found.folder, port, lambda address: print(f"{found.name}: {address}", flush=True)))
    elif table is Format.terminal:
        from testbed.cli.console import console
        from testbed.report.terminal import show

        show(found, console(), brief=False)
    elif table is Format.markdown:
        from testbed.report.markdown import markdown

        print(markdown(found))
    elif table is Format.latex:
        from testbed.report.latex import latex

        print(latex(found))
    else:
        from testbed.report.page import write_page

        print(write_page(found, out))


def stream(folder: Path, table: Format | None, out: Path | None, other: bool) -> None:
    """The page of a replayed stream, or its summary."""
    from testbed.report.stream import read_stream

    if other or table not in (None, Format.terminal):
        raise UsageError(f"{folder} holds a stream; it has a page (no option) and a summary (--table terminal)")
    found = read_stream(folder)
    if table is None:
        from testbed.report.stream_page import write_stream_page

        print(write_stream_page(found, out))
        return
    from testbed.cli.console import console
    from testbed.report.stream_terminal import show_stream

    show_stream(found, console())

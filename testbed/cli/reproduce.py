"""`testbed reproduce`: run one published table and put ours beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def reproduce(
    key: Annotated[str, typer.Argument(help="A table of `testbed ls papers`, or a folder laid out like one.")],
    quick: Annotated[bool, typer.Option("--quick", help="The stated subset, within minutes.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex/--markdown", help="How the table is printed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<key>, with -quick in quick mode.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder or fsspec URL of artifacts.")] = None,
    executor: Annotated[str, typer.Option(help="ray, serial, or auto.")] = "auto",
) -> None:
    """Run one published table: published figure, ours with its interval, the difference, and whether it is allowed.

    Exit codes: 0 every judged figure lies within its tolerance, 1 one does not or a job failed, 2 no such table.
    """
    from testbed.papers.book import open_table
    from testbed.papers.compare import compare, passed
    from testbed.papers.render import latex, markdown

    table = open_table(key)
    results = None
    if table.grid is not None:
        folder = out or Path("runs") / (table.key + ("-quick" if quick else ""))
        results = _run(table.grid, list(table.quick) if quick else [], folder, store, executor)
    rows = compare(table, results, quick=quick, store=store)
    if as_latex:
        typer.echo(latex(table.title, rows) + "\n".join(f"% {line}".rstrip() for line in table.notes.splitlines()))
    else:
        typer.echo(markdown(table.title, rows) + "\n" + table.notes)
    if not passed(rows):
        raise typer.Exit(1)


def _run(grid: Path, overrides: list[str], folder: Path, store: str | None, executor: str) -> Path:
    """Run the table's grid; a failed job leaves its figures without a number, so it needs no word here."""
    from testbed.grid.planner import plan
    from testbed.runner.progress import progress
    from testbed.runner.run import Settings, run_plan

    settings = Settings(out=folder, store=store, executor=executor, page=False)  # type: ignore[arg-type]
    with progress("auto") as listener:
        finished = run_plan(plan(grid, overrides), settings, listener)
    if finished.cause:
        raise finished.cause
    return finished.folder / "results.parquet"

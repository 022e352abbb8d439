"""`testbed reproduce`: run one published table and put ours beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from testbed.papers.book import Table


class Layout(StrEnum):
    """How the table is laid out."""

    ROWS = "rows"
    PAPER = "paper"


def reproduce(
    key: Annotated[str, typer.Argument(help="A table of `testbed ls papers`, or a folder laid out like one.")],
    quick: Annotated[bool, typer.Option("--quick", help="The stated subset, within minutes.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex/--markdown", help="How the table is printed.")] = False,
    layout: Annotated[Layout, typer.Option(help="rows: a line a figure; paper: the paper's own layout.")] = Layout.ROWS,
    override: Annotated[
        list[str] | None, typer.Option("--override", "-o", help="Set a value of grid.yaml; printed as a deviation.")
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Say what is left to do and how long it takes here; run nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<key>, with -quick in quick mode.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder or fsspec URL of artifacts.")] = None,
    executor: Annotated[str, typer.Option(help="ray, serial, or auto.")] = "auto",
) -> None:
    """Run one published table: published figure, ours with its interval, the difference, and whether it is allowed.

    Exit codes: 0 every judged figure lies within its tolerance, 1 one does not or a job failed, 2 no such table,
    3 no figure could be had, because data, weights or an extra are missing.
    """
    from testbed.errors import EnvironmentProblem
    from testbed.papers.book import open_table
    from testbed.papers.compare import compare, nothing, passed
    from testbed.papers.render import latex, markdown

    table = open_table(key)
    given = [*(table.quick if quick else ()), *(override or ())]
    if plan_only:
        for line in _plan(table, quick, given, store):
            typer.echo(line)
        return
    folder = out or Path("runs") / (table.key + ("-quick" if quick else ""))
    runs = {name: _run(table, name, given, (folder, out is None), store, executor) for name in table.runs(quick)}
    rows = compare(table, runs, quick=quick, store=store)
    changed = "".join(f"Deviation of this run: {setting}\n" for setting in given)
    notes = (changed + "\n" if changed else "") + table.notes
    if as_latex:
        text = latex(table.title, rows, paper=layout is Layout.PAPER)
        typer.echo(text + "\n".join(f"% {line}".rstrip() for line in notes.splitlines()))
    else:
        typer.echo(markdown(table.title, rows, paper=layout is Layout.PAPER) + "\n" + notes)
    if reason := nothing(rows):
        raise EnvironmentProblem(f"{table.key}: no figure could be had; {reason}")
    if not passed(rows):
        raise typer.Exit(1)


def _plan(table: Table, quick: bool, overrides: Sequence[str], store: str | None) -> Iterator[str]:
    """What is left of each grid, and the CPU minutes on this machine: those measured, scaled by a probe."""
    from testbed.errors import TestbedError
    from testbed.grid.planner import plan
    from testbed.grid.summary import overview
    from testbed.papers.needs import minutes
    from testbed.papers.probe import expected, milliseconds
    from testbed.runner.needed import needed
    from testbed.runner.operations import reads
    from testbed.store import Store, default_url

    keeper, todo, whole = Store(store or default_url()), Counter[str](), Counter[str]()
    for name in table.runs(quick):
        try:
            planned = plan(table.grid(name), [] if name else list(overrides))
        except TestbedError as problem:
            yield f"cannot be run here: {_first(problem, table.grid(name))}"
            continue
        run = list(needed(planned.jobs, planned.wanted, keeper, reads).run)
        yield from overview(planned, run)
        if not name:
            todo, whole = planned.cost(run), planned.cost()
    known = table.needs.quick_cpu_minutes if quick else table.needs.cpu_minutes
    if known is None:
        yield "CPU minutes of the run: unmeasured"
        return
    probe = milliseconds()
    here, left = expected(known, probe, todo, whole)
    yield f"CPU minutes on an empty store: {minutes(known)} where measured ({table.needs.measured_on or 'not said'})"
    yield f"on this machine about {minutes(here)}, about {minutes(left)} left (probe {probe:.1f} ms, one thread)"


def _run(
    table: Table, name: str, overrides: Sequence[str], where: tuple[Path, bool], store: str | None, executor: str
) -> Path | str:
    """Run one of the table's grids; of a grid other than grid.yaml, why it cannot be run where it cannot.

    where   the run folder, and whether it is the usual one, so that one beside it is taken where it holds another run
    A failed job leaves its figures without a number, so it needs no word here.
    """
    from importlib.util import find_spec

    from testbed.errors import TestbedError
    from testbed.grid.planner import plan
    from testbed.runner.progress import progress
    from testbed.runner.run import Settings, free_folder, run_plan

    missing = [extra for extra in table.needs.extras if find_spec(extra) is None]
    if name and missing:
        return f"{table.grid(name).name} needs what is not installed: pip install {' '.join(missing)}"
    try:
        planned = plan(table.grid(name), [] if name else list(overrides))
    except TestbedError as problem:
        if not name:
            raise
        return _first(problem, table.grid(name))
    folder, usual = where
    place = folder / name if name else free_folder(planned, folder) if usual else folder
    settings = Settings(out=place, store=store, executor=executor, page=False)  # type: ignore[arg-type]
    with progress("auto", planned.jobs.values()) as listener:
        finished = run_plan(planned, settings, listener)
    if finished.cause:
        raise finished.cause
    return finished.folder / "results.parquet"


def _first(problem: Exception, grid: Path) -> str:
    """The first line of a problem, the grid by its name instead of its whole path."""
    return str(problem).splitlines()[0].replace(str(grid), grid.name)

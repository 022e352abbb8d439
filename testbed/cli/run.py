"""`testbed run`: run a grid; running it again continues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from testbed.grid.plan import Plan
    from testbed.runner.outcome import Outcome


def run(
    grid: Annotated[Path, typer.Argument(help="The grid, a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<name>.")] = None,
    override: Annotated[list[str], typer.Option("-o", "--override", help="Set a value: models.0.train.epochs=2")] = [],  # noqa: B006 - typer copies it
    executor: Annotated[str, typer.Option(help="ray, serial, or auto (by the amount of work).")] = "auto",
    address: Annotated[str | None, typer.Option(help="A running Ray cluster: auto or HOST:PORT.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of a local Ray cluster; default all cores.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL of artifacts; default $TESTBED_STORE, else .testbed")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds a job may take before it is killed.")] = None,
    max_failures: Annotated[
        str | None, typer.Option(help="Start no more jobs after N failures, or p% of the jobs.")
    ] = None,
    no_retry: Annotated[bool, typer.Option("--no-retry", help="Keep the failures of earlier runs.")] = False,
    max_disk: Annotated[str | None, typer.Option(help="Budget of the store, such as 20GB.")] = None,
    redo: Annotated[list[str], typer.Option(help="Make this artifact again, whatever the store holds.")] = [],  # noqa: B006
    json_events: Annotated[bool, typer.Option("--json", help="One JSON event a line on stdout, and no table.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write the tables, not the page.")] = False,
) -> None:
    """Run a grid. Running it again continues, and does only what is missing.

    Exit codes: 0 fine, 1 some jobs failed, 2 bad grid or usage, 3 missing extra or environment, 130 interrupted.
    """
    from testbed.errors import UsageError, nearest
    from testbed.grid.planner import plan as make_plan
    from testbed.runner.progress import progress
    from testbed.runner.run import Settings, run_plan

    kinds = ("auto", "ray", "serial")
    if executor not in kinds:
        raise UsageError(f"--executor {executor!r}: expected auto, ray or serial; {nearest(executor, kinds)}")
    plan = make_plan(grid, override)
    set_aside(redo, plan, grid, store)
    settings = Settings(
        out=out,
        store=store,
        executor=executor,  # type: ignore[arg-type]
        address=address,
        workers=workers,
        timeout=timeout,
        max_failures=max_failures,
        retry=not no_retry,
        max_disk=None if max_disk is None else size(max_disk),
        page=not no_report,
    )
    with progress("json" if json_events else "auto", plan.jobs.values()) as listener:
        finished = run_plan(plan, settings, listener)
    if finished.cause:
        raise finished.cause
    if not json_events:
        show(finished.folder, page=not no_report)
    if not finished.outcome.ok:
        tell_failures(plan, finished.outcome)
        raise typer.Exit(1)


def set_aside(redo: list[str], plan: Plan, grid: Path, store: str | None) -> None:
    """Withdraw these artifacts from the store, so that they are made again."""
    from testbed.errors import UsageError
    from testbed.store import Store, default_url

    for digest in redo:
        if digest not in plan.jobs:
            raise UsageError(
                f"--redo {digest!r}: no such job in the plan of {grid}; `testbed plan {grid} --jobs` lists them"
            )
        Store(store or default_url()).set_aside(digest)


def tell_failures(plan: Plan, outcome: Outcome) -> None:
    """What failed first, each reason once, and how much could not be run because of it."""
    errors = outcome.errors()
    failed = [d for d, r in outcome.records.items() if r.status in ("failed", "timeout")]
    reasons: dict[str, list[str]] = {}
    for digest in failed:
        reasons.setdefault(errors[digest], []).append(plan.jobs[digest].label)
    for error, labels in list(reasons.items())[:10]:
        more = f" (and {len(labels) - 1} more)" if len(labels) > 1 else ""
        typer.echo(f"failed: {labels[0]}{more}: {error}", err=True)
    counts = {status: count for status, count in outcome.count().items() if count and status not in ("done", "cached")}
    typer.echo(f"jobs: {', '.join(f'{count} {status}' for status, count in counts.items())}", err=True)


def show(folder: Path, page: bool) -> None:
    """The table of a finished run, and where its page lies."""
    from rich.console import Console

    from testbed.report.brief import show_brief
    from testbed.report.load import read_run

    console = Console()
    show_brief(read_run(folder), console if console.is_terminal else Console(width=160))
    if page:
        typer.echo(f"report: {folder / 'report.html'}")


def size(text: str) -> int:
    """A number of bytes as people write it.

    >>> size("20GB"), size("1.5 GiB"), size("1000")
    (20000000000, 1610612736, 1000)
    """
    import re

    from testbed.errors import UsageError

    units = (
        {"": 1, "b": 1}
        | {f"{u}b": 1000 ** (i + 1) for i, u in enumerate("kmgt")}
        | {f"{u}ib": 1024 ** (i + 1) for i, u in enumerate("kmgt")}
    )
    match = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units:
        raise UsageError(f"{text!r} is not a size; expected a number of bytes such as 20GB, 1.5GiB or 500MB")
    return int(float(match[1]) * units[match[2]])

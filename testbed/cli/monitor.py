"""`testbed monitor`: replay a stream after deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def monitor(
    stream: Annotated[Path, typer.Argument(help="The stream, a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<name>.")] = None,
    override: Annotated[list[str], typer.Option("-o", "--override", help="Set a value: label_delay=200")] = [],  # noqa: B006 - typer copies it
    executor: Annotated[str, typer.Option(help="ray, serial, or auto (by the amount of work).")] = "auto",
    store: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL of artifacts; default $TESTBED_STORE, else .testbed")
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write the table, not the page.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the file, count the work, run nothing.")] = False,
) -> None:
    """Replay a stream through a model with several calibrators: labels late, drift detectors, rollbacks.

    Writes DIR/stream.parquet and DIR/monitor.html. Exit codes: 0 fine, 1 a job failed, 2 bad file or usage.
    """
    from testbed.errors import UsageError, nearest
    from testbed.grid.stream import plan_stream
    from testbed.runner.monitor import run_stream
    from testbed.runner.progress import progress
    from testbed.runner.run import Settings

    kinds = ("auto", "ray", "serial")
    if executor not in kinds:
        raise UsageError(f"--executor {executor!r}: expected auto, ray or serial; {nearest(executor, kinds)}")
    plan = plan_stream(stream, override)
    if check:
        from testbed.grid.summary import overview
        from testbed.runner.needed import needed
        from testbed.runner.operations import reads
        from testbed.store import Store, default_url

        keeper = Store(store or default_url())
        typer.echo("\n".join(overview(plan, needed(plan.jobs, plan.wanted, keeper, reads).run)))
        return
    with progress("auto", plan.jobs.values()) as listener:
        settings = Settings(out=out, store=store, executor=executor, page=not no_report)  # type: ignore[arg-type]
        done = run_stream(plan, settings, listener)
    if done.cause:
        raise done.cause
    if not done.outcome.ok:
        errors = done.outcome.errors()
        for digest in list(errors)[:10]:
            typer.echo(f"failed: {plan.jobs[digest].label}: {errors[digest]}", err=True)
        raise typer.Exit(1)
    show(done.folder, done.passes, page=not no_report)


def show(folder: Path, passes: int, page: bool) -> None:
    """The summary of a replay, and where its page lies."""
    from testbed.cli.console import console
    from testbed.report.stream import read_stream
    from testbed.report.stream_terminal import show_stream

    show_stream(read_stream(folder), console())
    if passes > 1:
        typer.echo(f"The stream is longer than the test split: its examples came round up to {passes} times.")
        typer.echo(
            "An online calibrator may have learned from an example before; every n and interval counts an example once."
        )
    if page:
        typer.echo(f"report: {folder / 'monitor.html'}")

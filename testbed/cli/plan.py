"""`testbed plan`: resolve a grid, count the work, run nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan(
    grid: Annotated[Path, typer.Argument(help="The grid, a YAML file.")],
    override: Annotated[list[str], typer.Option("-o", "--override", help="Set a value: models.0.train.epochs=2")] = [],  # noqa: B006 - typer copies it
    store: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL of artifacts; default $TESTBED_STORE, else .testbed")
    ] = None,
    jobs: Annotated[bool, typer.Option("--jobs", help="List every job with its digest and state.")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="List every cell.")] = False,
    explain: Annotated[
        str | None, typer.Option(help="Why a job is new: its digest, a part of its label, or all.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="The plan as JSON on stdout.")] = False,
) -> None:
    """Resolve every cell of a grid, count the work, run nothing."""
    from testbed.grid.planner import plan as make_plan
    from testbed.grid.summary import cell_lines, job_lines, overview
    from testbed.provenance import provenance
    from testbed.runner.needed import needed
    from testbed.runner.operations import reads
    from testbed.store import Store, default_url

    planned = make_plan(grid, override)
    if json_out:
        typer.echo(planned.to_json(provenance()))
        return
    keeper = Store(store or default_url())
    need = needed(planned.jobs, planned.wanted, keeper, reads)
    for line in overview(planned, need.run):
        typer.echo(line)
    if jobs:
        typer.echo("\n".join(job_lines(planned, need.run)))
    if cells:
        typer.echo("\n".join(cell_lines(planned)))
    if explain is not None:
        from testbed.grid.explain import explain as why

        typer.echo("\n".join(why(planned, need.run, keeper, explain)))

"""`testbed schema`: the JSON schema of a grid or of a stream."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """What kind of file."""

    grid = "grid"
    stream = "stream"


def schema(
    kind: Annotated[Kind, typer.Argument(help="grid, or stream (which refers to grid.schema.json beside it).")] = (
        Kind.grid
    ),
    out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None,
) -> None:
    """The JSON schema of a grid, with the parameters of every installed plug-in, or of a stream, for an editor."""
    import json

    from testbed.grid.schema import json_schema
    from testbed.grid.stream_schema import stream_schema

    found = json_schema() if kind is Kind.grid else stream_schema()
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")

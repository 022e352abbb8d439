"""`testbed schema`: the JSON schema of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def schema(out: Annotated[Path | None, typer.Option(help="Write it to this file.")] = None) -> None:
    """The JSON schema of a grid, with the parameters of every installed plug-in, for an editor."""
    import json

    from testbed.grid.schema import json_schema

    text = json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")

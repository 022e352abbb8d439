"""`testbed version`: versions and machine; with --json also the package lock, as plan.json carries it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from testbed.provenance import provenance

#: The packages whose version a reader of a number asks for first.
SHOWN = ("torch", "ray", "numpy", "scipy", "scikit-learn", "foolbox", "pyarrow", "duckdb")


def version(as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False) -> None:
    """Versions, package lock and machine."""
    found = provenance()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(f"testbed {found['testbed']} (code {found['code']})")
    print(f"Python {found['python']} on {found['platform']}")
    print(f"{found['cpu']['model']}, {found['cpu']['cores']} cores, {' '.join(found['cpu']['vector'])}".rstrip(", "))
    for name in found["gpus"]:
        print(name)
    for name in SHOWN:
        print(f"{name} {found['packages'].get(name, 'not installed')}")

"""`testbed ls KIND --verified`: what each method is checked against, from the tables that packages ship.

A package of plug-ins may hold a file `verified.json`: {kind: {name: [{"by", "against", "where"}]}}, where `by` is hand
(a value worked out), reference (another implementation's output) or measurement (a benchmark).
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from testbed.errors import UsageError
from testbed.plugins import installed

Entries = list[dict[str, str]]


def table(kind: str) -> dict[str, Entries]:
    """Every installed name of a kind with its entries; no entry = not checked by anything that is on record."""
    packages = {point.value.partition(":")[0].partition(".")[0] for point in installed(kind).values()}
    found: dict[str, Entries] = {name: [] for name in installed(kind)}
    for package in sorted(packages):
        file = files(package) / "verified.json"
        if not file.is_file():
            continue
        for name, entries in json.loads(file.read_text(encoding="utf-8")).get(kind, {}).items():
            if name in found:
                found[name] += entries
    return found


def show(kind: str, as_json: bool) -> None:
    """Print the table of a kind. Raises UsageError where no package says anything about it."""
    entries = table(kind) if kind in ("attack", "shift", "calibrator", "detector", "metric") else {}
    if not any(entries.values()):
        raise UsageError(
            "--verified: only attacks have a table of what they are checked against: ls attacks --verified"
        )
    if as_json:
        print(json.dumps(entries, indent=1, ensure_ascii=False))
        return
    _print(kind, entries)


def _print(kind: str, entries: dict[str, Entries]) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console
    from testbed.cli.ls import surname
    from testbed.plugins import read

    shown = Table("name", "paper", "by", "against", "where", box=None, pad_edge=False, header_style="bold")
    for name, checks in entries.items():
        paper: Any = read(kind, name).facts.get("reference")
        cite = f"{surname(paper)} {paper.year}" if paper is not None else ""
        rows = [(c["by"], c["against"], c["where"]) for c in checks] or [("nothing", "", "")]
        for number, row in enumerate(rows):
            head = ("", "") if number else (name, cite)
            shown.add_row(*map(Text, (*head, *row)))
    console().print(shown)

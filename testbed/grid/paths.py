"""Where a data set's files are: as the grid writes the path, else beside the grid, else below TESTBED_DATA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from testbed.grid.resolved import Bound


def beside_grid(bound: Bound, base: Path) -> Bound:
    """The data set with those of its paths that are not there, but are beside the grid, put there."""
    found = {}
    for name in bound.plugin.facts["paths"]:
        given = str(bound.params[name])
        if not Path(given).expanduser().exists() and (base / given).exists():
            found[name] = str(base / given)
    return replace(bound, params={**bound.params, **found}) if found else bound

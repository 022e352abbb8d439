"""Which cells the `include` and `exclude` filters of a grid keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.grid.model import Filter, Grid


def kept(grid: Grid, row: Mapping[str, Any]) -> bool:
    """Whether the filters keep a row, by the columns it has so far; a column not yet known excludes nothing."""
    if grid.include and not any(_matches(one, row, unknown=True) for one in grid.include):
        return False
    return not any(_matches(one, row, unknown=False) for one in grid.exclude)


def _matches(one: Filter, row: Mapping[str, Any], unknown: bool) -> bool:
    given = one.model_dump(exclude_none=True)
    return all(row[column] in values if column in row else unknown for column, values in given.items())

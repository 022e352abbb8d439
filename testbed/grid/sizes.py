"""How much a grid asks for, counted before any of it is written out: lists multiply, and a slip asks for billions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Final

from testbed.grid import model as schema
from testbed.grid.reader import Where

#: Conditions of one entry, and evaluations (data set, seed, model, training seed, condition, calibrator) of a grid.
MOST_CONDITIONS: Final = 10_000
MOST_EVALUATIONS: Final = 1_000_000


def too_large(grid: schema.Grid) -> Iterator[tuple[Where, str]]:
    """What of a grid is beyond the limits."""
    entries: list[tuple[Where, Any]] = [(("conditions", i), one) for i, one in enumerate(grid.conditions)]
    entries += [(("calibrators", i, "fit"), one.fit) for i, one in enumerate(grid.calibrators)]
    entries += [(("ood", i, "condition"), one.condition) for i, one in enumerate(grid.ood)]
    yield from too_many(entries, len(grid.models))
    conditions = sum(count(one, len(grid.models)) for one in grid.conditions)
    asked = conditions * len(grid.data) * len(grid.seed) * len(grid.models) * len(grid.train_seeds)
    asked *= len(grid.calibrators)
    if conditions <= MOST_CONDITIONS and asked > MOST_EVALUATIONS:
        says = f"asks for {asked:,} evaluations of a model; at most {MOST_EVALUATIONS:,} in one grid: split it"
        yield (), says


def too_many(entries: Sequence[tuple[Where, Any]], models: int) -> Iterator[tuple[Where, str]]:
    """The entries that stand for more conditions than one may."""
    for where, one in entries:
        if (found := count(one, models)) > MOST_CONDITIONS:
            yield where, f"stands for {found:,} conditions, every combination of its lists; at most {MOST_CONDITIONS:,}"


def count(entry: Any, models: int) -> int:
    """How many conditions an entry stands for.

    >>> count(schema.ShiftCondition(shift=["fog", "snow"], severity=[1, 2, 3]), 1)
    6
    """
    if isinstance(entry, schema.ChainCondition):
        return prod(count(step, models) for step in entry.chain)
    if isinstance(entry, schema.ShiftCondition):
        return len(entry.shift) * len(entry.severity)
    if isinstance(entry, schema.AttackCondition):
        victims = sum(models if one == "surrogate:*" else 1 for one in entry.victim)
        return len(entry.attack) * len(entry.eps) * victims
    return 1

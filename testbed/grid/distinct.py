"""What a grid must not ask for twice: a name, a condition, a metric, an OOD set. Each refusal names both places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from testbed.digest import canonical
from testbed.grid.reader import Document, Where
from testbed.grid.resolved import Bound, ConditionEntry, OodEntry


def place_of(document: Document, where: Where) -> str:
    """Where something stands, for an error about something else."""
    found = document.problem(where, "")
    return f"the one at line {found.line}" if found.line else f"{found.path}"


def same_names(document: Document, key: str, entries: Sequence[Any], what: str) -> Iterator[tuple[Where, str]]:
    """Names that an earlier entry has: they stand in the rows."""
    first: dict[str, Where] = {}
    for i, entry in enumerate(entries):
        if entry.name in first:
            twice = f"two {what}s are called {entry.name!r}, this and {place_of(document, first[entry.name])}"
            yield (key, i), f"{twice}; give one of them a `name`"
        first.setdefault(entry.name, (key, i))


def same_conditions(document: Document, conditions: Sequence[ConditionEntry]) -> Iterator[tuple[Where, str]]:
    """Conditions whose steps an earlier one has, whatever the two are called."""
    first: dict[str, ConditionEntry] = {}
    for one in conditions:
        if (other := first.get(one.id)) is not None:
            says = f"the condition {one.label()!r} is asked for twice, this and {place_of(document, other.where)}"
            yield one.where or ("conditions",), f"{says}; leave one out"
        first.setdefault(one.id, one)


def same_metrics(document: Document, metrics: Sequence[tuple[int, Bound]]) -> Iterator[tuple[Where, str]]:
    """Metrics that an earlier entry asks for with the same parameters."""
    first: dict[str, int] = {}
    for i, one in metrics:
        other = first.setdefault(canonical(one.columns()), i)
        if other != i:
            place = place_of(document, ("metrics", other))
            twice = f"the metric {one.plugin.name!r} is asked for twice, this and {place}"
            yield ("metrics", i), f"{twice}; leave one out, or give it other parameters"


def same_ood(document: Document, entries: Sequence[tuple[Where, OodEntry]]) -> Iterator[tuple[Where, str]]:
    """Two OOD sets of one name, and one set twice under one condition."""
    first: dict[str, tuple[Where, OodEntry]] = {}
    seen: dict[tuple[str, str], Where] = {}
    for where, one in entries:
        place, other = first.setdefault(one.name, (where, one))
        same = (one.bound.recipe(), one.limit) == (other.bound.recipe(), other.limit)
        earlier = seen.get((one.name, one.condition.id))
        seen.setdefault((one.name, one.condition.id), where)
        if not same:
            twice = f"two ood sets are called {one.name!r}, this and {place_of(document, place)}"
            yield where, f"{twice}; give one of them a `name`"
        elif earlier is not None:
            twice = f"the ood set {one.name!r} is asked for twice, this and {place_of(document, earlier)}"
            yield where, f"{twice}; leave one out"

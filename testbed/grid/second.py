"""Shifts that rest on something beside their code: a second data set, another shift. What of it enters a digest, and
what can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from testbed.errors import TestbedError
from testbed.grid.reader import Where
from testbed.grid.resolved import Resolved, Step


def brings_data(step: Step) -> bool:
    """Whether a step puts other examples in the place of those it is given, from installed code."""
    plugin = step.bound.plugin
    return step.kind == "shift" and plugin.facts["level"] == "replace" and plugin.source is None


def content(step: Step) -> dict[str, Any]:
    """What a step rests on, for its recipe: the fingerprint of a shift that has an `identity()`, else nothing."""
    from testbed.data.base import fingerprint

    plugin = step.bound.plugin
    if plugin.source is not None or not hasattr(plugin.loader(), "identity"):
        return {}
    return {"fingerprint": fingerprint(plugin.build(**step.bound.params))}


def problems(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """A second set that cannot be read, or whose classes are not those of a data set of the grid."""
    for condition in resolved.conditions:
        for step in condition.steps:
            try:
                if step.kind == "shift":
                    content(step)
            except (TestbedError, OSError) as error:
                yield ("conditions",), f"condition {condition.name!r}: {error}"
        for step in filter(brings_data, condition.steps):
            built = step.bound.plugin.build(**step.bound.params)
            try:
                for data in (entry for entry in resolved.data if entry.spec):
                    built.mapping(data.spec)
            except (TestbedError, OSError) as error:
                yield ("conditions",), f"condition {condition.name!r}: {error}"

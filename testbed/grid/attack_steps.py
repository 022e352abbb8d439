"""An attack condition as steps: every attack x victim x radius spelled out, and what cannot be run said.

`victim: surrogate:*` is every model of the grid, the attacked one included: the source x target matrix of transfer. An
attack on a detector's score takes the margin loss where it has one and the grid names none, because cross-entropy of
a score has no slope worth following far from its threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, get_args

from testbed.errors import nearest
from testbed.grid import model as schema
from testbed.grid.reader import Where
from testbed.grid.resolved import Bound, DetectorEntry, Step
from testbed.grid.restarts import apart

EVERY_MODEL = "surrogate:*"


class Resolver(Protocol):
    """What is needed of the resolver: see `testbed.grid.resolve`."""

    model_names: list[str]
    detector_names: list[str]

    def fail(self, where: Where, message: str) -> None:
        """Note a problem."""

    def bind(
        self, kind: str, where: Where, use: Any, given: Mapping[str, Any] | None = None, owns: Iterable[str] = ()
    ) -> Bound | None:
        """The plug-in and its typed parameters."""

    def place(self, where: Where, key: str, index: int) -> Where:
        """Where an entry of a list that may have been given as one value stands."""

    def check_kind(self, where: Where, bound: Bound) -> None:
        """Note a problem where the data is of a kind that the plug-in does not take."""


def attack_steps(resolver: Resolver, where: Where, entry: schema.AttackCondition) -> list[Step]:
    """The steps of one attack condition, attacks outermost, radii innermost."""
    victims = list(_victims(resolver, where, entry.victim))
    return [
        step
        for i, use in enumerate(entry.attack)
        for victim in victims
        for step in _radii(resolver, where, resolver.place(where, "attack", i), entry, use, victim)
    ]


def _victims(resolver: Resolver, where: Where, given: Sequence[str]) -> Iterator[str]:
    for victim in given:
        kind, _, name = victim.partition(":")
        known = {"surrogate": resolver.model_names, "detector": resolver.detector_names}.get(kind)
        if victim == EVERY_MODEL:
            yield from (f"surrogate:{one}" for one in resolver.model_names)
        elif known is not None and name not in known:
            says = nearest(name, known) if known else f"the grid has no {kind}s"
            resolver.fail((*where, "victim"), f"unknown {kind} {name!r}; {says}")
        else:
            yield victim


def _radii(
    resolver: Resolver, where: Where, place: Where, entry: schema.AttackCondition, use: schema.Use, victim: str
) -> Iterator[Step]:
    curve = tuple(sorted(set(entry.eps))) if entry.curve else ()
    for eps in entry.eps:
        bound = resolver.bind("attack", place, use, {"norm": entry.norm, "eps": eps}, owns=("eps", "norm"))
        if bound is None:
            return
        facts = bound.plugin.facts
        if entry.norm not in facts["norms"]:
            says = f"works in {', '.join(facts['norms'])}" if facts["norms"] else "has no norm"
            resolver.fail((*where, "norm"), f"attack {bound.plugin.name!r} {says}, not in {entry.norm}")
            return
        if victim.startswith("detector:") and facts["objective"] == "confidence":
            says = "moves the confidence of a classifier; a detector's score is attacked by an attack on labels"
            resolver.fail((*where, "victim"), f"attack {bound.plugin.name!r} {says}, for example pgd")
            return
        if entry.curve and (len(curve) < 2 or facts["objective"] != "label" or victim.startswith("detector:")):
            says = "a curve is of robust accuracy: it takes two or more eps, and an attack on labels"
            resolver.fail((*where, "curve"), says)
            return
        if (entry.curve or entry.quantised) and apart(bound):
            says = "restarts are judged one by one on the attack's own images: leave this out, or `average`"
            resolver.fail((*where, "curve" if entry.curve else "quantised"), says)
            return
        resolver.check_kind(place, bound)
        if victim.startswith("detector:") and "loss" not in use.params and _has_margin(bound):
            bound = replace(bound, params={**bound.params, "loss": "margin"})
        if entry.curve and facts["minimal"] and bound.params.get("eps") is not None:
            bound = replace(bound, params={**bound.params, "eps": None})
        yield Step("attack", bound, None, entry.norm, eps, victim, entry.quantised, curve)


def _has_margin(bound: Bound) -> bool:
    return any(p.name == "loss" and "margin" in get_args(p.annotation) for p in bound.plugin.parameters)


def detector_victims(conditions: Iterable[Any], detectors: Sequence[DetectorEntry]) -> Iterator[str]:
    """What is wrong with the detectors that attacks have as their victims, one line each."""
    named = {d.name: d for d in detectors}
    asked = {s.victim.partition(":")[2] for c in conditions for s in c.steps if s.victim.startswith("detector:")}
    for name in sorted(asked & named.keys()):
        if "inputs" in named[name].bound.plugin.facts["consumes"]:
            yield f"detector {name!r} runs the network itself and cannot be a victim; take one that reads its outputs"

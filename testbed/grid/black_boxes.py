"""What a grid must not ask of a model that gives scores only, what its queries add up to, and the flags of its rows.

A model plug-in that states `gradients = False` is a black box. Attacks that need gradients, detectors and calibrators
that need features it does not have, and detectors that run the network themselves are problems of the plan, unless the
filters leave the pair out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from testbed import plugins
from testbed.errors import MissingExtra, UsageError
from testbed.grid.doubts import random_weights
from testbed.grid.filters import kept
from testbed.grid.plan import Plan
from testbed.grid.reader import Document, Where
from testbed.grid.resolved import Bound, ConditionEntry, ModelEntry, Resolved, Step


def black_boxes(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Every pair of a black box with something that needs more than scores."""
    boxes = [one for one in resolved.models if not white(one) and not one.recorded]
    for box in boxes:
        yield from _attacked(resolved, box)
        yield from _read(resolved, box)


def white(model: ModelEntry) -> bool:
    """Whether a model gives gradients."""
    return bool(model.bound.plugin.facts["gradients"])


def _attacked(resolved: Resolved, box: ModelEntry) -> Iterator[tuple[Where, str]]:
    """White-box attacks on this black box, directly or where it is the surrogate for others."""
    fits = [c.fit for c in resolved.calibrators]
    for condition in [*resolved.conditions, *fits, *(o.condition for o in resolved.ood)]:
        for step in condition.steps:
            if not _needs_gradients(step):
                continue
            target = step.victim.removeprefix("surrogate:") if step.victim.startswith("surrogate:") else None
            if target == box.name or (target is None and kept(resolved.grid, _row(box, condition))):
                yield condition.where, _says(resolved, box, condition, step, surrogate=target is not None)


def _needs_gradients(step: Step) -> bool:
    return step.kind == "attack" and bool(step.bound.plugin.facts["white_box"])


def _row(box: ModelEntry, condition: ConditionEntry) -> dict[str, Any]:
    return {"model": box.name, **condition.row()}


def _says(resolved: Resolved, box: ModelEntry, condition: ConditionEntry, step: Step, surrogate: bool) -> str:
    attack = step.bound.plugin
    others = [one.name for one in resolved.models if white(one)]
    ways = [f"attacks that need none: {', '.join(query_attacks(step.norm))}"]
    if others and not surrogate:
        ways.append(f'craft it on another model with `victim: "surrogate:{others[0]}"`')
    if not surrogate:
        ways.append(f"leave the pair out with `exclude: [{{model: {box.name}, condition: {condition.name}}}]`")
    if attack.source is not None:
        ways.append("if it only asks for scores, state `white_box = False` in it")
    return f"attack {attack.name!r} needs gradients and the model {box.name!r} gives none; " + "; or ".join(ways)


@cache
def query_attacks(norm: str | None) -> tuple[str, ...]:
    """The installed attacks on labels that ask for scores only and have this norm (any where it is None)."""
    found = []
    for name in plugins.names("attack"):
        try:
            facts = plugins.read("attack", name).facts
        except MissingExtra:
            continue  # an attack whose package is missing is nothing to recommend
        if facts["objective"] == "label" and not facts["white_box"] and (norm is None or norm in facts["norms"]):
            found.append(name)
    return tuple(found)


def _read(resolved: Resolved, box: ModelEntry) -> Iterator[tuple[Where, str]]:
    """Detectors and calibrators that read what this black box does not give."""
    has = bool(box.bound.params.get("features"))
    for i, detector in enumerate(resolved.detectors):
        consumes = set(detector.bound.plugin.facts["consumes"])
        lacks = consumes & ({"head", "inputs"} if has else {"features", "head", "inputs"})
        if lacks and kept(resolved.grid, {"model": box.name, "detector": detector.name}):
            yield ("detectors", i), _lacking("detector", detector.name, box, lacks)
    for i, calibrator in enumerate(resolved.calibrators):
        needs = set(calibrator.bound.plugin.facts["needs"]) & {"features"}
        if needs and not has and kept(resolved.grid, {"model": box.name, "calibrator": calibrator.name}):
            yield ("calibrators", i), _lacking("calibrator", calibrator.name, box, needs)


_WORDS = {"features": "features", "head": "the last layer's weights", "inputs": "to run the network itself"}


def _lacking(kind: str, name: str, box: ModelEntry, lacks: set[str]) -> str:
    needs = " and ".join(_WORDS[one] for one in sorted(lacks))
    extra = " (an ONNX file may have an output for them: `features: NAME`)" if lacks == {"features"} else ""
    return (
        f"{kind} {name!r} needs {needs}, and the black box {box.name!r} gives scores only{extra}; "
        f"use one that reads scores, or `exclude: [{{model: {box.name}, {kind}: {name}}}]`"
    )


def check_budgets(document: Document, resolved: Resolved, plan: Plan) -> None:
    """Refuse a plan whose expected queries to a model with a budget exceed it."""
    problems = []
    for i, model in enumerate(resolved.models):
        budget = model.bound.params.get("budget")
        if white(model) or budget is None:
            continue
        planned = planned_queries(plan, model.bound)
        if planned > budget:
            says = f"the plan expects {planned:,} queries to {model.name!r}, more than its budget of {budget:,}"
            problems.append(document.problem(("models", i, "budget"), f"{says}; raise it or ask for less"))
    if problems:
        raise UsageError(problems)


def planned_queries(plan: Plan, bound: Bound) -> int:
    """Expected evaluations of one example that the jobs of this model make."""
    recipe = bound.recipe()
    return sum(job.cost.get("forward", 0) for job in plan.jobs.values() if job.recipe.get("model") == recipe)


def external_notes(resolved: Resolved, plan: Plan) -> tuple[str, ...]:
    """What a plan says about each model that runs elsewhere."""
    return tuple(
        f"{model.name}: about {planned_queries(plan, model.bound):,} queries to {model.bound.params.get('url')}"
        for model in resolved.models
        if model.bound.plugin.facts["external"]
    )


def standing_flags(model: ModelEntry, device: str) -> str:
    """The flags that every row of a model carries: runs elsewhere, trained without fixed bits, not trained."""
    if model.bound.plugin.facts["external"]:
        return "external"
    if random_weights(model):
        return "random_weights"
    return "nondeterministic" if model.train is not None and device != "cpu" else ""

"""Grids over outputs that are files (`use: outputs`): which system a model is, and what such a grid must not ask.

There is no network and there are no inputs: attacks, shifts and detectors that run a network are problems of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from testbed.errors import TestbedError, nearest
from testbed.grid.filters import kept
from testbed.grid.reader import Where
from testbed.grid.resolved import Bound, ConditionEntry, DataEntry, ModelEntry, Resolved

if TYPE_CHECKING:
    from testbed.data.outputs import RecordedOutputs


def is_outputs(bound: Bound) -> bool:
    """Whether a data set is files of outputs."""
    return bound.plugin.source is None and bound.plugin.name == "outputs"


def settle(models: Sequence[ModelEntry], data: Sequence[DataEntry]) -> list[ModelEntry]:
    """The models, those of outputs with the system that they are: the one named, or the only one there is.

    One without a name of its own is called by its system.
    """
    files = next((d for d in data if is_outputs(d.bound) and d.sizes), None)
    if files is None:
        return list(models)
    names = list(opened(files.bound).columns())
    return [_settled(one, names) if one.recorded else one for one in models]


def _settled(model: ModelEntry, names: Sequence[str]) -> ModelEntry:
    system = model.bound.params["system"] or (names[0] if len(names) == 1 else "")
    bound = replace(model.bound, params={**model.bound.params, "system": system})
    return replace(model, bound=bound, name=system if system and model.name == "outputs" else model.name)


def opened(bound: Bound) -> RecordedOutputs:
    """The files."""
    found: RecordedOutputs = bound.plugin.build(**bound.params)
    return found


def problems(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Everything that outputs and the rest of a grid cannot be together."""
    files = [(("data", i), one) for i, one in enumerate(resolved.data) if is_outputs(one.bound)]
    models = [one for one in resolved.models if one.recorded]
    if not files and not models and not any(is_outputs(o.bound) for o in resolved.ood):
        return
    if len(files) < len(resolved.data) or len(models) < len(resolved.models):
        yield from _mixed(resolved)
        return
    if all(one.sizes for _, one in files):
        first = opened(files[0][1].bound)
        yield from _sets(resolved, files, first)
        yield from _systems(resolved, first)
        yield from _read(resolved, first)
    for condition in (*resolved.conditions, *(c.fit for c in resolved.calibrators)):
        yield from _changed(resolved, condition, {"condition": condition.name})
    for one in resolved.ood:
        yield from _changed(resolved, one.condition, {"ood_set": one.name, "group": one.group})


def _mixed(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    for i, one in enumerate(resolved.models):
        if not one.recorded and any(is_outputs(d.bound) for d in resolved.data):
            says = f"the data are outputs without inputs, so the network {one.name!r} cannot be run on them"
            yield ("models", i), f"{says}; name a system of them: `{{use: outputs, system: NAME}}`"
        elif one.recorded and not all(is_outputs(d.bound) for d in resolved.data):
            yield (
                ("models", i),
                f"{one.name!r} is a file of outputs: its data are `use: outputs`, with no other data set",
            )
    for i, o in enumerate(resolved.grid.ood):
        if "outputs" in o.use and not any(is_outputs(d.bound) for d in resolved.data):
            yield ("ood", i), "outputs of an OOD set stand beside data that are outputs: `data: [{use: outputs, ...}]`"


def _sets(
    resolved: Resolved, files: Sequence[tuple[Where, DataEntry]], first: RecordedOutputs
) -> Iterator[tuple[Where, str]]:
    """All data sets and OOD sets hold the same systems, and what is measured has labels."""
    for number, (where, one) in enumerate(files):
        dataset = opened(one.bound) if number else first
        yield from ((where, says) for says in _unlike(first, dataset))
        if lacking := dataset.unlabelled():
            yield where, f"{one.name}: examples of {lacking!r} have no label; write `labels` (`label`) for all of them"
    for i, given in enumerate(resolved.grid.ood):
        for o in (o for o in resolved.ood if o.name == given.name or o.name in given.use):
            if not is_outputs(o.bound):
                says = f"{o.name!r} makes inputs, and no network is there to run on them"
                yield ("ood", i), f"{says}; give its outputs: `{{use: outputs, path: FILE}}`"
            elif o.size is not None:
                yield from ((("ood", i), says) for says in _unlike(first, opened(o.bound)))


def _unlike(first: RecordedOutputs, other: RecordedOutputs) -> Iterator[str]:
    try:
        mine, theirs = first.columns(), other.columns()
    except TestbedError:
        return  # a problem of its own
    if list(mine) != list(theirs) and len(mine) + len(theirs) > 2:
        yield f"holds outputs of {', '.join(theirs)}, the first data set of {', '.join(mine)}; give both the same files"
    elif list(mine.values()) != list(theirs.values()):
        shapes = [" and ".join(f"{c.classes} classes, {c.features} features" for c in one.values())
                  for one in (theirs, mine)]  # fmt: skip
        yield f"holds {shapes[0]}, the first data set {shapes[1]}; write the same columns"


def _systems(resolved: Resolved, first: RecordedOutputs) -> Iterator[tuple[Where, str]]:
    names = list(first.columns())
    for i, model in enumerate(resolved.models):
        system = model.bound.params["system"]
        if not system:
            yield ("models", i), f"say which system it is: `system:` one of {', '.join(names)}"
        elif system not in names:
            yield ("models", i, "system"), f"no file of a system {system!r}; {nearest(system, names)}"
        if model.feature_layer or model.variant or model.reading:
            key = "feature_layer" if model.feature_layer else "predict" if model.variant else "output"
            says = "is for networks; outputs are as they were written"
            yield ("models", i), f"`{key}` {says}" + ("; `given: probs` belongs to the data" if model.reading else "")


def _read(resolved: Resolved, first: RecordedOutputs) -> Iterator[tuple[Where, str]]:
    """Detectors and calibrators that read what a system's file does not hold."""
    columns, heads = first.columns(), first.heads()
    for model in resolved.models:
        system = model.bound.params["system"]
        if system not in columns:
            continue
        absent = {"inputs"} | (set() if columns[system].features else {"features"})
        absent |= set() if system in heads else {"head"}
        asked: list[tuple[str, int, str, set[str]]] = []
        for i, detector in enumerate(resolved.detectors):
            asked.append(("detectors", i, detector.name, set(detector.bound.plugin.facts["consumes"])))
        for i, calibrator in enumerate(resolved.calibrators):
            needs = set(calibrator.bound.plugin.facts["needs"]) & {"features"}
            asked.append(("calibrators", i, calibrator.name, needs))
        for key, i, name, reads in asked:
            if (lacks := reads & absent) and kept(resolved.grid, {"model": model.name, key[:-1]: name}):
                yield (key, i), _lacking(key[:-1], name, model.name, lacks)


_WAYS = {
    "inputs": "runs the network, which is not here; leave it out",
    "features": "reads features; write them (`features` [n d], or columns features_0 ...)",
    "head": "reads the last layer; write head_weight [k d] and head_bias [k] (.npz)",
}


def _lacking(kind: str, name: str, model: str, lacks: set[str]) -> str:
    first = next(one for one in _WAYS if one in lacks)
    return f"{kind} {name!r} on {model!r}, a file of outputs: it {_WAYS[first]}, or `exclude` the pair"


def _changed(resolved: Resolved, condition: ConditionEntry, row: dict[str, Any]) -> Iterator[tuple[Where, str]]:
    """A step of a condition, for which there is nothing to change."""
    models = [m.name for m in resolved.models if kept(resolved.grid, {"model": m.name, **row})]
    if condition.steps and models:
        step = condition.steps[0]
        says = f"{step.kind} {step.bound.plugin.name!r} changes inputs and runs the network again"
        yield condition.where, f"{says}; {models[0]!r} is a file of outputs, which has neither: leave it out"

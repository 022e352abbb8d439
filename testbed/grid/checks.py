"""What a resolved grid must satisfy as a whole: splits to fit on, sets to compare, filters that name what is there.

Each check is a function of the resolved grid that yields (where, message); the resolver gathers them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from testbed.data.splits import split_plan
from testbed.errors import TestbedError, nearest
from testbed.grid import across, recorded, second
from testbed.grid.attack_steps import detector_victims
from testbed.grid.black_boxes import black_boxes
from testbed.grid.curves import METRICS
from testbed.grid.pooled_jobs import groups, mean_name
from testbed.grid.protocol_checks import wrong_groups
from testbed.grid.reader import Where
from testbed.grid.resolved import DataEntry, Resolved
from testbed.grid.tuning import tuned_on_scored


def all_checks(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Every problem that concerns more than one entry."""
    yield from missing_splits(resolved)
    yield from circular_victims(resolved)
    yield from missing_mates(resolved)
    yield from missing_baseline(resolved)
    yield from missing_ood(resolved)
    yield from across.problems(resolved)
    yield from second.problems(resolved)
    yield from idle_filters(resolved)
    attacked = [*resolved.conditions, *(o.condition for o in resolved.ood), *(c.fit for c in resolved.calibrators)]
    yield from ((("detectors",), problem) for problem in detector_victims(attacked, resolved.detectors))
    yield from black_boxes(resolved)
    yield from recorded.problems(resolved)
    yield from idle_spectrum(resolved)
    yield from wrong_groups(resolved)
    yield from tuned_on_scored(resolved)


def missing_splits(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Every split that something is fitted or trained on must hold examples."""
    wants = [("calibration", f"calibrator {c.name!r}") for c in resolved.calibrators if c.bound.plugin.name != "none"]
    wants += [(d.fit, f"detector {d.name!r}") for d in resolved.detectors if d.fit]
    wants += [("calibration", f"tuning detector {d.name!r}") for d in resolved.detectors if d.tune]
    wants += [("train", f"training model {m.name!r}") for m in resolved.models if m.train]
    wants += [
        ("calibration", f"metric {m.plugin.name!r}") for m in resolved.metrics if m.plugin.facts["needs"] == "source"
    ]
    for i, entry in enumerate(resolved.data):
        lacking = [(split, who) for split, who in wants if entry.sizes and split not in splits_of(entry)]
        for split, who in lacking[:1]:
            yield ("data", i), f"{who} needs the {split} split, which is empty here; give `{split}: N`"


def splits_of(entry: DataEntry) -> set[str]:
    """The splits of a data set that hold examples; all where the numbers do not fit (a problem of its own)."""
    train, calibration, test = (entry.counts[name] for name in ("train", "calibration", "test"))
    try:
        draws = split_plan(entry.sizes, train=train, calibration=calibration, test=test, limit=entry.limit)
    except TestbedError:
        return {"train", "calibration", "test"}
    return {name for name, draw in draws.items() if draw.count}


def circular_victims(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """A calibrator fitted on the attacked set's own outputs cannot also be attacked: neither would come first."""
    for condition in resolved.conditions:
        attack = condition.last("attack")
        if attack is None or attack.victim != "calibrated":
            continue
        label = attack.bound.plugin.facts["objective"] == "label"
        for one in resolved.calibrators:
            if one.unlabelled and not (label and one.bound.plugin.facts["argmax_preserving"]):
                says = "is fitted on the outputs of the attacked set itself; leave it out, or attack the model"
                yield ("conditions",), f"{condition.label()!r} attacks through calibrator {one.name!r}, which {says}"


def missing_mates(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Accuracy by disagreement needs a second training run: another seed, or a model that is named."""
    known = [m.name for m in resolved.models]
    for i, metric in enumerate(resolved.metrics):
        if metric.plugin.facts["needs"] != "mate":
            continue
        name, other = metric.plugin.name, str(metric.params.get("against", ""))
        if other and other not in known:
            yield ("metrics", i, "against"), f"no model {other!r} in this grid; {nearest(other, known)}"
        elif not other and (len(resolved.grid.train_seeds) < 2 or any(m.train is None for m in resolved.models)):
            says = "compares two training runs: give trained models at least two `train_seeds`, or `against: MODEL`"
            yield ("metrics", i), f"{name!r} {says}"


def missing_baseline(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """`compare` names a calibrator of the grid, which has others to compare with it and a split to learn sets from."""
    name, known = resolved.grid.compare, [c.name for c in resolved.calibrators]
    if name is None:
        return
    if name not in known:
        yield ("compare",), f"no calibrator {name!r} in this grid; {nearest(name, known)}"
    elif len(known) < 2:
        yield ("compare",), f"compares every calibrator with {name!r}, and the grid has no other"


def missing_ood(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """A metric of two sets of scores needs a detector and a set to detect."""
    if resolved.grid.detectors and resolved.grid.ood:
        return
    for i, metric in enumerate(resolved.metrics):
        if metric.plugin.facts["needs"] in ("scores", "failures"):
            name = metric.plugin.name
            yield ("metrics", i), f"{name!r} compares detector scores of two sets: the grid needs `detectors` and `ood`"


def idle_spectrum(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Full-spectrum rows pool the clean test set with shifted ones: both must be conditions of the grid."""
    chosen = resolved.grid.full_spectrum
    if not chosen:
        return
    shifts = sorted({c.name for c in resolved.conditions if c.kind == "shift"})
    if not shifts or not any(c.kind == "clean" for c in resolved.conditions):
        yield ("full_spectrum",), "pools the clean test set with shifted ones: the grid needs `clean` and a shift"
    for name in chosen if isinstance(chosen, list) else ():
        if name not in shifts:
            yield ("full_spectrum",), f"no shift {name!r} among the conditions; {nearest(name, shifts)}"


def idle_filters(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """A filter that names something the grid does not have is a mistake, not an empty result."""
    known = known_values(resolved)
    for key in ("include", "exclude"):
        for i, one in enumerate(getattr(resolved.grid, key)):
            given = {column: values for column, values in one.model_dump(exclude_none=True).items() if column in known}
            for column, values in given.items():
                for value in (v for v in values if v not in known[column]):
                    known_text = nearest(str(value), map(str, known[column]))
                    yield (key, i, column), f"no {column} {value!r} in this grid; {known_text}"


def known_values(resolved: Resolved) -> dict[str, set[Any]]:
    """The values that each column of the results can take."""
    named_groups = {mean_name(group) for group, _ in groups(resolved.ood, resolved.ood_labels)}
    grid, kinds = resolved.grid, {"clean", "shift", "attack", "chain", "worst", "full_spectrum", "aggregate"}
    return {
        "dataset": {d.name for d in resolved.data},
        "model": {m.name for m in resolved.models},
        "condition": {c.name for c in resolved.conditions} | {"worst", "full_spectrum", *across.ALL.values()},
        "kind": kinds,
        "calibrator": {c.name for c in resolved.calibrators},
        "detector": {d.name for d in resolved.detectors},
        "ood_set": {o.name for o in resolved.ood} | named_groups,
        "group": {o.group for o in resolved.ood},
        "metric": {m.plugin.name for m in resolved.metrics} | {"audit", *METRICS},
        "seed": set(grid.seed),
        "train_seed": set(grid.train_seeds),
    }

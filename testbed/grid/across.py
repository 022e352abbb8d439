"""Rows of one model that are over several conditions (mCE, mean error, worst shift ...), and those over its groups.

An aggregate is planned once a calibrator: one job that reads the outputs of every shift, and where it needs baselines
also those of other models of the grid under the same shifts. No image is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from testbed.condition import combined
from testbed.digest import canonical
from testbed.errors import TestbedError, nearest
from testbed.grid.jobs import SetRef
from testbed.grid.reader import Where
from testbed.grid.resolved import CLEAN, Bound, CalibratorEntry, ConditionEntry, Resolved, Step, apart
from testbed.plugins import read

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan

#: What stands in the column `condition` of an aggregate, by what it is over.
ALL = {"shifts": "all shifts", "sequences": "all sequences"}


def over(condition: ConditionEntry) -> str | None:
    """Which aggregates a condition enters: those over "shifts" or over "sequences"; None for other conditions."""
    if any(films(step) for step in condition.steps):
        return "sequences"
    return "shifts" if condition.kind == "shift" else None


def films(step: Step) -> bool:
    """Whether a step makes a perturbation sequence of each example."""
    return step.kind == "shift" and step.bound.plugin.facts["level"] == "frames"


class Across:
    """Plans what is over all conditions of one model."""

    def __init__(self, model: ModelPlan) -> None:
        self.model, self.jobs, self.planner = model, model.jobs, model.planner
        self.seen: list[tuple[ConditionEntry, SetRef]] = []

    def saw(self, condition: ConditionEntry, target: SetRef) -> None:
        """Note the set of a condition, so that the aggregates are over what the filters kept."""
        if over(condition):
            self.seen.append((condition, target))

    def groups(
        self, row: Mapping[str, Any], target: SetRef, outputs: str, calibrators: Sequence[CalibratorEntry], label: str
    ) -> None:
        """The cells of metrics that read the groups; a job of their own, since only some sets have any."""
        for calibrator in calibrators:
            full = {**row, "calibrator": calibrator.name, "fit": calibrator.fitted_on}
            kept = self.kept(self.planner.by_needs.get("groups", []), full)
            if not kept:
                continue
            fitted = self.model.fitted(calibrator, outputs)
            inputs = {"outputs": [outputs], "names": target.digests, "calibrator": fitted}
            for some in apart(kept):
                fields = {**self.jobs.metrics(some, self.model.seed), **self.model.calibrator_code(calibrator)}
                digest = self.jobs.add("score_groups", fields, inputs, f"groups of {label} {calibrator.name}")
                self.cells(full, some, digest)

    def sequence(
        self,
        row: Mapping[str, Any],
        condition: ConditionEntry,
        outputs: str,
        calibrators: Sequence[CalibratorEntry],
        label: str,
    ) -> None:
        """The cells of the metrics of frames under one perturbation sequence."""
        for calibrator in calibrators:
            full = {**row, "calibrator": calibrator.name, "fit": calibrator.fitted_on}
            kept = self.kept(self.planner.by_needs.get("frames", []), full)
            if not kept:
                continue
            inputs = {"outputs": [outputs], "calibrator": self.model.fitted(calibrator, outputs)}
            for some in apart(kept):
                fields = {**self.jobs.metrics(some, self.model.seed), **self.model.calibrator_code(calibrator)}
                fields |= {"noise": noisy(condition)}
                digest = self.jobs.add("score_frames", fields, inputs, f"frames of {label} {calibrator.name}")
                self.cells(full, some, digest)

    def aggregates(self) -> None:
        """The cells of the metrics over all conditions, under each calibrator."""
        for kind, name in ALL.items():
            seen = [condition for condition, _ in self.seen if over(condition) == kind]
            params, ids = canonical(contents(seen)), [condition.id for condition in seen]
            row = {**self.model.row, **combined("aggregate", name, params=params, of=ids)}
            metrics = [m for m in self.planner.by_needs.get("conditions", []) if built(m).over == kind]
            for calibrator in self.model.resolved.calibrators if metrics else ():
                full = {**row, "calibrator": calibrator.name, "fit": calibrator.fitted_on}
                kept = self.kept(metrics, full)
                if kept:
                    self.cells(full, kept, self.aggregate(kept, calibrator, kind))

    def kept(self, metrics: Sequence[Bound], row: Mapping[str, Any]) -> list[Bound]:
        return [m for m in metrics if self.planner.wanted({**row, "metric": m.plugin.name})]

    def cells(self, row: Mapping[str, Any], metrics: Sequence[Bound], digest: str) -> None:
        for position, metric in enumerate(metrics):
            self.model.cell({**row, **metric.columns()}, digest, position)

    def aggregate(self, metrics: Sequence[Bound], calibrator: CalibratorEntry, kind: str) -> str:
        """The job that measures every point (model, condition) and combines them."""
        names = list(dict.fromkeys(name for metric in metrics for name in built(metric).others))
        points: list[dict[str, Any]] = []
        inputs: dict[str, Sequence[str]] = {}
        for owner, plan in [("", self.model), *((name, self.model.sibling(name)) for name in names)]:
            sets = [(c, s) for c, s in self.seen if over(c) == kind]
            sets = sets if kind == "sequences" else [(CLEAN, self.model.clean), *sets]
            for condition, target in sets:
                outputs = self.jobs.forward(plan.model, target, condition.label())
                inputs[f"outputs{len(points)}"] = [outputs]
                inputs[f"calibrator{len(points)}"] = plan.fitted(calibrator, outputs)
                points.append({"model": owner, **point(condition)})
        fields = {**self.jobs.metrics(metrics, self.model.seed), **self.model.calibrator_code(calibrator)}
        label = f"{ALL[kind]} of {self.model.entry.name} {calibrator.name}"
        return self.jobs.add("aggregate", {**fields, "points": points}, inputs, label)


def point(condition: ConditionEntry) -> dict[str, Any]:
    """What an aggregate must know of a condition; `shift` is None for clean data."""
    if not condition.steps:
        return {"shift": None, "severity": None}
    plain = {"shift": condition.name, "severity": condition.steps[-1].severity}
    return {**plain, "noise": noisy(condition)} if over(condition) == "sequences" else plain


def noisy(condition: ConditionEntry) -> bool:
    """Whether the frames of a sequence are compared with the first one."""
    return bool(getattr(built(condition.steps[-1].bound), "noise", False))


def contents(conditions: Iterable[ConditionEntry]) -> list[dict[str, Any]]:
    """What an aggregate is over, for the column `params`: the shifts with their severities."""
    found: dict[str, list[float | None]] = {}
    for condition in conditions:
        found.setdefault(condition.name, []).append(condition.steps[-1].severity)
    return [{"use": name, "severities": severities} for name, severities in found.items()]


def built(bound: Bound) -> Any:
    """An installed plug-in itself, to be asked what it needs."""
    return bound.plugin.build(**bound.params)


def problems(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """What metrics of conditions and of groups need of the grid and it does not have."""
    for i, metric in enumerate(resolved.metrics):
        if metric.plugin.facts["needs"] == "groups" and metric.params.get("by") != "class":
            for data in resolved.data:
                if data.bound.plugin.source is None and not getattr(built(data.bound), "grouped", False):
                    says = f"data set {data.name!r} has no groups; `by: class` takes its classes"
                    yield ("metrics", i), f"metric {metric.plugin.name!r}: {says}"
    yield from sequence_problems(resolved)
    yield from aggregate_problems(resolved)


def sequence_problems(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """Sequences that nothing is measured of or that something follows, and metrics of frames without a sequence."""
    sequences = [c for c in resolved.conditions if over(c) == "sequences"]
    needs = [metric.plugin.facts["needs"] for metric in resolved.metrics]
    measured = "frames" in needs or any(
        built(m).over == "sequences"
        for m in resolved.metrics
        if m.plugin.facts["needs"] == "conditions" and m.plugin.source is None
    )
    for condition in sequences:
        if any(films(step) for step in condition.steps[:-1]) or not films(condition.steps[-1]):
            yield ("conditions",), f"condition {condition.name!r}: a sequence must be the last step"
    if sequences and not measured:
        says = "is a sequence, of which no metric is asked for; add flip_probability or top5_distance"
        yield ("conditions",), f"condition {sequences[0].name!r} {says}"
    if "frames" in needs and not sequences:
        at = needs.index("frames")
        says = "needs a perturbation sequence among the conditions, as tilt_sequence"
        yield ("metrics", at), f"metric {resolved.metrics[at].plugin.name!r} {says}"
    where = [(f"calibrator {c.name!r}", c.fit) for c in resolved.calibrators]
    where += [(f"ood set {o.name!r}", o.condition) for o in resolved.ood]
    for who, condition in where:
        if over(condition) == "sequences":
            yield (), f"{who}: a perturbation sequence can only be a condition of the test set"


def aggregate_problems(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """What aggregates need of the grid and it does not have."""
    severities: dict[str, dict[str, list[float | None]]] = {"shifts": {}, "sequences": {}}
    for condition in resolved.conditions:
        if kind := over(condition):
            severities[kind].setdefault(condition.name, []).append(condition.steps[-1].severity)
    models = [model.name for model in resolved.models]
    for i, metric in enumerate(resolved.metrics):
        if metric.plugin.facts["needs"] != "conditions":
            continue
        where, name = ("metrics", i), metric.plugin.name
        if metric.plugin.source is not None:
            yield where, f"metric {name!r}: over all conditions, it is asked what it needs: it must be installed code"
            continue
        aggregate = built(metric)
        if lack := aggregate.lacks(severities[aggregate.over]):
            yield where, f"metric {name!r}: {lack}"
        for other in aggregate.others:
            if other not in models:
                yield where, f"metric {name!r}: no model {other!r} in this grid; {nearest(other, models)}"
        try:
            needs = read("metric", aggregate.measured).facts["needs"]
        except TestbedError as error:
            yield where, f"metric {name!r}: {error}"
            continue
        if needs not in ("probs", "confidence", "frames"):
            yield where, f"metric {name!r}: {aggregate.measured!r} is not a metric of one condition"

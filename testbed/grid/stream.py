"""Stream file -> plan: the jobs that a grid would plan for the same sets, model and calibrators, and one replay.

A stream shares its artifacts with every grid that names the same things. The replay is a job like any other: running a
stream again runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.errors import UsageError, nearest
from testbed.grid import model as schema
from testbed.grid import stream_model
from testbed.grid.checks import missing_splits
from testbed.grid.plan import Cell, Plan
from testbed.grid.planner import ModelPlan, Planner
from testbed.grid.problems import schema_problems
from testbed.grid.reader import Document, Where, override, read_file
from testbed.grid.recorded import is_outputs
from testbed.grid.resolve import Resolver
from testbed.grid.resolved import CLEAN, Bound, CalibratorEntry, ConditionEntry, DataEntry, ModelEntry, Resolved
from testbed.grid.sizes import too_many
from testbed.grid.stream_model import Stream


@dataclass(frozen=True)
class StreamEntry:
    """A stream after resolution; `places[i]` are the positions of segment i's conditions in `conditions`."""

    stream: Stream
    resolved: Resolved
    data: DataEntry
    model: ModelEntry
    calibrators: tuple[CalibratorEntry, ...]
    conditions: tuple[ConditionEntry, ...]
    places: tuple[tuple[int, ...], ...]
    metric: Bound | None


def plan_stream(path: str | Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan of a stream file; its only cell is the replay. UsageError with all problems if there are any."""
    document = read_file(path, "stream")
    override(document, overrides)
    return replace(make_stream_plan(resolve_stream(document)), overrides=tuple(overrides))


def resolve_stream(document: Document) -> StreamEntry:
    """The resolved stream; UsageError with every problem found."""
    if not isinstance(document.value, dict):
        says = f"expected a mapping with name, data, model, stream ..., got {document.value!r}"
        raise UsageError([document.problem((), says)])
    try:
        stream = Stream.model_validate(document.value)
    except ValidationError as error:
        raise UsageError(schema_problems(document, error, top=Stream)) from None
    large = too_many([(("stream", i, "condition"), one.condition) for i, one in enumerate(stream.stream)], 1)
    if problems := [document.problem(where, says) for where, says in large]:
        raise UsageError(problems)
    return _Reading(document, stream).run()


class _Reading:
    def __init__(self, document: Document, stream: Stream) -> None:
        self.stream = stream
        grid = schema.Grid(
            name=stream.name, seed=[stream.seed], train_seeds=[stream.train_seed], data=[stream.data],
            models=[stream.model], calibrators=stream.calibrators, keep=stream.keep, runtime=stream.runtime,
        )  # fmt: skip
        self.grid, self.file = grid, document.file
        self.resolver = Resolver(document, grid)

    def run(self) -> StreamEntry:
        """Look everything up; UsageError with every problem found."""
        resolver, stream = self.resolver, self.stream
        data = resolver.data(("data",), stream.data)
        resolver.kinds = {data.spec.kind} if data and data.spec else set()
        model = resolver.model(("model",), stream.model)
        resolver.model_names = [model.name] if model else []
        if (model and model.recorded) or (data and is_outputs(data.bound)):
            resolver.fail(("data",), "a stream runs a network on inputs; files of outputs go through a grid")
        segments = [self.segment(i, one) for i, one in enumerate(stream.stream)]
        calibrators = resolver.each("calibrators", stream.calibrators, resolver.calibrator)
        resolver.unique("calibrators", calibrators, "calibrator")
        metric = self.metric()
        self.fits(calibrators)
        self.drift()
        self.lengths()
        found = (data,) if data else (), (model,) if model else (), (CLEAN,), tuple(calibrators), (), (), ()
        resolved = Resolved(self.grid, self.file, *found, tuple(resolver.notes))
        for _, message in missing_splits(resolved):
            resolver.fail(("data",), message)
        if resolver.problems or data is None or model is None:
            raise UsageError(resolver.problems)
        conditions, places = _numbered(segments)
        return StreamEntry(stream, resolved, data, model, tuple(calibrators), conditions, places, metric)

    def segment(self, i: int, one: stream_model.Segment) -> list[ConditionEntry]:
        """The conditions of a segment."""
        where: Where = ("stream", i)
        fail = self.resolver.fail
        found = self.resolver.condition((*where, "condition"), one.condition)
        for condition in found:
            victim = next((s.victim for s in condition.steps if s.kind == "attack" and s.victim != "model"), None)
            if victim:
                fail((*where, "condition", "victim"), f"a stream's attacks are made against the model, got {victim!r}")
        if one.change == "ramp" and len(found) == 1:
            fail((*where, "condition"), "a ramp needs several severities or radii, one after the other; this is one")
        if one.change != "ramp" and len(found) > 1:
            says = f"names {len(found)} conditions; only `change: ramp` goes through several"
            fail((*where, "condition"), says)
        if i == 0 and one.change in ("gradual", "recurring"):
            fail((*where, "change"), f"the first segment has nothing before it that a {one.change} change starts from")
        for key, change in (("over", "gradual"), ("period", "recurring")):
            given = getattr(one, key)
            if given is not None and one.change != change:
                fail((*where, key), f"goes with `change: {change}`, this is {one.change}")
            elif given is not None and given > one.steps:
                fail((*where, key), f"expected at most the segment's {one.steps} steps, got {given}")
        return found

    def metric(self) -> Bound | None:
        """The metric of the rollback rule."""
        rule = self.stream.rollback
        if rule is None:
            return None
        bound = self.resolver.bind("metric", ("rollback", "metric"), schema.Use(use=rule.metric))
        if bound is not None and bound.plugin.facts["needs"] != "probs":
            says = f"{rule.metric!r} does not compare probabilities; {nearest(rule.metric, ['nll', 'brier', 'ece'])}"
            self.resolver.fail(("rollback", "metric"), says)
        return bound

    def fits(self, calibrators: Sequence[CalibratorEntry]) -> None:
        """Calibrators that need what a stream does not have."""
        for i, one in enumerate(calibrators):
            if "unlabelled" in one.bound.plugin.facts.get("needs", ()):
                says = "is fitted on unlabelled target data, which a stream does not have before it begins"
                self.resolver.fail(("calibrators", i), f"calibrator {one.name!r} {says}")

    def drift(self) -> None:
        """A permutation test whose smallest p-value is not below the level could never raise an alarm."""
        drift = self.stream.drift
        if "mmd" in drift.detectors and 1 / (drift.permutations + 1) >= drift.level:
            says = f"mmd cannot reach a level of {drift.level:g}; give at least {int(1 / drift.level) + 1} permutations"
            self.resolver.fail(("drift", "permutations"), says)
        if len(set(drift.detectors)) < len(drift.detectors):
            self.resolver.fail(("drift", "detectors"), "a detector is named twice")

    def lengths(self) -> None:
        """A delay or a window that is given and longer than the stream: nothing would ever come of it."""
        stream = self.stream
        length = sum(one.steps for one in stream.stream)
        if stream.label_delay >= length:
            says = f"expected less than the stream's {length} steps, got {stream.label_delay}: no label would arrive"
            self.resolver.fail(("label_delay",), says)
        for name, part in (("rolling", stream.rolling), ("drift", stream.drift), ("rollback", stream.rollback)):
            if part is not None and "window" in part.model_fields_set and part.window > length:
                says = f"expected at most the stream's {length} steps, got {part.window}: the window would never fill"
                self.resolver.fail((name, "window"), says)


def _numbered(
    segments: Sequence[Sequence[ConditionEntry]],
) -> tuple[tuple[ConditionEntry, ...], tuple[tuple[int, ...], ...]]:
    """Every condition once, the reference (clean) first, and the positions of each segment's."""
    conditions: list[ConditionEntry] = [CLEAN]
    for one in (c for segment in segments for c in segment):
        if one not in conditions:
            conditions.append(one)
    return tuple(conditions), tuple(tuple(conditions.index(c) for c in segment) for segment in segments)


def make_stream_plan(entry: StreamEntry) -> Plan:
    """The jobs of a resolved stream."""
    stream, planner = entry.stream, Planner(entry.resolved)
    work = ModelPlan(planner, entry.data, stream.seed, entry.model, stream.train_seed)
    jobs = planner.jobs
    work.model = jobs.model(entry.model, entry.data, stream.seed, stream.train_seed)
    work.clean = jobs.split(entry.data, "test", stream.seed)
    inputs: dict[str, list[str]] = {}
    for i, condition in enumerate(entry.conditions):
        target = work.apply(work.clean, condition, None)
        inputs[f"outputs{i}"] = [jobs.forward(work.model, target, condition.label())]
    calibration = jobs.split(entry.data, "calibration", stream.seed)
    inputs["calibration"] = [jobs.forward(work.model, calibration, "calibration clean")]
    codes = []
    for i, one in enumerate(entry.calibrators):
        inputs[f"calibrator{i}"] = work.fitted(one, inputs["outputs0"][0])
        codes.append({"name": one.name, **work.calibrator_code(one)})
    fields = {
        "conditions": [c.label() for c in entry.conditions],
        "titles": _titles(entry),
        "segments": _segments(entry),
        "calibrators": codes,
        "settings": _settings(stream),
        "metric": jobs.code(entry.metric) if entry.metric else None,
    }
    digest = jobs.add("replay", fields, inputs, f"replay {stream.name}")
    cell = Cell({**work.row, "metric": "stream"}, digest, 0)
    plain = {"stream": stream.model_dump(mode="json")}
    return Plan(stream.name, plain, jobs.jobs, (cell,), (), (), jobs.sources, jobs.files, entry.resolved.notes,
                stream.keep, entry.resolved.file)  # fmt: skip


def _segments(entry: StreamEntry) -> list[dict[str, Any]]:
    """The segments as a recipe has them: positions of conditions, and all defaults filled in."""
    return [
        {
            "conditions": list(places), "steps": one.steps, "change": one.change,
            "over": (one.over or one.steps) if one.change == "gradual" else 0,
            "period": (one.period or max(1, one.steps // 4)) if one.change == "recurring" else 0,
            "wrong_labels": one.wrong_labels,
        }
        for one, places in zip(entry.stream.stream, entry.places, strict=True)
    ]  # fmt: skip


def _titles(entry: StreamEntry) -> list[str]:
    """A segment in a few words: "fog s3 mixed into clean"."""
    titles: list[str] = []
    before = CLEAN.label()
    for one, places in zip(entry.stream.stream, entry.places, strict=True):
        first, last = (entry.conditions[places[i]].label() for i in (0, -1))
        said = {
            "sudden": last, "gradual": f"{last} mixed into {before}", "ramp": f"{first} to {last}",
            "recurring": f"{last} and {before} in turn",
        }[one.change]  # fmt: skip
        titles.append(said + (f", {one.wrong_labels:.0%} wrong labels" if one.wrong_labels else ""))
        before = last
    return titles


def _settings(stream: Stream) -> dict[str, Any]:
    drift = stream.drift.model_dump()
    return {
        "seed": stream.seed, "batch": stream.batch, "label_delay": stream.label_delay,
        "conformal": stream.conformal.model_dump(), "drift": {**drift, "every": drift["every"] or drift["window"]},
        "rolling": stream.rolling.model_dump(),
        "rollback": stream.rollback.model_dump() if stream.rollback else None,
    }  # fmt: skip

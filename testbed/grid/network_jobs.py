"""Jobs of detectors that run the network themselves: planned with their passes, since nothing cached can serve them.

They read examples, not outputs, so each (model, set) costs passes of its own. A worst case over attacks is no set; its
scores are picked, example by example, from those of the attacked sets, by the rule that picked its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.grid.jobs import Jobs, ModelRef, SetRef
from testbed.grid.resolved import Bound, DetectorEntry


def runs_network(bound: Bound) -> bool:
    """Whether a detector reads inputs, and so runs the network."""
    return "inputs" in bound.plugin.facts["consumes"]


def evaluations(bound: Bound, n: int | None, fitting: bool) -> dict[str, int | None]:
    """Forward and gradient evaluations of n examples, as the detector states them; none where only a job can tell."""
    if n is None or bound.plugin.source is not None:
        return {}
    detector = bound.plugin.build(**bound.params)
    passes: Mapping[str, int] = detector.fit_passes if fitting else detector.passes_of()
    return {kind: n * count for kind, count in passes.items()}


def bank(jobs: Jobs, entry: DetectorEntry, model: ModelRef, target: SetRef) -> str:
    """A detector fitted on the examples of a split, with the network at hand."""
    return jobs.add(
        "bank_network",
        {**jobs.network(model), "detector": jobs.code(entry.bound), "runtime": jobs.runtime},
        _inputs(model, target),
        f"fit {entry.name} for {model.entry.name}",
        evaluations(entry.bound, target.n, fitting=True),
        jobs.gpus,
    )


def detect(jobs: Jobs, entry: DetectorEntry, model: ModelRef, bank: str | None, target: SetRef, label: str) -> str:
    """A detector's scores of the examples of a set."""
    return jobs.add(
        "detect_network",
        {**jobs.network(model), "detector": jobs.code(entry.bound), "runtime": jobs.runtime},
        {**_inputs(model, target), "bank": [bank] if bank else []},
        f"score {entry.name} on {label}",
        evaluations(entry.bound, target.n, fitting=False),
        jobs.gpus,
    )


def pick(jobs: Jobs, outputs: Sequence[str], scores: Sequence[str], label: str) -> str:
    """The scores of the attacked example that a worst case picked, for each example."""
    rule: dict[str, Any] = {"rule": "first fooled, else highest loss", "attacks": len(outputs)}
    return jobs.add("detect_worst", rule, {"outputs": outputs, "scores": scores}, label)


def _inputs(model: ModelRef, target: SetRef) -> dict[str, Sequence[str]]:
    return {"set": target.digests, "weights": model.weights, "describe": [model.describe]}

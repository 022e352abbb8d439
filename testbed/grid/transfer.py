"""The cells of metrics that need more than one set's outputs.

needs "source"  labelled outputs of the calibration split under the calibrator's own fit condition (clean for `none`):
                conformal sets, accuracy estimated without labels
needs "mate"    another training run's predictions of the same examples: accuracy by disagreement
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from testbed.grid.attacked import surrogate
from testbed.grid.jobs import ModelRef, SetRef
from testbed.grid.resolved import Bound, CalibratorEntry, apart

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan

NEEDS = ("source", "mate")


def cells(model: ModelPlan, row: Mapping[str, Any], outputs: str, target: SetRef | None,
          calibrator: CalibratorEntry, label: str) -> None:  # fmt: skip
    """Plan the cells of one model on one set under one calibrator.

    target  the examples, which a mate must see too; None where the outputs are picked from several sets
    """
    for metrics, extra in _asked(model, row, target, calibrator, label):
        fields = {**model.jobs.metrics(metrics, model.seed), **model.calibrator_code(calibrator)}
        inputs = {"outputs": [outputs], "calibrator": model.fitted(calibrator, outputs), **extra}
        digest = model.jobs.add("score_transfer", fields, inputs, f"score {label} {calibrator.name}")
        for position, metric in enumerate(metrics):
            model.cell({**row, **metric.columns()}, digest, position)


def _asked(
    model: ModelPlan, row: Mapping[str, Any], target: SetRef | None, calibrator: CalibratorEntry, label: str
) -> Iterator[tuple[list[Bound], dict[str, Sequence[str]]]]:
    """Metrics that share a job, and the inputs of it that they need."""

    def kept(need: str) -> list[Bound]:
        planner = model.planner
        return [m for m in planner.by_needs.get(need, []) if planner.wanted({**row, "metric": m.plugin.name})]

    for metrics in apart(kept("source")):
        yield metrics, {"source": [model.source(calibrator)]}
    for metric in kept("mate") if target is not None else []:
        assert target is not None
        mate = _mate(model, str(metric.params.get("against", "")))
        yield [metric], {"mate": [model.jobs.forward(mate, target, f"{label} (mate)")]}


def _mate(model: ModelPlan, name: str) -> ModelRef:
    """The other training run: a named model of the grid, else this one with the next training seed."""
    if name:
        return surrogate(model, name)
    seeds = model.planner.grid.train_seeds
    after = seeds[(seeds.index(model.given_train_seed) + 1) % len(seeds)]
    return model.jobs.model(model.entry, model.data, model.seed, after)

"""The comparisons of a grid: each calibrator with the one that `compare` names, on the same examples.

One job a condition and calibrator; regressions.parquet gathers them (see `testbed.runner.regressions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from testbed.grid.plan import Sample
from testbed.grid.resolved import CalibratorEntry

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan


def compare(
    model: ModelPlan, row: Mapping[str, Any], outputs: str, calibrators: Sequence[CalibratorEntry], label: str
) -> None:
    """Plan what each of the calibrators changed on one set of outputs, where the grid asks for it."""
    base = next((c for c in model.resolved.calibrators if c.name == model.planner.grid.compare), None)
    if base is None:
        return
    for one in calibrators:
        full = {**row, "calibrator": one.name, "fit": one.fitted_on}
        if one is base or not model.planner.wanted(full):
            continue
        code = {"before": model.calibrator_code(base), "after": model.calibrator_code(one)}
        fields = {**code, "seed": model.seed, "intervals": model.planner.grid.intervals.model_dump()}
        sides = {
            "before": model.fitted(base, outputs),
            "after": model.fitted(one, outputs),
            "source_before": [model.source(base)],
            "source_after": [model.source(one)],
        }
        digest = model.jobs.add("recalibrated", fields, {"outputs": [outputs], **sides}, f"compare {label} {one.name}")
        model.planner.comparisons.append(Sample(full, digest))

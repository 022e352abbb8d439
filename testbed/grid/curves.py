"""Security curves of a grid: the budgets of one attack planned as one sweep, and the two numbers of the whole curve.

`curve: true` on an attack condition with several eps: one job a shard takes every example down the budgets
(`testbed.perturb.levels`), and a small one for each budget hands on what it left there. Each budget has its own rows as
always; the area under the curve and the median minimal distance are rows without an eps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from testbed.condition import columns
from testbed.grid.jobs import SetRef
from testbed.grid.resolved import CalibratorEntry, ConditionEntry

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan

#: The rows of a whole curve, in the order of the job's rows.
METRICS = ("robust_area", "median_distance")


@dataclass(frozen=True)
class Level:
    """One budget of a curve: what the model gave on the attacked set."""

    eps: float | None
    outputs: str
    target: SetRef


@dataclass
class Curves:
    """The levels of each curve of one model, gathered while its conditions are planned."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    levels: dict[str, list[Level]] = field(default_factory=dict)

    def note(
        self, condition: ConditionEntry, through: CalibratorEntry | None, row: Mapping[str, Any], level: Level
    ) -> None:
        """Remember a condition that is one budget of a curve; `through` is the calibrator of a calibrated victim."""
        step = condition.steps[0] if condition.kind == "attack" else None
        if step is None or not step.curve or not step.eps:
            return
        (plain,) = condition.plain(through)
        params = {name: value for name, value in plain.params.items() if name != "eps"}
        whole = {**row, **columns(condition.name, [replace(plain, eps=None, params=params)])}
        key = whole["condition_id"]
        self.rows.setdefault(key, whole)
        if level not in self.levels.setdefault(key, []):  # calibrators that differ in name alone share one
            self.levels[key].append(level)

    def cells(self, plan: ModelPlan) -> None:
        """The cells of every curve that has at least two budgets."""
        for key, levels in self.levels.items():
            wanted = [name for name in METRICS if plan.planner.wanted({**self.rows[key], "metric": name})]
            if len(levels) < 2 or not wanted:
                continue
            digest = _job(plan, sorted(levels, key=lambda one: one.eps or 0.0), self.rows[key]["condition"])
            for name in wanted:
                plan.cell({**self.rows[key], "metric": name}, digest, METRICS.index(name))


def _job(plan: ModelPlan, levels: Sequence[Level], name: str) -> str:
    inputs: dict[str, Sequence[str]] = {"clean": [plan.jobs.forward(plan.model, plan.clean, "clean")]}
    inputs |= {f"outputs{i}": [one.outputs] for i, one in enumerate(levels)}
    inputs |= {f"ledger{i}": one.target.attacks for i, one in enumerate(levels)}
    fields = {"eps": [one.eps for one in levels], "level": plan.planner.grid.intervals.level}
    return plan.jobs.add("curve", fields, inputs, f"curve {name} on {plan.entry.name}")

"""The rows of an attack that runs every restart on every example: what papers report beside the worst case over starts.

accuracy:restart_mean   the average over restarts of the robust accuracy that each leaves; never below `accuracy`
accuracy:restart_std    its sample standard deviation over restarts
accuracy:restart        each restart's own, one row each, told apart by `convention`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from testbed.grid.jobs import SetRef
from testbed.grid.resolved import Bound, Step

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan

#: The rows, in the order of the job's positions.
METRICS: Final = ("accuracy:restart_mean", "accuracy:restart_std", "accuracy:restart")


def apart(bound: Bound) -> int:
    """How many restarts a built-in attack judges one by one; 0 for all that give one result."""
    if bound.plugin.source is not None:
        return 0
    return int(getattr(bound.plugin.build(**bound.params), "restarts_apart", 0))


def cells(plan: ModelPlan, row: Mapping[str, Any], step: Step, target: SetRef, label: str) -> None:
    """The cells of one attacked set, where its attack is on the model that is scored and keeps its restarts apart."""
    count = apart(step.bound) if step.victim.partition(":")[0] in ("model", "calibrated", "bpda") else 0
    wanted = [name for name in METRICS if count and plan.planner.wanted({**row, "metric": name})]
    if not wanted:
        return
    digest = plan.jobs.add("restarts", {"restarts": count}, {"ledger": target.attacks}, f"restarts of {label}")
    for name in wanted:
        plan.cell({**row, "metric": name}, digest, METRICS.index(name))

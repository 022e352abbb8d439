"""The audit of an attack's number, planned: by-products always, further attacks with `audit: full`.

The further attacks are ordinary attack jobs against the same victim, so their work is in the plan, cut into shards, and
shared with any condition that asks for the same attack. What each is for is in `testbed.perturb.checks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from testbed import plugins
from testbed.grid.attacked import TRANSFER, Aim, aimed, surrogate
from testbed.grid.black_boxes import white
from testbed.grid.detection import Seen
from testbed.grid.jobs import SetRef
from testbed.grid.resolved import Bound, CalibratorEntry, ConditionEntry, Step
from testbed.perturb import checks

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan

#: Share of the set by which a further attack may beat the audited one.
SLACK: Final = 0.02

#: Check -> attack, its parameters, and its budget as a multiple of the audited one (None: as large as the box).
FURTHER: Final[Mapping[str, tuple[str, Mapping[str, Any], float | None]]] = {
    checks.HALF: ("apgd", {"steps": 20}, 0.5),
    checks.SAME: ("apgd", {"steps": 20}, 1.0),
    checks.DOUBLE: ("apgd", {"steps": 20}, 2.0),
    checks.MARGIN: ("apgd", {"steps": 20, "loss": "margin"}, 1.0),
    checks.BOX: ("apgd", {"steps": 20, "loss": "margin"}, None),
    checks.SINGLE: ("fgsm", {}, 1.0),
    checks.TARGETED: ("apgd_t", {"targets": 3, "hopeless": True}, 1.0),
    checks.BLACK: ("square", {"queries": 1000}, 1.0),
    checks.TRANSFER: ("apgd", {"steps": 20}, 1.0),
}


def audit(
    plan: ModelPlan, condition: ConditionEntry, calibrators: Sequence[CalibratorEntry], seen: Seen, label: str
) -> str:
    """The job that audits a condition with an attack; `calibrators` are those that share the attacked set `seen`."""
    inputs: dict[str, Sequence[str]] = {"ledger": seen.target.attacks, "outputs": [seen.outputs]}
    fields: dict[str, Any] = {}
    step = condition.steps[-1]
    if plan.planner.grid.audit == "full" and _applies(step):
        through = _through(step, calibrators)
        base = plan.apply(plan.clean, replace(condition, steps=condition.steps[:-1]), through)
        inputs |= dict(_further(plan, base, step, through, seen.target))
        fields = {"slack": SLACK}
    return plan.jobs.add("audit", fields, inputs, f"audit {label}")


def _applies(step: Step) -> bool:
    """Whether the further attacks say something about this one: an attack on labels of the model that is scored."""
    on_model = step.kind == "attack" and step.victim.partition(":")[0] in ("model", "calibrated", "bpda")
    return on_model and bool(step.eps) and step.bound.plugin.facts["objective"] == "label"


def _through(step: Step, calibrators: Sequence[CalibratorEntry]) -> CalibratorEntry | None:
    """The calibrator that the victim has: none where the raw model was attacked for all that keep its argmax."""
    (first, *_) = calibrators
    return None if step.victim != "calibrated" or first.bound.plugin.facts["argmax_preserving"] else first


def _further(
    plan: ModelPlan, base: SetRef, step: Step, through: CalibratorEntry | None, target: SetRef
) -> Iterator[tuple[str, Sequence[str]]]:
    for role, (name, params, factor) in FURTHER.items():
        eps = _whole_box(plan, step.norm) if factor is None else factor * float(step.eps or 0)
        plugin = plugins.read("attack", name)
        if eps is None or step.norm not in plugin.facts["norms"] or not _takes(plan, plugin):
            continue
        if plugin.facts["white_box"] and role != checks.TRANSFER and not white(plan.entry):
            continue
        bound = Bound(plugin, plugin.validate({**params, "norm": step.norm, "eps": eps}))
        further = Step("attack", bound, None, step.norm, eps, step.victim)
        if role == checks.TRANSFER:
            yield from _transferred(plan, base, further)
            continue
        aim = aimed(plan, base, further, through, "id")
        along = {"standing": target} if role == checks.BLACK else {}
        made = plan.jobs.attack(base, further, aim.model, plan.seed, aim.victim, aim.reads, along)
        yield role, made.attacks


def _transferred(plan: ModelPlan, base: SetRef, step: Step) -> Iterator[tuple[str, Sequence[str]]]:
    """What this model gives on images made against the first other model of the grid that gives gradients."""
    others = [m.name for m in plan.resolved.models if m.name != plan.entry.name and white(m)]
    if others:
        aim = Aim(surrogate(plan, others[0]), TRANSFER)
        made = plan.jobs.attack(base, step, aim.model, plan.seed, aim.victim, aim.reads)
        yield checks.TRANSFER, [plan.jobs.forward(plan.model, made, f"transfer from {others[0]}")]


def _takes(plan: ModelPlan, plugin: plugins.Plugin) -> bool:
    return plan.data.spec is None or plan.data.spec.kind in plugin.facts["kinds"]


def _whole_box(plan: ModelPlan, norm: str | None) -> float | None:
    """A budget that reaches all of the unit box from anywhere; None where only a job knows the number of features."""
    if norm == "linf":
        return 1.0
    if plan.data.spec is None:
        return None
    features = math.prod(plan.data.spec.shape)
    return math.sqrt(features) if norm == "l2" else float(features)

"""Planning attacked sets: what each victim needs, and whether a set is made alone or is a level of a sweep.

model          the network the cells are about
surrogate:N    another network of the grid; the set is then scored on this one, so every example is attacked, those that
               the surrogate gets wrong already too. The network itself as its surrogate is an ordinary attack
calibrated     the network and a calibrator
bpda:LAYER     the network, with the gradient of the identity at a layer that has none of its own
detector:N     a detector's score: an in-distribution set is made to look out-of-distribution, an OOD set the other
               way round; "clean" scores of in-distribution examples say how large a change is
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from testbed.grid.jobs import ModelRef, SetRef
from testbed.grid.resolved import CalibratorEntry, DetectorEntry, Step

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan

Side = Literal["id", "ood"]

#: The victim of an attack whose images are for another network.
TRANSFER: Final = {"kind": "transfer"}


@dataclass(frozen=True)
class Aim:
    """What an attack is made against: the network, the victim's recipe and the jobs it reads."""

    model: ModelRef
    victim: Mapping[str, Any] = field(default_factory=lambda: {"kind": "model"})
    reads: Mapping[str, Sequence[str]] = field(default_factory=dict)


def attacked_set(plan: ModelPlan, target: SetRef, step: Step, through: CalibratorEntry | None, side: Side) -> SetRef:
    """The attacked set. `through`: the calibrator of a calibrated victim; `side`: which kind of set `target` is."""
    key = ("attack", target.digests, id(step), through and through.name, side)
    found: SetRef = plan.once(key, lambda: _attacked(plan, target, step, through, side))
    return found


def _attacked(plan: ModelPlan, target: SetRef, step: Step, through: CalibratorEntry | None, side: Side) -> SetRef:
    aim = aimed(plan, target, step, through, side)
    if not step.curve or aim.victim is TRANSFER:
        return plan.jobs.attack(target, step, aim.model, plan.seed, aim.victim, aim.reads)
    sweep = plan.jobs.sweep(target, step, aim.model, plan.seed, aim.victim, aim.reads)
    return plan.jobs.level(sweep, target, step, aim.model)


def aimed(plan: ModelPlan, target: SetRef, step: Step, through: CalibratorEntry | None, side: Side) -> Aim:
    """The victim of one attack."""
    kind, _, name = step.victim.partition(":")
    if kind == "surrogate" and name != plan.entry.name:
        return Aim(surrogate(plan, name), TRANSFER)
    if kind == "bpda":
        return Aim(plan.model, {"kind": "bpda", "layer": name})
    if kind == "detector":
        return _detector(plan, next(d for d in plan.resolved.detectors if d.name == name), target, side)
    if through is not None:
        code = {"kind": "calibrated", **plan.calibrator_code(through)}
        return Aim(plan.model, code, {"calibrator": plan.fitted(through, "")})
    return Aim(plan.model)


def made_elsewhere(plan: ModelPlan, steps: Sequence[Step]) -> bool:
    """Whether a step's attack is on another network than the one that is scored."""
    own = f"surrogate:{plan.entry.name}"
    return any(s.victim.startswith("surrogate:") and s.victim != own for s in steps if s.kind == "attack")


def surrogate(plan: ModelPlan, name: str) -> ModelRef:
    """Another model of the grid, trained on the same data."""
    entry = next(m for m in plan.resolved.models if m.name == name)
    return plan.jobs.model(entry, plan.data, plan.seed, plan.given_train_seed)


def _detector(plan: ModelPlan, entry: DetectorEntry, target: SetRef, side: Side) -> Aim:
    """The score of a detector. Its usual values are those of the set itself, for an OOD set of the clean test set."""
    usual = target if side == "id" else plan.clean
    outputs = plan.jobs.forward(plan.model, usual, "clean" if usual == plan.clean else "the set that is attacked")
    bank = plan.detection.bank(entry, None, [])
    scores = plan.jobs.detect(entry, bank, outputs, {}, [], "usual scores")
    victim = {"kind": "detector", "detector": plan.jobs.code(entry.bound), "side": side}
    return Aim(plan.model, victim, {"bank": [bank], "usual": [scores], "outputs": [outputs]})

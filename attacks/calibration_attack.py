"""Attacks on confidence that keep the predicted label (Obadinma, Zhu and Guo 2024): accuracy stays, calibration goes.

    underconfidence   lower the probability of the predicted label
    overconfidence    raise it
    maximum           lower it where the prediction is right, raise it where it is wrong: miscalibration in full
    random            one of the first two by a fair draw, an example

Each is an ascent on +-log p of the predicted label. A step that changes the label is taken back and the step of that
example halved, so every kept iterate has the label of the clean image; the kept one is the best seen. The model may be
a network with its calibrator on top: any callable whose softmax is the confidence in question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class CalibrationAttack(Checked):
    """A label-keeping attack on confidence. `step_size`, eps / 4 where absent, only ever halves."""

    eps: NonNegative
    norm: Literal["linf", "l2", "l1"] = "linf"
    goal: Literal["underconfidence", "overconfidence", "maximum", "random"] = "maximum"
    steps: Count = 40
    step_size: Positive | None = None
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    version: ClassVar = "1/1"
    draws: ClassVar = "1/1"
    objective: ClassVar = "confidence"
    streams: ClassVar = True
    lengths: ClassVar = ("step_size",)
    reference: ClassVar = Paper(
        "Calibration attacks: a comprehensive study of adversarial attacks on model confidence",
        "Stephen Obadinma and Xiaodan Zhu and Hongyu Guo", 2024, "TMLR", "2401.02718",
    )  # fmt: skip

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from testbed.perturb.attack import Found
        from testbed.perturb.geometry import confine, limits, per_row, steepest

        low, high = limits(self.bounds, x, x.device)
        rows = torch.arange(len(x), device=x.device)
        label = model(x, rows=rows).argmax(1)
        sign = direction(self.goal, label == y, rng).to(x)

        def gain(z: Tensor, at: slice) -> Tensor:
            return sign[at] * z.log_softmax(1).gather(1, label[at, None]).squeeze(1)

        best, slope = x, torch.zeros_like(x)
        value = torch.full((len(x),), float("-inf"), device=x.device)
        size = torch.full((len(x),), self.eps / 4 if self.step_size is None else self.step_size, device=x.device)
        now = x
        for _ in range(self.steps):
            gradient, new, logits = model.gradient(now, gain, rows=rows)
            better = (logits.argmax(1) == label) & (new > value)
            size = torch.where(better, size, size / 2)
            mask = per_row(better, x)
            best, slope = torch.where(mask, now, best), torch.where(mask, gradient, slope)
            value = torch.where(better, new, value)
            now = confine(best + per_row(size, x) * steepest(slope, self.norm), x, self.norm, self.eps, low, high)
        return Found(best)


def direction(goal: str, right: Tensor, rng: Any) -> Tensor:
    """+1 where confidence is raised, -1 where it is lowered; `right` says where the prediction is the label."""
    import torch

    if goal == "maximum":
        return torch.where(right, -1.0, 1.0)
    if goal == "random":
        return torch.where(torch.from_numpy(rng.uniform((), name="goal")).to(right.device) < 0.5, -1.0, 1.0)
    return torch.full(right.shape, -1.0 if goal == "underconfidence" else 1.0)

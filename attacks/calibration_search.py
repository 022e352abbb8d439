"""Attacks on confidence that keep the predicted label, by queries alone (Obadinma, Zhu and Guo 2024, black box).

The paper's black-box attack is the square attack's search with another aim: windows of x +- eps, one sign a channel,
kept where the confidence moves the wanted way and the label stays. Goals are those of `calibration_attack`. The search
starts from the stripes of the square attack where they keep the label and help, else from the clean image; the window
halves on the square attack's schedule. The model may be a network with its calibrator on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, PositiveShare
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class CalibrationSquare(Checked):
    """A label-keeping random search on confidence; `queries` model evaluations an example, p_init as in `square`."""

    eps: NonNegative
    norm: Literal["linf"] = "linf"
    goal: Literal["underconfidence", "overconfidence", "maximum", "random"] = "maximum"
    queries: Count = 500
    p_init: PositiveShare = 0.8
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf",)
    kinds: ClassVar = ("image",)
    version: ClassVar = "1/1"
    draws: ClassVar = "1/1"
    objective: ClassVar = "confidence"
    white_box: ClassVar = False
    streams: ClassVar = True
    reference: ClassVar = Paper(
        "Calibration attacks: a comprehensive study of adversarial attacks on model confidence",
        "Stephen Obadinma and Xiaodan Zhu and Hongyu Guo", 2024, "TMLR", "2401.02718",
    )  # fmt: skip

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, forward and backward."""
        return self.queries, 0

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from testbed.perturb.attack import Found
        from testbed.perturb.geometry import limits, per_row

        from .calibration_attack import direction
        from .square import BLOCK, side
        from .square_search import window

        low, high = limits(self.bounds, x, x.device)
        above, below = torch.clamp(x + self.eps, low, high), torch.clamp(x - self.eps, low, high)
        c, h, w = x.shape[1:]
        rows = torch.arange(len(x), device=x.device)
        logits = model(x, rows=rows)
        label = logits.argmax(1)
        sign = direction(self.goal, label == y, rng).to(x)

        def gain(z: Tensor) -> Tensor:
            """What is to rise: +-log p of the label, and minus infinity where the label is lost."""
            value = sign * z.log_softmax(1).gather(1, label[:, None]).squeeze(1)
            return torch.where(z.argmax(1) == label, value, float("-inf"))

        stripes = torch.from_numpy(rng.uniform((c, 1, w), name="stripes")).to(x.device) < 0.5
        now, best = torch.where(stripes, above, below), gain(logits)
        value = gain(model(now, rows=rows))
        now = torch.where(per_row(value > best, x), now, x).flatten(1)
        best = torch.maximum(value, best)
        draws: Any = None
        for query in range(self.queries - 2):
            if query % BLOCK == 0:
                draws = torch.from_numpy(rng.uniform((BLOCK, 2 + c), name=f"windows{query // BLOCK}")).to(x.device)
            draw = draws[:, query % BLOCK]
            at = window(draw[:, :2], side(query, self.p_init, h, w), c, h, w)
            up = (draw[:, 2:] < 0.5).repeat_interleave(at.shape[1] // c, dim=1)
            trial = now.scatter(1, at, torch.where(up, above.flatten(1).gather(1, at), below.flatten(1).gather(1, at)))
            value = gain(model(trial.reshape(x.shape), rows=rows))
            now = torch.where((value > best)[:, None], trial, now)
            best = torch.maximum(value, best)
        return Found(now.reshape(x.shape))

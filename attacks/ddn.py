"""DDN, decoupled direction and norm (Rony et al. 2019): the direction follows the gradient, the length the verdict.

Algorithm 1 of the paper, with d_0 = 0 and r_0 = init_epsilon, for k = 1 ... steps:

    direction  d <- d + alpha_k g / |g|_2       g of the cross-entropy at x + d; alpha on half a cosine from 1 to 0.01
    length     r <- (1 - gamma) r where x + d fools, else (1 + gamma) r, at most as far as the box reaches
    iterate    x + d <- the box applied to x + r d / |d|_2, and rounded to the grid of `levels` where there are levels

As in the authors' code d is then what the box and the grid have left of it. Cross-entropy is log(1 + exp(odds)); only
the direction of its gradient counts, and the gradient of the odds has the same and is not zero where float32 rounds the
softmax to 0 and 1 (the authors' code draws a random direction there). So nothing is drawn, but targets by lot.

Every iterate is evaluated, the last one by a forward pass alone, and the closest that fools is kept. Within a budget an
example is done at its first fooled iterate inside the ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from testbed.parameters import Checked, Count, NonNegative, OpenShare, Positive
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class DDN(Checked):
    """DDN in l2.

    eps           budget; None = the smallest perturbation found, whatever its size
    init_epsilon  the first radius, as a share of the range of inputs
    gamma         relative change of the radius at each step
    levels        values a feature may have, evenly from bound to bound: 256 for 8-bit images. None = all
    target        as in `pgd`: the class each example is sent to. Only being given that class then counts as fooled
    """

    eps: NonNegative | None = None
    norm: Literal["l2"] = "l2"
    init_epsilon: Positive = 1.0
    steps: Count = 100
    gamma: OpenShare = 0.05
    levels: Annotated[int, Ge(2)] | None = None
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2",)
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and defenses",
        "Jérôme Rony and Luiz G. Hafemann and Luiz S. Oliveira and Ismail Ben Ayed and Robert Sabourin and "
        "Eric Granger", 2019, "CVPR", "1811.09600",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.init_epsilon > 0 or not 0 < self.gamma < 1:
            raise ValueError(
                "steps >= 1, init_epsilon > 0 and 0 < gamma < 1 are needed, "
                f"got {self.steps}, {self.init_epsilon} and {self.gamma}"
            )
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"levels must be at least 2, or absent for no grid, got {self.levels}")

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`. Draws for random targets only."""
        import torch

        from testbed.perturb.geometry import length, limits, per_row

        from .closest import Closest
        from .losses import odds
        from .radius_steps import cosine

        low, high = limits(self.bounds, x, x.device)
        closest = Closest.aimed(self, model, x, y, rng)
        rows, x0, now = closest.standing, x, x
        furthest = length(torch.maximum(x - low, high - x), "l2")
        radius = torch.full_like(furthest, self.init_epsilon)
        for step in range(self.steps):
            if len(rows) == 0:
                break
            gradient, _, logits = model.gradient(now, closest.rise(odds, rows), rows=rows)
            fooled = closest.see(rows, now, logits, step + 1)
            size = length(gradient, "l2").float().clamp_min(1e-30)
            delta = now - x0 + gradient * per_row(cosine(1.0, 0.01, step, self.steps) / size, x0)
            radius = torch.minimum(radius * torch.where(fooled, 1 - self.gamma, 1 + self.gamma), furthest)
            share = radius / length(delta, "l2").clamp_min(1e-30)
            now = torch.clamp(x0 + delta * per_row(share.float(), x0), low, high)
            if self.levels is not None:
                cell = (high - low) / (self.levels - 1)
                now = torch.clamp(low + ((now - low) / cell).round() * cell, low, high)
            stand = ~closest.done(rows)
            if not bool(stand.all()):
                rows, x0, now, radius, furthest = (part[stand] for part in (rows, x0, now, radius, furthest))
        if len(rows):
            logits = model(now, rows=rows)
            fooled = closest.see(rows, now, logits, self.steps + 1)
            closest.offer(rows[~fooled], now[~fooled], logits[~fooled])
        return closest.found()

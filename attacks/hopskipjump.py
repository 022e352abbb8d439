"""HopSkipJump (Chen, Jordan and Wainwright 2020, algorithm 2): the boundary's normal estimated from labels alone.

From a fooling image of noise, bisected onto the boundary (`decisions`), for t = 1 ... steps, in d dimensions:

    normal   v = mean over b of (phi_b - mean phi) u_b      phi = 1 where x + delta u_b fools, else -1
    step     x' = x + xi v / |v|_2, or xi sign(v) in linf   xi = |x - x*| / sqrt(t), halved until x' fools
    back     x <- bisection between x* and x', to a share theta of the way

B_t = B_0 sqrt(t) directions u of length 1, normal (l2) or uniform (linf) in every value, and what the box leaves of
them; phi is not centred where all are equal. theta = gamma d^-3/2 (l2) or gamma d^-2 (linf), and delta = sqrt(d) theta
or d theta times |x' - x*| of the last step; 0.1 of the box's width in the first. theta is never below 2^-20: beyond, a
label on the boundary is decided by the rounding of float32. Where 24 halvings of xi find nothing, x stays for a step.

Every image of the steps and bisections is a candidate and the closest is returned, where the authors' code returns the
last. Within a budget an example is done at its first such image inside the ball. With a target
the start is an image of that class from the same set (`decisions`), so that results depend on the set.

Draws and state are each example's own. But labels are asked for so near the boundary that the last bit of a logit can
turn one, and the path with it. On the CPU of the tests a row's logits have the same bits in any pass of four rows or
more, so any such cut gives the same images; fewer rows run through other kernels, and may end elsewhere (distances of
single examples of two MNIST nets differed by up to 6 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

    from .decisions import Decisions

#: Bisections end at this share of the way at the latest.
FINEST = 2.0**-20
#: Step sizes tried in one step.
SIZES = 24
#: Directions of an example drawn at a time.
BLOCK = 50


@dataclass(frozen=True)
class HopSkipJump(Checked):
    """HopSkipJump in l2 and linf.

    target                       a class, or one an example, that each is sent to; only being given it then counts
    eps                          budget; None = the smallest perturbation found, whatever its size
    steps                        estimates of the normal
    initial_gradient_eval_steps  B_0, queries of the first estimate
    max_gradient_eval_steps      queries of an estimate, at most
    gamma                        how coarse bisections and estimates are
    """

    eps: NonNegative | None = None
    norm: Literal["l2", "linf"] = "l2"
    steps: Count = 64
    initial_gradient_eval_steps: Count = 100
    max_gradient_eval_steps: Count = 10000
    gamma: Positive = 1.0
    target: Literal["none", "groups"] | int | tuple[int, ...] = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2", "linf")
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    white_box: ClassVar = False
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "HopSkipJumpAttack: a query-efficient decision-based attack",
        "Jianbo Chen and Michael I. Jordan and Martin J. Wainwright", 2020, "IEEE S&P", "1904.02144",
    )  # fmt: skip

    def __post_init__(self) -> None:
        counts = (self.steps, self.initial_gradient_eval_steps, self.max_gradient_eval_steps)
        if min(counts) < 1 or not self.gamma > 0:
            raise ValueError(
                "steps, initial_gradient_eval_steps and max_gradient_eval_steps >= 1 and gamma > 0 are needed, "
                f"got {counts} and {self.gamma}"
            )

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, about: for each step the estimate of the normal, and 25 to get back."""
        return sum(self.evaluations(step) + 25 for step in range(self.steps)), 0

    def evaluations(self, step: int) -> int:
        """Directions of a step's estimate, counted from 0.

        >>> [HopSkipJump(max_gradient_eval_steps=150).evaluations(step) for step in (0, 1, 3)]
        [100, 141, 150]
        """
        return min(int(self.initial_gradient_eval_steps * math.sqrt(step + 1)), self.max_gradient_eval_steps)

    def theta(self, features: int) -> float:
        """The share of the way at which bisections end."""
        return max(self.gamma * math.pow(features, -1.5 if self.norm == "l2" else -2.0), FINEST)

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any, others: Any = None) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from .decisions import Decisions

        asked = Decisions(self, model, x, y, others)
        features = x[0].numel()
        theta = self.theta(features)
        scale = theta * (math.sqrt(features) if self.norm == "l2" else features)
        halvings = max(math.ceil(-math.log2(theta)), 1)
        rows, now = asked.start(rng)
        delta = torch.full((len(rows),), 0.1, device=x.device) * torch.as_tensor(asked.high - asked.low).mean().to(x)
        now = asked.back(rows, now, halvings)
        for step in range(self.steps):
            stand = ~asked.closest.done(rows)
            rows, now, delta = rows[stand], now[stand], delta[stand]
            if len(rows) == 0:
                break
            along = self.normal(asked, rows, now, delta, rng, step)
            far, moved = self.step(asked, rows, now, along, step)
            delta = scale * asked.away(rows, far)
            now[moved] = asked.back(rows[moved], far[moved], halvings)
        return asked.found()

    def normal(self, asked: Decisions, rows: Tensor, now: Tensor, delta: Tensor, rng: Any, step: int) -> Tensor:
        """The estimate of these rows' steps: v / |v|_2, or its signs in linf. A few rows are asked about at a time."""
        import torch

        size = min(self.evaluations(step), BLOCK)
        few = torch.split(torch.arange(len(rows), device=now.device), max(asked.model.batch // size, 1))
        return torch.cat([self._normal(asked, rows[at], now[at], delta[at], rng, step) for at in few])

    def _normal(self, asked: Decisions, rows: Tensor, now: Tensor, delta: Tensor, rng: Any, step: int) -> Tensor:
        import torch

        from testbed.perturb.geometry import per_row, steepest

        own, total, shape = rng.take(rows.cpu().numpy()), self.evaluations(step), tuple(now.shape[1:])
        signed, plain, sides = torch.zeros_like(now), torch.zeros_like(now), torch.zeros_like(delta)
        for first in range(0, total, BLOCK):
            size, name = min(BLOCK, total - first), f"directions{step}/{first}"
            drawn = (
                own.normal((size, *shape), name=name)
                if self.norm == "l2"
                else own.uniform((size, *shape), -1.0, 1.0, name=name)
            )
            units = steepest(torch.from_numpy(drawn).to(now).flatten(0, 1), "l2")
            many = torch.arange(len(rows), device=now.device).repeat_interleave(size)
            here, by = now[many], per_row(delta[many], now)
            points = torch.clamp(here + by * units, asked.low, asked.high)
            left = ((points - here) / by).reshape(len(rows), size, *shape)
            phi = torch.where(asked.fools(rows[many], points), 1.0, -1.0).to(now).reshape(len(rows), size)
            signed += torch.einsum("mb,mb...->m...", phi, left)
            plain += left.sum(1)
            sides += phi.sum(1)
        centre = torch.where(sides.abs() == total, torch.zeros_like(sides), sides / total)
        return steepest(signed - per_row(centre, now) * plain, self.norm)

    def step(self, asked: Decisions, rows: Tensor, now: Tensor, along: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The first fooling images `[m ...]` along the normal, and which rows have one; the others stay."""
        import torch

        from testbed.perturb.geometry import per_row

        far, size = now.clone(), asked.away(rows, now) / math.sqrt(step + 1)
        at, moved = torch.arange(len(rows), device=now.device), torch.zeros_like(rows, dtype=torch.bool)
        for _ in range(SIZES):
            points = torch.clamp(now[at] + per_row(size[at], now) * along[at], asked.low, asked.high)
            fooled = asked.see(rows[at], points)
            far[at[fooled]], moved[at[fooled]] = points[fooled], True
            at = at[~fooled]
            if len(at) == 0:
                break
            size = size / 2
        return far, moved

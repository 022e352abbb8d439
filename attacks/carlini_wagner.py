"""C&W in l2 (Carlini and Wagner 2017, section VI.A): the closest image that fools by a margin, in tanh space.

    minimise over w   |x' - x|_2^2 + c max(confidence - lead, 0),   x' = middle + half tanh(w)

for the box [middle - half, middle + half], by Adam from w with x' = x; lead is max_{i != y} z_i - z_y, or
z_t - max_{i != t} z_i towards a class t (f_6 of the paper). c is found by bisection (`tradeoff`). As in the authors'
code a run ends early where its loss has not fallen below 0.9999 of what it was a tenth of the steps ago: there the sum
over the batch, here each example's own, so that no example's result or price depends on the others.

Every iterate is evaluated, the last of each run by a forward pass alone; the closest with the lead asked for is kept.
Nothing is drawn, but targets by lot. Within a budget an example is done at its first such iterate inside the ball.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

    from .closest import Closest

#: Images are drawn in by this share before the inverse of tanh, which is infinite on the bounds (authors' code).
INSIDE = 0.999999


@dataclass(frozen=True)
class CW(Checked):
    """C&W in l2.

    eps                  budget; None = the smallest perturbation found, whatever its size
    binary_search_steps  runs, each with another c
    steps                Adam's steps a run
    stepsize             of Adam, in tanh space
    confidence           the lead an image must have to count
    initial_const        c of the first run
    abort_early          end runs that make no progress
    target               as in `pgd`: the class each example is sent to; only being given that class then counts
    """

    eps: NonNegative | None = None
    norm: Literal["l2"] = "l2"
    binary_search_steps: Count = 9
    steps: Count = 1000
    stepsize: Positive = 0.01
    confidence: NonNegative = 0.0
    initial_const: Positive = 0.001
    abort_early: bool = True
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2",)
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Towards evaluating the robustness of neural networks", "Nicholas Carlini and David Wagner",
        2017, "IEEE S&P", "1608.04644",
    )  # fmt: skip

    def __post_init__(self) -> None:
        counts, sizes = (self.steps, self.binary_search_steps), (self.stepsize, self.initial_const)
        if min(counts) < 1 or not min(sizes) > 0 or not self.confidence >= 0:
            raise ValueError(
                "steps and binary_search_steps >= 1, stepsize and initial_const > 0 and confidence >= 0 are needed, "
                f"got {counts}, {sizes} and {self.confidence}"
            )

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`. Draws for random targets only."""
        from .closest import Closest
        from .tradeoff import bisect

        closest = Closest.aimed(self, model, x, y, rng)
        run = lambda rows, c: self._run(model, closest, rows, c)
        bisect(closest, self.initial_const, self.binary_search_steps, run)
        return replace(closest.found(), first_step=None)  # the victim's count: runs differ in length

    def _run(self, model: Victim, closest: Closest, rows: Tensor, c: Tensor) -> Tensor:
        """One run for these rows with their c; bool `[m]`, which were fooled."""
        import torch

        from testbed.perturb.geometry import limits, per_row

        from .adam import Adam
        from .losses import margin
        from .tradeoff import Progress

        low, high = limits(self.bounds, closest.x, closest.x.device)
        middle, half = (low + high) / 2, (high - low) / 2
        x0 = closest.x[rows]
        share = torch.nan_to_num((x0 - middle) / half)  # a feature whose bounds are equal has no room
        w = torch.atanh(INSIDE * torch.clamp(share, -1, 1))
        adam, progress = Adam(w, self.stepsize), Progress(c, self.steps, self.abort_early)
        at, fooled = torch.arange(len(rows), device=rows.device), torch.zeros_like(rows, dtype=torch.bool)
        for step in range(self.steps):
            squashed = torch.tanh(w)
            now = torch.clamp(middle + half * squashed, low, high)
            slope, lead, logits = model.gradient(now, closest.rise(margin, rows), rows=rows)
            short = self.confidence - lead
            fooled[at] |= closest.see(rows, now, logits, step + 1, short <= 0)
            delta = now - x0
            losses = partial(_losses, delta, c, short)
            over = progress.stuck(step, losses) | closest.done(rows)
            fall = per_row(c * (short > 0), slope) * slope - 2 * delta
            w = w + adam.step(fall * half * (1 - squashed**2))
            if bool(over.any()):
                closest.offer(rows[over], now[over], logits[over])
                stay = ~over
                rows, x0, c, w, at = rows[stay], x0[stay], c[stay], w[stay], at[stay]
                adam.keep(stay)
                progress.keep(stay)
                if len(rows) == 0:
                    return fooled
        now = torch.clamp(middle + half * torch.tanh(w), low, high)
        logits = model(now, rows=rows)
        short = self.confidence - closest.rise(margin, rows)(logits, slice(None))
        fooled[at] |= closest.see(rows, now, logits, self.steps + 1, short <= 0)
        closest.offer(rows, now, logits)
        return fooled


def _losses(delta: Tensor, c: Tensor, short: Tensor) -> Tensor:
    """What each row minimises, `[m]`; `short` is what its lead is short of."""
    return (delta.flatten(1) ** 2).sum(1) + c * short.clamp_min(0)

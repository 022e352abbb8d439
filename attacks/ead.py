"""EAD, elastic-net attack (Chen et al. 2018): C&W's problem with an l1 term, by iterative shrinkage and thresholding.

    minimise over x' in the box   c max(confidence - lead, 0) + |x' - x|_2^2 + b |x' - x|_1,   b the `regularization`

Algorithm 1 of the paper, FISTA from x_0 = y_0 = x, with G the gradient of the first two terms at y_k:

    x_{k+1} = S_b(y_k - a_k G)                             a_k = initial_stepsize sqrt(1 - k / steps)
    y_{k+1} = x_{k+1} + k / (k + 3) (x_{k+1} - x_k)

S_b takes b off what a value differs from x, to 0 at least, and clips to the box. lead, c and the early end of a run are
as in `carlini_wagner`, each for its example alone; but FISTA's losses rise and fall, so that a run which rests would
still get closer, and runs are not ended early unless asked.

Every x_k is evaluated, which costs a forward pass a step besides the gradient at y_k. Of those with the lead asked for
the decision rule keeps the one of least b |d|_1 + |d|_2^2 (`EN`) or |d|_1 (`L1`). Within a budget an example is done at
its first such iterate inside the l1 ball, so there the rule is of no account. Nothing is drawn, but targets by lot.
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


@dataclass(frozen=True)
class EAD(Checked):
    """EAD.

    eps                  budget in l1; None = the smallest perturbation found, whatever its size
    binary_search_steps  runs, each with another c
    steps                of FISTA in a run
    initial_stepsize     of the first step for a gradient of 1, as a share of the range of inputs
    confidence           the lead an image must have to count
    initial_const        c of the first run
    regularization       b, the weight of the l1 distance
    decision_rule        which of the images that count is kept
    abort_early          end runs that make no progress: a fifth of the price, distances larger by a tenth to a quarter
    target               as in `pgd`: the class each example is sent to; only being given that class then counts
    """

    eps: NonNegative | None = None
    norm: Literal["l1"] = "l1"
    binary_search_steps: Count = 9
    steps: Count = 1000
    initial_stepsize: Positive = 0.01
    confidence: NonNegative = 0.0
    initial_const: Positive = 0.001
    regularization: NonNegative = 0.01
    decision_rule: Literal["EN", "L1"] = "EN"
    abort_early: bool = False
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l1",)
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "EAD: elastic-net attacks to deep neural networks via adversarial examples",
        "Pin-Yu Chen and Yash Sharma and Huan Zhang and Jinfeng Yi and Cho-Jui Hsieh", 2018, "AAAI", "1709.04114",
    )  # fmt: skip

    def __post_init__(self) -> None:
        counts, sizes = (self.steps, self.binary_search_steps), (self.initial_stepsize, self.initial_const)
        least = (self.confidence, self.regularization)
        if min(counts) < 1 or not min(sizes) > 0 or not min(least) >= 0:
            raise ValueError(
                "steps and binary_search_steps >= 1, initial_stepsize and initial_const > 0, confidence and "
                f"regularization >= 0 are needed, got {counts}, {sizes} and {least}"
            )

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`. Draws for random targets only."""
        from .closest import Closest
        from .tradeoff import bisect

        elastic = self.decision_rule == "EN" and self.eps is None
        closest = Closest.aimed(self, model, x, y, rng, self._elastic if elastic else None)
        run = lambda rows, c: self._run(model, closest, rows, c)
        bisect(closest, self.initial_const, self.binary_search_steps, run)
        return replace(closest.found(), first_step=None)  # the victim's count: runs differ in length

    def _elastic(self, delta: Tensor) -> Tensor:
        """b |d|_1 + |d|_2^2, float64 `[m]`."""
        from testbed.perturb.geometry import length

        return self.regularization * length(delta, "l1") + length(delta, "l2") ** 2

    def _losses(self, delta: Tensor, c: Tensor, short: Tensor) -> Tensor:
        """What each row minimises, `[m]`; `short` is what its lead is short of."""
        return self._elastic(delta).float() + c * short.clamp_min(0)

    def _run(self, model: Victim, closest: Closest, rows: Tensor, c: Tensor) -> Tensor:
        """One run for these rows with their c; bool `[m]`, which were fooled."""
        import torch

        from testbed.perturb.geometry import limits, per_row

        from .losses import margin
        from .tradeoff import Progress

        low, high = limits(self.bounds, closest.x, closest.x.device)
        x0 = now = ahead = closest.x[rows]
        progress = Progress(c, self.steps, self.abort_early)
        at, fooled = torch.arange(len(rows), device=rows.device), torch.zeros_like(rows, dtype=torch.bool)
        for step in range(self.steps):
            slope, lead, _ = model.gradient(ahead, closest.rise(margin, rows), rows=rows)
            smooth = 2 * (ahead - x0) - per_row(c * (lead < self.confidence), slope) * slope
            size = self.initial_stepsize * (1 - step / self.steps) ** 0.5
            new = shrink(ahead - size * smooth, x0, self.regularization, low, high)
            now, ahead = new, new + step / (step + 3) * (new - now)
            logits = model(now, rows=rows)
            short = self.confidence - closest.rise(margin, rows)(logits, slice(None))
            fooled[at] |= closest.see(rows, now, logits, 2 * step + 2, short <= 0)
            losses = partial(self._losses, now - x0, c, short)
            over = progress.stuck(step, losses) | closest.done(rows) | (step == self.steps - 1)
            if bool(over.any()):
                closest.offer(rows[over], now[over], logits[over])
                stay = ~over
                rows, x0, now, ahead, c, at = (part[stay] for part in (rows, x0, now, ahead, c, at))
                progress.keep(stay)
                if len(rows) == 0:
                    break
        return fooled


def shrink(z: Tensor, x: Tensor, by: float, low: Any, high: Any) -> Tensor:
    """S_b: z with its difference from x made smaller by b, to 0 at least, in the box.

    >>> import torch
    >>> shrink(torch.tensor([0.9, 0.52, 1.5, 0.3]), torch.full((4,), 0.5), 0.1, 0.0, 1.0)
    tensor([0.8000, 0.5000, 1.0000, 0.4000])
    """
    import torch

    return torch.clamp(x + torch.nn.functional.softshrink(z - x, by), low, high)

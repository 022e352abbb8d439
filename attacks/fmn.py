"""FMN, fast minimum-norm: the ball's radius follows the boundary while the point descends inside (Pintor et al. 2021).

Algorithm 1 of the paper. L = z_y - max_{i != y} z_i, g its gradient, q the dual of p, at x + d after k - 1 steps:

    radius  d not adversarial, none found yet   |d|_p + |L| / |g|_q     (where the linearised boundary is)
            d not adversarial                   (1 + gamma_k) times the last radius
            d adversarial                       (1 - gamma_k) times the last radius, at most the closest |d|_p found
    step    d <- d - alpha_k g / |g|_2, then into the ball of that radius and into the box

gamma and alpha fall to their last values along half a cosine. The paper tunes them for each model; on the nets of
benchmarks/bench_minimum_norm.py first steps of 1 leave linf distances half as large again as first steps of 10. In l0
the radius is a count: it starts at 0 and moves by at least 1.

Two things differ from the paper. The projection is the exact one on ball and box together, not the box after the ball,
which never fools some images. And the first radius is estimated 0.1 % beyond the linearised boundary, or rounding
leaves one iterate in seven on the near side of a linear boundary for good.

Every iterate is evaluated, and only one that the model misclassified counts, at its own distance. Nothing is drawn at
random and all state is per example.

Within a budget an example is done at its first fooled iterate inside the ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, CountOrNone, NonNegative, Positive, ShareBelowOne
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

    from .losses import Rows


@dataclass(frozen=True)
class FMN(Checked):
    """FMN in four norms.

    eps           budget; None = the smallest perturbation found, whatever its size
    max_stepsize  alpha of the first step, an l2 length for inputs in [0, 1]; 10 in linf and l0, else 1, where absent
    min_stepsize  alpha of the last; a hundredth of the first where absent
    gamma         relative change of the radius at the first step; 0.3 in l0, else 0.05, where absent
    min_gamma     relative change at the last
    targets       0 = untargeted; else one run for each of so many likeliest wrong classes t, with L = z_y - z_t. Any
                  misclassification counts
    target        as in `pgd`: the class t each example is sent to, with L = max_{i != t} z_i - z_t; only being given it
                  then counts
    """

    eps: NonNegative | None = None
    norm: Literal["linf", "l2", "l1", "l0"] = "l2"
    steps: Count = 100
    max_stepsize: Positive | None = None
    min_stepsize: Positive | None = None
    gamma: ShareBelowOne | None = None
    min_gamma: ShareBelowOne = 0.001
    targets: CountOrNone = 0
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2", "linf", "l1", "l0")
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Fast minimum-norm adversarial attacks through adaptive norm constraints",
        "Maura Pintor and Fabio Roli and Wieland Brendel and Battista Biggio", 2021, "NeurIPS", "2102.12827",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.steps < 1 or self.targets < 0:
            raise ValueError(f"steps must be at least 1 and targets at least 0, got {self.steps} and {self.targets}")
        if self.targets and self.target != "none":
            raise ValueError(f"give targets or target, got {self.targets} and {self.target!r}")
        (first, last), (fast, slow) = self.alphas, self.gammas
        if not (first >= last > 0 and 1 > fast >= slow >= 0):
            raise ValueError(
                "max_stepsize >= min_stepsize > 0 and 1 > gamma >= min_gamma >= 0 are needed, "
                f"got {first} and {last}, {fast} and {slow}"
            )

    @property
    def alphas(self) -> tuple[float, float]:
        """alpha of the first step and where it ends."""
        first = (10.0 if self.norm in ("linf", "l0") else 1.0) if self.max_stepsize is None else self.max_stepsize
        return first, first / 100 if self.min_stepsize is None else self.min_stepsize

    @property
    def gammas(self) -> tuple[float, float]:
        """gamma of the first step and where it ends."""
        return (0.3 if self.norm == "l0" else 0.05) if self.gamma is None else self.gamma, self.min_gamma

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any = None) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`. Draws for random targets only."""
        from functools import partial

        import torch

        from .closest import Closest
        from .losses import margin, ranked_targets
        from .radius_steps import descend

        if not self.targets:
            closest = Closest.aimed(self, model, x, y, rng)
            descend(self, model, closest, closest.standing, lambda rows: closest.rise(margin, rows))
            return closest.found()
        clean = model(x, rows=torch.arange(len(x), device=x.device))
        closest = Closest(x, y, self.eps, self.norm, clean.shape[1])
        aims = ranked_targets(clean, y, self.targets)
        for aim in aims.unbind(1):
            descend(self, model, closest, closest.standing, partial(_towards, y, aim))
        return closest.found(targets=int(aims.shape[1]))


def _towards(y: Tensor, aim: Tensor, rows: Tensor) -> Rows:
    """The lead of the classes aimed at, for some rows."""
    from .losses import lead

    return lead(y[rows], aim[rows])

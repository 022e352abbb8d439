"""FAB, fast adaptive boundary: minimum-norm steps onto the linearised decision boundary (Croce and Hein 2020b).

For a target class t, f = z_t - z_y; d1 and d2 are the smallest steps in the box that take x_k and the clean x_0 onto
{f + grad f . d = 0}. Then

    a   = min(|d1| / (|d1| + |d2|), 0.1)
    x   = clip((1 - a)(x_k + eta d1) + a (x_0 + eta d2)),   eta = 1.05
    if x is misclassified: keep it if it is the closest so far, and go back, x <- x_0 + 0.9 (x - x_0)

`fab` is the targeted form that AutoAttack runs (FAB-T): one run for each of the likeliest wrong classes, from the clean
image. Untargeted, as cascade `plus` runs it, t is at each step the class whose linearised boundary is nearest, which
takes a gradient a class. Runs after the first start half of eps away in a random direction.

Within a budget an example is done at its first fooled iterate inside the ball. An iterate that was not fooled
is evaluated once, not twice: the gradient of the next step tells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive, Share
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class FAB(Checked):
    """FAB-T, or with `targeted` off FAB.

    eps       budget; None = the smallest perturbation found, whatever its size
    targets   likeliest wrong classes tried, at most k - 1
    restarts  runs (of each target); those after the first need eps
    hopeless  every 10 steps, end runs, the first target's excepted, whose closest point so far is more than 5 % outside
              the ball and would, at the pace of the last 10 steps, still be outside at the end; needs eps
    """

    eps: NonNegative | None = None
    norm: Literal["linf", "l2", "l1"] = "linf"
    steps: Count = 100
    targets: Count = 9
    targeted: bool = True
    restarts: Count = 1
    alpha_max: Share = 0.1
    eta: Positive = 1.05
    beta: Share = 0.9
    hopeless: bool = False
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    version: ClassVar = 4
    draws: ClassVar = 4
    minimal: ClassVar = True
    streams: ClassVar = True
    row_eps: ClassVar = True
    reference: ClassVar = Paper(
        "Minimally distorted adversarial examples with a fast adaptive boundary attack",
        "Francesco Croce and Matthias Hein", 2020, "ICML", "1907.02044",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.restarts < 1 or (self.restarts > 1 and self.eps is None):
            raise ValueError(
                f"restarts={self.restarts}: must be at least 1, and more than 1 start within eps: give eps"
            )

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`. Draws at random in restarts only."""
        import torch

        from testbed.perturb.geometry import budget_of

        from .boundary_steps import NEAREST, begin, walk
        from .closest import Closest
        from .losses import ranked_targets

        clean = model(x, rows=torch.arange(len(x), device=x.device))
        closest = Closest(x, y, self.eps, self.norm, clean.shape[1])
        aims = ranked_targets(clean, y, self.targets) if self.targeted else torch.full_like(y[:, None], NEAREST)
        for rank in range(aims.shape[1]):
            attack = replace(self, hopeless=self.hopeless and rank > 0)
            for number in range(self.restarts):
                rows = closest.standing
                if len(rows):
                    start = None
                    if number and self.eps is not None:
                        eps, own = budget_of(self.eps, rows), rng.take(rows.cpu().numpy())
                        start = begin(self, x[rows], eps, own, f"fab{rank}/{number}")
                    walk(attack, model, closest, rows, aims[rows, rank], start)
        return closest.found(targets=int(aims.shape[1]) if self.targeted else 0)

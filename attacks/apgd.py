"""Auto-PGD: projected gradient ascent whose step size is found per example (Croce and Hein 2020, algorithm 1).

    z       = P(x_k + step * s(grad L(x_k)))
    x_{k+1} = P(x_k + a (z - x_k) + (1 - a)(x_k - x_{k-1})),      a = 1 at k = 0, then 0.75
    at a checkpoint, of k steps since the last: halve the step and go back to the best iterate where
        (i)  at most rho * k of the steps raised the loss, or
        (ii) the step was not halved at the last checkpoint and the best loss has not risen since

The step starts at 2 eps; checkpoints come after 22, 41, 57, 70, 80, 87, 93, 99 of 100 steps. After going back, the
momentum term keeps the previous iterate. As in the authors' code the first checkpoint counts its first step as a rise
where the loss is above zero. All state is per example, so a row's run does not depend on the others; an example leaves
at its first fooled iterate. In l1 the steps are sparse and the ball shrinks to eps: see `sparse_ascent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Share
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

PAPER = Paper(
    "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    "Francesco Croce and Matthias Hein", 2020, "ICML", "2003.01690",
)  # fmt: skip


@dataclass(frozen=True)
class APGD(Checked):
    """Auto-PGD on cross-entropy or the difference of logits ratio.

    steps     gradient steps a restart
    restarts  random starts; later ones see only the examples still standing
    rho       share of rising steps below which the step is halved
    eot       gradients averaged per step, for models that draw random numbers
    judge     fresh draws, with the mean of whose predictions an example must be fooled to leave
    target    as in `pgd`: the class each example is sent to; the loss is then the targeted one of that name
    """

    eps: NonNegative
    norm: Literal["linf", "l2", "l1"] = "linf"
    steps: Count = 100
    restarts: Count = 1
    loss: Literal["ce", "dlr", "margin"] = "ce"
    rho: Share = 0.75
    eot: Count = 1
    judge: Count = 1
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    streams: ClassVar = True
    row_eps: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = PAPER

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.judge

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from .ascent import Ascent, Standing
        from .losses import aims, towards, towards_class

        ascent = Ascent(self.eps, self.norm, self.steps, self.rho, self.eot, self.bounds, judge=self.judge)
        aim = None
        if self.target != "none":
            aim = aims(self.target, model(x, rows=torch.arange(len(x), device=x.device)), y, rng)
        standing = Standing(x, y, model.held, aim)

        def rise(rows: Tensor) -> Any:
            return towards(self.loss, y[rows]) if aim is None else towards_class(self.loss, y[rows], aim[rows])

        for number in range(self.restarts):
            standing.attack(rise, ascent, model, rng, f"apgd-{self.loss}/{number}")
        return standing.found(**({} if aim is None else {"targets_reached": int((standing.first > 0).sum())}))


@dataclass(frozen=True)
class APGDT(Checked):
    """Auto-PGD on the targeted difference of logits ratio, one run for each of the likeliest wrong classes.

    Targets are the `targets` classes of highest clean logit other than the label; with k classes at most k - 1. Later
    targets see only the examples still standing; any misclassification counts.

    hopeless  end runs, the first target's excepted, that twice their pace between the first two checkpoints would not
              take to success; on the nets of benchmarks/bench_autoattack.py that is more than nine runs in ten
    eot, judge  as in APGD
    """

    eps: NonNegative
    norm: Literal["linf", "l2", "l1"] = "linf"
    steps: Count = 100
    targets: Count = 9
    rho: Share = 0.75
    eot: Count = 1
    judge: Count = 1
    hopeless: bool = False
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    streams: ClassVar = True
    row_eps: ClassVar = True
    reference: ClassVar = PAPER

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.judge

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from .ascent import Ascent, Standing
        from .losses import ranked_targets

        standing = Standing(x, y, model.held)
        aims = ranked_targets(model(x, rows=torch.arange(len(x), device=x.device)), y, self.targets)
        for rank in range(aims.shape[1]):
            hopeless = self.hopeless and rank > 0
            ascent = Ascent(self.eps, self.norm, self.steps, self.rho, self.eot, self.bounds, hopeless, self.judge)
            standing.attack(partial(_aim, y, aims[:, rank]), ascent, model, rng, f"apgd-t/{rank}")
        return standing.found(targets=int(aims.shape[1]))


def _aim(y: Tensor, target: Tensor, rows: Tensor) -> Any:
    from .losses import towards_target

    return towards_target(y[rows], target[rows])

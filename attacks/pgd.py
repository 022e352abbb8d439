"""Projected gradient descent and its one-step and fixed-start forms.

    FGSM  x + eps * s(g)                                             Goodfellow et al. 2015
    BIM   PGD from the clean image                                   Kurakin et al. 2017
    PGD   x_{k+1} = P(x_k + a * s(grad L(x_k))), x_0 random in the ball, several restarts   Madry et al. 2018

s is the norm's steepest unit step (`testbed.perturb.geometry.steepest`), P the projection on the ball and then the box.
An example leaves at its first fooled iterate, also between restarts; one that stands keeps its highest-loss iterate.

`target` sends each example to a class (Kurakin et al. 2017): the runner-up by clean logits, the least likely class, one
by lot, or one that is given (`testbed.perturb.aims`); it then leaves where it is given that class, and
`targets_reached` in the audit counts them. Success in the ledger stays what it always is, any misclassification. `eot`
averages each evaluation over that many draws of a model that draws random numbers (Athalye et al. 2018); an example is
then fooled where the mean prediction of as many fresh draws is wrong.

PGD with restarts is the per-example worst case over them. Some report the average over restarts of the accuracy that
each leaves, which is never lower. `average` runs every restart on every example and gives both: images and ledger stay
the worst case's, and the audit has each restart's robust accuracy, their mean and deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

Norms = Literal["linf", "l2", "l1"]
#: A rule, a class for all, or one an example; see `testbed.perturb.aims`.
Target = Literal["none", "second", "least", "random", "groups"] | int | tuple[int, ...]


@dataclass(frozen=True)
class FGSM(Checked):
    """Fast gradient method: one step of size eps up the loss. `random_start` adds the start of PGD (R+FGSM)."""

    eps: NonNegative
    norm: Norms = "linf"
    random_start: bool = False
    loss: Literal["ce", "margin", "dlr"] = "ce"
    target: Target = "none"
    eot: Count = 1
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    streams: ClassVar = True
    row_eps: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Explaining and harnessing adversarial examples",
        "Ian Goodfellow and Jonathon Shlens and Christian Szegedy",
        2015,
        "ICLR",
        "1412.6572",
    )

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        one = PGD(
            self.eps, self.norm, 1, self.eps, 1, self.random_start, self.loss, self.target, self.eot, bounds=self.bounds
        )
        return one(model, x, y, rng=rng)


@dataclass(frozen=True)
class BIM(Checked):
    """Basic iterative method: PGD from the clean image with the paper's step eps / steps where none is given."""

    eps: NonNegative
    norm: Norms = "linf"
    steps: Count = 10
    step_size: Positive | None = None
    loss: Literal["ce", "margin", "dlr"] = "ce"
    target: Target = "none"
    eot: Count = 1
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    streams: ClassVar = True
    row_eps: ClassVar = True
    lengths: ClassVar = ("step_size",)
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Adversarial examples in the physical world",
        "Alexey Kurakin and Ian Goodfellow and Samy Bengio",
        2017,
        "ICLR workshop",
        "1607.02533",
    )

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        step = self.eps / self.steps if self.step_size is None else self.step_size
        many = PGD(
            self.eps, self.norm, self.steps, step, 1, False, self.loss, self.target, self.eot, bounds=self.bounds
        )
        return many(model, x, y, rng=rng)


@dataclass(frozen=True)
class PGD(Checked):
    """Projected gradient descent.

    steps        gradient steps a restart; each iterate is evaluated, the last one by a forward pass alone
    step_size    in input units; 2.5 * eps / steps where absent (Madry et al. 2018, appendix)
    restarts     independent random starts; later ones see only the examples still standing
    random_start uniform in the ball; without it every restart would be the same, so restarts must be 1
    average      no example leaves between restarts, so that each restart has a robust accuracy of its own; it costs
                 more and changes no image
    """

    eps: NonNegative
    norm: Norms = "linf"
    steps: Count = 40
    step_size: Positive | None = None
    restarts: Count = 1
    random_start: bool = True
    loss: Literal["ce", "margin", "dlr"] = "ce"
    target: Target = "none"
    eot: Count = 1
    average: bool = False
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    streams: ClassVar = True
    row_eps: ClassVar = True
    lengths: ClassVar = ("step_size",)
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Towards deep learning models resistant to adversarial attacks",
        "Aleksander Madry and Aleksandar Makelov and Ludwig Schmidt and Dimitris Tsipras and Adrian Vladu",
        2018,
        "ICLR",
        "1706.06083",
    )

    def __post_init__(self) -> None:
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts={self.restarts} without random_start would repeat one run; use restarts=1")
        if self.steps < 1 or self.restarts < 1 or self.eot < 1:
            raise ValueError(
                f"steps, restarts and eot must be at least 1, got {self.steps}, {self.restarts}, {self.eot}"
            )
        if self.average and (self.restarts < 2 or self.target != "none"):
            raise ValueError(
                f"average is of the robust accuracy over restarts: it takes restarts of 2 or more and no target, got "
                f"restarts={self.restarts}, target={self.target!r}"
            )

    @property
    def restarts_apart(self) -> int:
        """How many restarts are judged one by one."""
        return self.restarts if self.average else 0

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    @property
    def early(self) -> int:
        """Evaluations: an example fooled by then is nearly always fooled at the next smaller budget of a curve too."""
        return self.steps // 3

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from .losses import aims
        from .tracker import Tracker

        aim = None
        if self.target != "none":
            aim = aims(self.target, model(x, rows=torch.arange(len(x), device=x.device)), y, rng)
        tracker = Tracker(x, y, aim, model.held)
        runs = (
            [Tracker(x, y, None, model.held) for _ in range(self.restarts)]
            if self.average
            else [tracker] * self.restarts
        )
        gains = [self._restart(model, x, y, rng, run, number) for number, run in enumerate(runs)]
        if self.average:
            for run in runs:
                tracker.follow(run)
            return replace(tracker.found(late_gain=max(gains)), restarts=torch.stack([run.best for run in runs]))
        reached = {} if aim is None else {"targets_reached": int((tracker.first > 0).sum())}
        return tracker.found(late_gain=max(gains), **reached)

    def _restart(self, model: Victim, x: Tensor, y: Tensor, rng: Any, tracker: Any, number: int) -> float:
        """One run from one start; the share of the loss gained on standing examples that came in the last quarter."""
        from testbed.perturb.geometry import Budget, budget_of, confine, limits, random_direction, spread, steepest

        from .losses import towards, towards_class
        from .sampling import confirmed, gradient_of, logits_of

        low, high = limits(self.bounds, x, x.device)
        size: Budget = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        rows = tracker.standing
        if len(rows) == 0:
            return 0.0
        now, eps, size = x[rows], budget_of(self.eps, rows), budget_of(size, rows)
        if self.random_start:
            away = random_direction(rng.take(rows.cpu().numpy()), now, self.norm, f"start{number}")
            now = confine(now + spread(eps, now) * away, now, self.norm, eps, low, high)
        marks = []
        for step in range(self.steps + 1):
            aim = tracker.aim
            rise = towards(self.loss, y[rows]) if aim is None else towards_class(self.loss, y[rows], aim[rows])
            if step < self.steps:
                gradient, loss, logits = gradient_of(model, now, rise, rows, self.eot)
            else:
                logits = logits_of(model, now, rows, self.eot)
                loss = rise(logits, slice(None))
            fooled = confirmed(model, now, rows, logits, tracker.fooled, self.eot)
            stand = tracker.see(rows, now, logits, loss, fooled)
            marks.append((step, rows[stand], loss[stand]))
            if not bool(stand.all()):
                rows, now, gradient = rows[stand], now[stand], gradient[stand]
                eps, size = budget_of(eps, stand), budget_of(size, stand)
            if len(rows) == 0 or step == self.steps:
                break
            step_to = now + spread(size, now) * steepest(gradient, self.norm)
            now = confine(step_to, x[rows], self.norm, eps, low, high)
        return late_gain(marks, rows, self.steps)


def late_gain(marks: list[tuple[int, Tensor, Tensor]], rows: Tensor, steps: int) -> float:
    """Of the loss that the examples `rows` gained over a run, the share gained in its last quarter; 0 = converged.

    marks   (step, rows then standing, their loss); rows are sorted and only ever leave
    """
    import torch

    if len(rows) == 0 or len(marks) < 4:
        return 0.0
    best, start, early = None, None, None
    for step, there, loss in marks:
        mine = loss[torch.searchsorted(there, rows)]
        best = mine if best is None else torch.maximum(best, mine)
        start = best if start is None else start
        early = best if step <= 0.75 * steps else early
    gained = float((best - start).double().mean()) if best is not None and start is not None else 0.0
    late = float((best - early).double().mean()) if best is not None and early is not None else 0.0
    return late / gained if gained > 0 else 0.0

"""AutoAttack: a fixed cascade of parameter-free attacks, judged per example (Croce and Hein 2020).

    standard  APGD-CE, APGD-T (9 targets), Square (5000 queries), FAB-T (9 targets);
              in l1 APGD-CE has 5 restarts and APGD-T 5 targets (Croce and Hein 2021)
    plus      APGD-CE and APGD-DLR with 5 restarts, APGD-T, Square, FAB (untargeted, 5 restarts), FAB-T
    rand      APGD-CE and APGD-DLR with gradients averaged over 20 draws, for models that draw random numbers

An example leaves at its first fooled iterate; it is robust where every stage failed, so the result is the per-example
worst case. Order does not change that, and Square comes before FAB-T because it is the cheaper of the two and finds
more. Each stage starts from the clean image, with its own draws.

The number of targets and the losses adapt to the number of classes: k - 1 targets at most; with three classes the
targeted ratio divides by z_(1) - z_(3), with two both ratios are the plain logit difference. How many targets a stage
had is in the audit (`apgd-t_targets`).

A standing example's image is, of the stages' highest-loss iterates, the one with the highest cross-entropy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative

from .apgd import APGD, APGDT, PAPER
from .fab import FAB
from .square import Square

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class AutoAttack(Checked):
    """AutoAttack, cascade `standard`, `plus` or `rand`.

    targets     wrong classes of APGD-T and FAB-T; by itself 9, and 5 for APGD-T in l1
    judge       rand only: fresh draws whose mean prediction decides whether an example is fooled
    exhaustive  spend the whole budget on every standing example; without it, runs of APGD-T and FAB-T (the first
                target excepted) and Square end where their pace so far would not take them to success (`hopeless`)
    """

    eps: NonNegative
    norm: Literal["linf", "l2", "l1"] = "linf"
    cascade: Literal["standard", "plus", "rand"] = "standard"
    steps: Count = 100
    targets: Count | None = None
    queries: Count = 5000
    eot: Count = 20
    judge: Count = 20
    exhaustive: bool = False
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    version: ClassVar = "5/1"
    draws: ClassVar = "5/1"
    kinds: ClassVar = ("image",)
    streams: ClassVar = True
    row_eps: ClassVar = True
    reference: ClassVar = PAPER

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.judge if self.cascade == "rand" else 1

    def stages(self) -> Iterator[tuple[str, Any]]:
        """Name and attack of each stage, in order."""
        ball = {"eps": self.eps, "norm": self.norm, "bounds": self.bounds}
        if self.cascade == "rand":
            random: dict[str, Any] = {"steps": self.steps, "eot": self.eot, "judge": self.judge}
            yield "apgd-ce", APGD(**ball, **random)
            yield "apgd-dlr", APGD(**ball, **random, loss="dlr")
            return
        plus, hopeless = self.cascade == "plus", not self.exhaustive
        towards = self.targets or (5 if self.norm == "l1" and not plus else 9)
        yield "apgd-ce", APGD(**ball, steps=self.steps, restarts=5 if plus or self.norm == "l1" else 1)
        if plus:
            yield "apgd-dlr", APGD(**ball, steps=self.steps, restarts=5, loss="dlr")
        yield "apgd-t", APGDT(**ball, steps=self.steps, targets=towards, hopeless=hopeless)
        yield "square", Square(**ball, queries=self.queries, hopeless=hopeless)
        fab: dict[str, Any] = {"steps": self.steps, "hopeless": hopeless}
        if plus:
            yield "fab", FAB(**ball, **fab, targeted=False, restarts=5)
        yield "fab-t", FAB(**ball, **fab, targets=self.targets or 9)

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        from .cascade import run

        return run(self.stages(), model, x, y, rng, inside=(self.eps, self.norm), judge=self.fresh_draws)


@dataclass(frozen=True)
class AutoAttackFast(Checked):
    """The fast tier: APGD-CE and APGD-T, fewer steps and targets, hopeless runs ended; then a short `square_ascent`.

    What it misses is what only FAB-T, a long search or a longer run finds; on masked nets that is something still.
    Measured, with intervals and the price: `autoattack_fast_gap.json` beside this file.
    """

    eps: NonNegative
    norm: Literal["linf", "l2"] = "linf"
    steps: Count = 75
    targets: Count = 5
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2")
    version: ClassVar = 2
    draws: ClassVar = 2
    streams: ClassVar = True
    row_eps: ClassVar = True
    reference: ClassVar = PAPER

    def stages(self) -> Iterator[tuple[str, Any]]:
        """Name and attack of each stage, in order."""
        from .square_ascent import SquareAscent

        ball: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "bounds": self.bounds}
        yield "apgd-ce", APGD(**ball, steps=self.steps)
        yield "apgd-t", APGDT(**ball, steps=self.steps, targets=self.targets, hopeless=True)
        yield "square-ascent", SquareAscent(**ball)

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        from .cascade import run

        return run(self.stages(), model, x, y, rng, inside=(self.eps, self.norm))

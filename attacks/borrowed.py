"""Attacks whose sound public implementation is foolbox's, under the field's names and with the papers' parameters.

They run through `foolbox_adapter`, which see for what it puts right; so they are batch-coupled: a seed for each slice,
the global state restored, one failing example never a failing batch. With `exact: true` the examples are run one by
one, each with a seed of its own: any batch size gives the same images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


class Borrowed:
    """Base: `classes` maps a norm to the foolbox class, `options` are its constructor's arguments."""

    minimal: ClassVar = True
    batch_coupled: ClassVar = True
    classes: ClassVar[Mapping[str, str]] = {}

    eps: float | None
    norm: Any
    bounds: Any
    exact: bool

    def options(self) -> dict[str, Any]:
        """The constructor's arguments: the fields other than those every attack has."""
        return {key: value for key, value in vars(self).items() if key not in ("eps", "norm", "bounds", "exact")}

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, generator: Any, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x. `generator` only says that draws are per slice; `rng` seeds `exact` runs."""
        from .foolbox_adapter import Settings
        from .foolbox_run import run

        settings = Settings(
            self.classes[self.norm], self.norm, self.eps, self.bounds, exact=self.exact, params=self.options()
        )
        return run(settings, model, x, y, rng)


@dataclass(frozen=True)
class HopSkipJump(Borrowed):
    """Decision-based: the boundary's normal estimated from labels alone, a step along it, a bisection back."""

    eps: float | None = None
    norm: Literal["l2", "linf"] = "l2"
    steps: int = 64
    initial_gradient_eval_steps: int = 100
    max_gradient_eval_steps: int = 10000
    gamma: float = 1.0
    exact: bool = False
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2", "linf")
    white_box: ClassVar = False
    classes: ClassVar = {"l2": "HopSkipJumpAttack", "linf": "HopSkipJumpAttack"}
    reference: ClassVar = Paper(
        "HopSkipJumpAttack: a query-efficient decision-based attack",
        "Jianbo Chen and Michael I. Jordan and Martin J. Wainwright", 2020, "IEEE S&P", "1904.02144",
    )  # fmt: skip

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, about: for each step the estimate of the normal, and 25 to get back."""
        grown = (int(self.initial_gradient_eval_steps * (step + 1) ** 0.5) for step in range(self.steps))
        return sum(min(one, self.max_gradient_eval_steps) + 25 for one in grown), 0


@dataclass(frozen=True)
class Boundary(Borrowed):
    """Decision-based: a random walk along the boundary towards the clean image."""

    eps: float | None = None
    norm: Literal["l2"] = "l2"
    steps: int = 25000
    spherical_step: float = 0.01
    source_step: float = 0.01
    source_step_convergance: float = 1e-7
    step_adaptation: float = 1.5
    exact: bool = False
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2",)
    white_box: ClassVar = False
    classes: ClassVar = {"l2": "BoundaryAttack"}
    reference: ClassVar = Paper(
        "Decision-based adversarial attacks: reliable attacks against black-box machine learning models",
        "Wieland Brendel and Jonas Rauber and Matthias Bethge", 2018, "ICLR", "1712.04248",
    )  # fmt: skip

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, about: one a step, two more in every tenth, 40 to begin with."""
        return self.steps + self.steps // 5 + 40, 0

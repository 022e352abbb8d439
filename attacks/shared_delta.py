"""Perturbations that are one for many, or confined to a place: universal perturbation and patch.

universal   one delta for the whole set: delta <- P(delta + a s(mean gradient)), the gradient averaged over batches
            (Shafahi et al. 2020, after Moosavi-Dezfooli et al. 2017). Depends on the set it is given, by nature.
patch       a square at a random place of each image, any values inside the bounds (Karmon et al. 2018, LaVAN)

`eot` of both is that of `pgd`: gradients averaged over draws of a randomised model, verdicts by fresh draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive, PositiveShare
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class Universal(Checked):
    """One delta for all; the loss of an example is cut at `clip` so that a few cannot lead. Steps of eps / 10."""

    eps: NonNegative
    norm: Literal["linf", "l2"] = "linf"
    steps: Count = 50
    clip: Positive = 9.0
    eot: Count = 1
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2")
    batch_coupled: ClassVar = True
    streams: ClassVar = True
    reference: ClassVar = Paper(
        "Universal adversarial training",
        "Ali Shafahi and Mahyar Najibi and Zheng Xu and John Dickerson and Larry S. Davis and Tom Goldstein",
        2020, "AAAI", "1811.11304",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.eot < 1:
            raise ValueError(f"eot must be at least 1, got {self.eot}")

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    def __call__(self, model: Victim, x: Tensor, y: Tensor) -> Found:
        """x `[n ...]` -> clip(x + delta); see `testbed.perturb.attack`."""
        import torch

        from testbed.perturb.attack import Found
        from testbed.perturb.geometry import limits, project, steepest

        from .losses import cross_entropy
        from .sampling import gradient_of

        low, high = limits(self.bounds, x, x.device)
        rows, delta = torch.arange(len(x), device=x.device), torch.zeros_like(x[:1])
        best, most = delta, -1.0
        for _ in range(self.steps):
            now = torch.clamp(x + delta, low, high)
            gradient, loss, logits = gradient_of(
                model, now, lambda z, at: cross_entropy(z, y[at]).clamp_max(self.clip), rows, self.eot
            )
            score = float((logits.argmax(1) != y).double().mean()) + float(loss.double().mean()) * 1e-6
            best, most = (delta, score) if score > most else (best, most)
            delta = project(
                delta + self.eps / 10 * steepest(gradient.mean(0, keepdim=True), self.norm), self.norm, self.eps
            )
        return Found(torch.clamp(x + best, low, high))


@dataclass(frozen=True)
class Patch(Checked):
    """A square covering `area` of the image, at a place of each example's own; steps along the sign.

    step_size   as a share of the range of inputs
    """

    area: PositiveShare = 0.05
    steps: Count = 100
    step_size: Positive = 0.05
    eot: Count = 1
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ()
    kinds: ClassVar = ("image",)
    streams: ClassVar = True
    reference: ClassVar = Paper(
        "LaVAN: localized and visible adversarial noise",
        "Danny Karmon and Daniel Zoran and Yoav Goldberg", 2018, "ICML", "1801.02608",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.eot < 1:
            raise ValueError(f"eot must be at least 1, got {self.eot}")

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from testbed.perturb.geometry import limits

        from .losses import towards
        from .sampling import confirmed, gradient_of
        from .square_search import window
        from .tracker import Tracker

        low, high = limits(self.bounds, x, x.device)
        c, h, w = x.shape[1:]
        side = min(max(round((self.area * h * w) ** 0.5), 1), h, w)
        where = window(torch.from_numpy(rng.uniform((2,), name="place")).to(x.device), side, c, h, w)
        mask = torch.zeros_like(x).flatten(1).scatter(1, where, 1.0).reshape(x.shape)
        tracker, rows = Tracker(x, y, None, model.held), torch.arange(len(x), device=x.device)
        start = torch.from_numpy(rng.uniform(tuple(x.shape[1:]), name="values")).to(x)
        now = torch.where(mask > 0, low + (high - low) * start, x)
        for _ in range(self.steps):
            gradient, loss, logits = gradient_of(model, now, towards("margin", y[rows]), rows, self.eot)
            fooled = confirmed(model, now, rows, logits, tracker.fooled, self.eot)
            stand = tracker.see(rows, now, logits, loss, fooled)
            now = torch.clamp(now + self.step_size * gradient.sign() * mask[rows], low, high)[stand]
            rows = rows[stand]
            if len(rows) == 0:
                break
        return tracker.found()

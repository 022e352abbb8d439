"""TRADES (Zhang et al. 2019): CE(f(x), y) + beta KL(f(x) || f(x')), where x' in the eps ball maximises that KL.

The inner attack starts at x + 0.001 N(0, 1) and runs in eval mode, as in the authors' code. The defaults are the
paper's for MNIST, with beta 6; for CIFAR-10 it takes eps 0.031, alpha 0.007, steps 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.models.recipes.base import Recipe
from testbed.parameters import Count, NonNegative
from testbed.types import Paper

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Trades(Recipe):
    """`beta`: weight of the robust term; `eps`, `alpha`, `steps`: of the inner attack."""

    beta: NonNegative = 6.0
    eps: NonNegative = 0.3
    alpha: NonNegative = 0.01
    steps: Count = 40

    reference: ClassVar[Paper] = Paper(
        "Theoretically Principled Trade-off between Robustness and Accuracy",
        "Hongyang Zhang, Yaodong Yu, Jiantao Jiao, Eric P. Xing, Laurent El Ghaoui, Michael I. Jordan",
        2019,
        "ICML",
        "1901.08573",
    )

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Clean cross-entropy plus `beta` times the divergence at the attacked images."""
        from torch.nn import functional as F

        moved = self.attacked(model.eval(), x)
        model.train()
        clean = model(x)
        apart = F.kl_div(model(moved).log_softmax(1), clean.softmax(1), reduction="batchmean")
        return F.cross_entropy(clean, y) + self.beta * apart

    def attacked(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """The images in the ball that are furthest from `x` in KL of the predictions."""
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            clean = model(x).softmax(1)
        moved = x + 0.001 * torch.randn_like(x)
        for _ in range(self.steps):
            moved.requires_grad_(True)
            apart = F.kl_div(model(moved).log_softmax(1), clean, reduction="sum")
            (gradient,) = torch.autograd.grad(apart, moved)
            moved = moved.detach() + self.alpha * gradient.sign()
            moved = (x + (moved - x).clamp(-self.eps, self.eps)).clamp(0, 1)
        return moved

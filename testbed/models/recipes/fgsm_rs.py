"""FGSM adversarial training with a random start (Wong, Rice & Kolter 2020, algorithm 3).

    delta ~ U[-eps, eps];  delta <- clip(delta + alpha sign(grad CE(f(x + delta), y)), -eps, eps);
    minimise CE(f(x + delta), y)
with x + delta kept in [0, 1] before and after the step, as in the authors' code. Fast, and known to overfit to the
one step on long runs with large eps (the paper's "catastrophic overfitting"): judge the result by strong attacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.models.recipes.base import Recipe
from testbed.types import Paper

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class FgsmRs(Recipe):
    """`eps`: radius of the Linf ball; `alpha`: the step in units of eps."""

    eps: float = 0.3
    alpha: float = 1.25

    reference: ClassVar[Paper] = Paper(
        "Fast is better than free: Revisiting adversarial training",
        "Eric Wong, Leslie Rice, J. Zico Kolter",
        2020,
        "ICLR",
        "2001.03994",
    )

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy on images moved by one step from a random start."""
        import torch
        from torch.nn import functional as F

        start = torch.empty_like(x).uniform_(-self.eps, self.eps)
        moved = (x + start).clamp(0, 1).requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(moved), y), moved)
        delta = (moved.detach() - x + self.alpha * self.eps * gradient.sign()).clamp(-self.eps, self.eps)
        return F.cross_entropy(model((x + delta).clamp(0, 1)), y)

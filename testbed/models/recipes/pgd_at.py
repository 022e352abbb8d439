"""PGD adversarial training (Madry et al. 2018): minimise the loss at the end of a PGD attack with a random start.

The network stays in training mode during the attack, as in the PyTorch codes of Wong et al. and Rice et al. The
defaults are the paper's for MNIST; for CIFAR-10 it takes eps 8/255, alpha 2/255, steps 7.
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
class PgdAt(Recipe):
    """`eps`: radius of the Linf ball; `alpha`: step; `steps`: how many."""

    eps: NonNegative = 0.3
    alpha: NonNegative = 0.01
    steps: Count = 40

    reference: ClassVar[Paper] = Paper(
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "Aleksander Madry, Aleksandar Makelov, Ludwig Schmidt, Dimitris Tsipras, Adrian Vladu",
        2018,
        "ICLR",
        "1706.06083",
    )

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy at the attacked images."""
        import torch
        from torch.nn import functional as F

        moved = (x + torch.empty_like(x).uniform_(-self.eps, self.eps)).clamp(0, 1)
        for _ in range(self.steps):
            moved.requires_grad_(True)
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(moved), y), moved)
            moved = moved.detach() + self.alpha * gradient.sign()
            moved = (x + (moved - x).clamp(-self.eps, self.eps)).clamp(0, 1)
        return F.cross_entropy(model(moved), y)

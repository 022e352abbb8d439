"""Mixup (Zhang et al. 2018): train on lambda x_i + (1 - lambda) x_j with both labels, lambda ~ Beta(alpha, alpha).

One lambda a batch, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.models.recipes.base import Recipe
from testbed.parameters import NonNegative
from testbed.types import Paper

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Mixup(Recipe):
    """`alpha`: larger mixes more."""

    alpha: NonNegative = 1.0

    reference: ClassVar[Paper] = Paper(
        "mixup: Beyond Empirical Risk Minimization",
        "Hongyi Zhang, Moustapha Cisse, Yann N. Dauphin, David Lopez-Paz",
        2018,
        "ICLR",
        "1710.09412",
    )

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy on mixed images, weighted between the two labels."""
        import torch
        from torch.nn import functional as F

        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        partner = torch.randperm(len(x)).to(x.device)
        logits = model(share * x + (1 - share) * x[partner])
        return share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[partner])

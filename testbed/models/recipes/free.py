"""Free adversarial training (Shafahi et al. 2019): replay each batch m times and use every gradient twice.

One backward pass gives the gradient of the weights, which are moved, and of the perturbation, which is moved by
eps sign(gradient) and clipped to the ball. The perturbation goes on from batch to batch. Each batch counts m times,
so `epochs` here are passes over the data: the paper divides its epochs by m. Deviation: the perturbation starts at
zero in every epoch instead of once, so that a checkpoint holds all there is to go on from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from testbed.models.recipes.base import Recipe
from testbed.parameters import Count, NonNegative
from testbed.types import Paper

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Free(Recipe):
    """`eps`: radius of the Linf ball and step; `m`: replays of each batch."""

    eps: NonNegative = 0.3
    m: Count = 8

    reference: ClassVar[Paper] = Paper(
        "Adversarial Training for Free!",
        "Ali Shafahi, Mahyar Najibi, Amin Ghiasi, Zheng Xu, John Dickerson, Christoph Studer, Larry S. Davis, "
        "Gavin Taylor, Tom Goldstein",
        2019,
        "NeurIPS",
        "1904.12843",
    )

    def losses(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, memory: dict[str, Any]
    ) -> Iterator[torch.Tensor]:
        """`m` losses; between them the perturbation follows its own gradient."""
        import torch
        from torch.nn import functional as F

        delta = memory["delta"][: len(x)] if "delta" in memory else torch.zeros_like(x)
        for _ in range(self.m):
            free = delta.clone().requires_grad_(True)
            yield F.cross_entropy(model((x + free).clamp(0, 1)), y)
            if free.grad is not None:
                delta = (delta + self.eps * free.grad.sign()).clamp(-self.eps, self.eps)
        memory["delta"] = delta

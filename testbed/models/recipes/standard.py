"""Cross-entropy on clean images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.models.recipes.base import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Standard(Recipe):
    """Plain training."""

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy."""
        from torch.nn import functional as F

        return F.cross_entropy(model(x), y)

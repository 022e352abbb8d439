"""Label smoothing (Szegedy et al. 2016): the target is (1 - alpha) of the label and alpha / k of every class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.models.recipes.base import Recipe
from testbed.parameters import Share
from testbed.types import Paper

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class LabelSmoothing(Recipe):
    """`alpha`: the share of the target spread evenly over all classes."""

    alpha: Share = 0.1

    reference: ClassVar[Paper] = Paper(
        "Rethinking the Inception Architecture for Computer Vision",
        "Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
        2016,
        "CVPR",
        "1512.00567",
    )

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy against the smoothed labels."""
        from torch.nn import functional as F

        return F.cross_entropy(model(x), y, label_smoothing=self.alpha)

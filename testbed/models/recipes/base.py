"""What recipes share: optimiser, learning-rate schedule, batch size, augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive, ShareBelowOne
from testbed.types import Paper

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Recipe(Checked):
    """A recipe is its hyper-parameters and `loss`. The defaults suit a few thousand small images.

    lr        largest learning rate
    schedule  cyclic: up from 0 to lr over the first two fifths of training, then down to 0, linearly (Wong 2020);
              cosine: from lr to 0; step: lr, a tenth after half and a hundredth after three quarters; constant
    augment   "none", or "crop_flip": 4 pixels of zero padding, random crop, random horizontal flip
    """

    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Positive = 2e-3
    schedule: Literal["cyclic", "cosine", "step", "constant"] = "cyclic"
    batch_size: Count = 50
    momentum: ShareBelowOne = 0.9
    weight_decay: NonNegative = 0.0
    augment: Literal["none", "crop_flip"] = "none"

    version: ClassVar[int] = 1
    reference: ClassVar[Paper | None] = None

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The loss of one batch, a scalar; random numbers come from torch's global generator."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor losses")

    def losses(
        self, model: nn.Module, x: torch.Tensor, y: torch.Tensor, memory: dict[str, Any]
    ) -> Iterator[torch.Tensor]:
        """The losses of one batch, each minimised by a step before the next is asked for; one, unless overridden.

        `memory` is empty at the start of an epoch and kept through it.
        """
        yield self.loss(model, x, y)

    def rate(self, progress: float) -> float:
        """Learning rate at `progress` in 0..1 of the training.

        >>> [round(Recipe(lr=1.0).rate(t), 6) for t in (0, 0.2, 0.4, 0.7, 1)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        if self.schedule == "cyclic":
            return self.lr * min(progress / 0.4, (1 - progress) / 0.6)
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * progress)) / 2
        if self.schedule == "step":
            return self.lr * (1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01)
        return self.lr

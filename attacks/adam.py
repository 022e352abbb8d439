"""Adam with one state a row, so that rows can leave and no row depends on another (Kingma and Ba 2015)."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Ascent steps of size `rate`; betas 0.9 and 0.999. Gradients well below `tiny` give no step.

    >>> Adam(torch.zeros(1, 2), 0.1).step(torch.tensor([[3.0, -0.5]]))
    tensor([[ 0.1000, -0.1000]])
    """

    def __init__(self, like: Tensor, rate: float, tiny: float = 1e-8) -> None:
        self.rate, self.tiny, self.count = rate, tiny, 0
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)

    def step(self, gradient: Tensor) -> Tensor:
        """What to add to the variable to go up."""
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return self.rate * mean / (square.sqrt() + self.tiny)

    def keep(self, which: Tensor) -> Adam:
        """The state of the rows that `which` marks."""
        self.mean, self.square = self.mean[which], self.square[which]
        return self

"""LeNet-5 in the two forms that published tables use, for images of any size.

classic      conv 5x5 to 6 (padded), pool, conv 5x5 to 16, pool, linear 120, 84, k (LeCun 1998, with ReLU and
             max-pooling): 61,706 parameters at 28x28 grey
uncertainty  three padded 5x5 convolutions to 6, 16 and 120 with pools after the first two, linear 84, k: the
             network of the uncertainty-baselines MNIST scripts, 545,546 parameters at 28x28 grey (its table
             says 60K, which is the classic network's count)
"""

from __future__ import annotations

import torch
from torch import nn


class LeNet5(nn.Module):
    """Logits `[n k]` from images `[n c h w]` in [0, 1]; `dropout` before each linear layer."""

    def __init__(self, shape: tuple[int, int, int], classes: int, form: str = "classic", dropout: float = 0.0) -> None:
        super().__init__()
        channels, h, w = shape
        convolutions = [nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        if form == "classic":
            convolutions += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
            widths = [120, 84]
        else:
            convolutions += [nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            convolutions += [nn.Conv2d(16, 120, 5, padding=2), nn.ReLU()]
            widths = [84]
        self.convolutions = nn.Sequential(*convolutions)
        with torch.no_grad():
            inside = self.convolutions(torch.zeros(1, channels, h, w)).numel()
        dense: list[nn.Module] = []
        for width in widths:
            dense += [nn.Dropout(dropout), nn.Linear(inside, width), nn.ReLU()]
            inside = width
        self.dense = nn.Sequential(*dense, nn.Dropout(dropout))
        self.linear = nn.Linear(inside, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.linear(self.dense(self.convolutions(x).flatten(1)))
        return logits

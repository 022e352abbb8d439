"""A small convolutional network for images of any size: two strided convolutions and two linear layers.

At 28x28 grey with the default widths this is the network of Wong & Kolter 2018 and Wong et al. 2020 (166,406
parameters): conv 4x4 stride 2 to 16, ReLU, conv 4x4 stride 2 to 32, ReLU, linear 1568 to 100, ReLU, linear to k.
Larger images are average-pooled to at most `grid` x `grid` before the linear layers. `KEYS` maps the names of the
public checkpoints of that network, which are positions in a sequence, to the names here.
"""

from __future__ import annotations

import torch
from torch import nn

from testbed.models.nets.common import Normalise

KEYS = {
    f"{position}.{kind}": f"{name}.{kind}"
    for position, name in (("0", "conv1"), ("2", "conv2"), ("5", "fc1"), ("7", "fc2"))
    for kind in ("weight", "bias")
}


class SmallCnn(nn.Module):
    """Logits `[n k]` from images `[n c h w]` in [0, 1]."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        width: int = 16,
        hidden: int = 100,
        grid: int = 8,
        normalise: Normalise | None = None,
    ) -> None:
        super().__init__()
        channels, h, w = shape
        rows, columns = (min(side // 4, grid) for side in (h, w))
        self.normalise = normalise or nn.Identity()
        self.conv1 = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.pool = nn.Identity() if (rows, columns) == (h // 4, w // 4) else nn.AdaptiveAvgPool2d((rows, columns))
        self.fc1 = nn.Linear(2 * width * rows * columns, hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.conv2(torch.relu(self.conv1(self.normalise(x)))))
        x = torch.relu(self.fc1(self.pool(x).flatten(1)))
        logits: torch.Tensor = self.fc2(x)
        return logits

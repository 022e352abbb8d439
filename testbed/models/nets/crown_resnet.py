"""The small ResNets without batch norm of the alpha-beta-CROWN verification benchmark, trained adversarially at 2/255.

Keys are those of the public checkpoints (Verified-Intelligence/alpha-beta-CROWN): `conv1`,
`layer{1,2}.{i}.{conv1,conv2,shortcut.0}`, `linear1`, `linear2`; every convolution has a bias.
"""

from __future__ import annotations

import torch
from torch import nn

from testbed.models.nets.common import Normalise


class Block(nn.Module):
    """Two 3x3 convolutions added to the input, or to its 1x1 convolution where the block halves the image."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        same = stride == 1 and inside == outside
        self.shortcut = nn.Sequential(*([] if same else [nn.Conv2d(inside, outside, 1, stride=stride)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same layout, `outside` channels."""
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class CrownResNet(nn.Module):
    """Logits `[n k]` from images `[n 3 32 32]` in [0, 1]: "2b" has one stage of two blocks, "4b" has two."""

    def __init__(self, variant: str, classes: int, normalise: Normalise) -> None:
        super().__init__()
        first, width, stages, flat = (8, 16, 1, 1024) if variant == "2b" else (16, 32, 2, 512)
        self.normalise = normalise
        self.conv1 = nn.Conv2d(3, first, 3, stride=2, padding=1)
        self.layer1 = nn.Sequential(Block(first, width, 2), Block(width, width, 1))
        self.layer2 = nn.Sequential(*([] if stages == 1 else [Block(width, width, 2), Block(width, width, 1)]))
        self.linear1 = nn.Linear(flat, 100)
        self.linear2 = nn.Linear(100, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.conv1(self.normalise(x)))
        x = self.layer2(self.layer1(x)).flatten(1)
        logits: torch.Tensor = self.linear2(torch.relu(self.linear1(x)))
        return logits

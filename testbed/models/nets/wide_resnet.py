"""Wide ResNets (Zagoruyko & Komodakis 2016): pre-activation blocks, depth 6n + 4, widths 16k, 32k, 64k.

Keys are those of the common PyTorch implementation and of the checkpoints trained with it (TRADES and many others):
`conv1`, `block{1,2,3}.layer.{i}.{bn1,conv1,bn2,conv2,convShortcut}`, `bn1`, `fc`.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from testbed.models.nets.common import Normalise


class WideBlock(nn.Module):
    """BN, ReLU, conv, BN, ReLU, dropout, conv; where the width changes the shortcut starts after the first ReLU."""

    def __init__(self, inside: int, outside: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.convShortcut = None if inside == outside else nn.Conv2d(inside, outside, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same layout, `outside` channels."""
        active = torch.relu(self.bn1(x))
        kept = x if self.convShortcut is None else self.convShortcut(active)
        y: torch.Tensor = self.conv2(self.dropout(torch.relu(self.bn2(self.conv1(active)))))
        return kept + y


class Stage(nn.Module):
    """Blocks of one width, under the name `layer`."""

    def __init__(self, blocks: int, inside: int, outside: int, stride: int, dropout: float) -> None:
        super().__init__()
        first = WideBlock(inside, outside, stride, dropout)
        self.layer = nn.Sequential(first, *(WideBlock(outside, outside, 1, dropout) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same layout, `outside` channels."""
        y: torch.Tensor = self.layer(x)
        return y


class WideResNet(nn.Module):
    """Logits `[n k]` from images `[n c h w]` in [0, 1]."""

    def __init__(
        self, depth: int, width: int, channels: int, classes: int, dropout: float, normalise: Normalise | None
    ) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.normalise = normalise or nn.Identity()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = Stage(blocks, 16, 16 * width, 1, dropout)
        self.block2 = Stage(blocks, 16 * width, 32 * width, 2, dropout)
        self.block3 = Stage(blocks, 32 * width, 64 * width, 2, dropout)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data.normal_(
                    0, math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels))
                )
        self.fc.bias.data.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.block3(self.block2(self.block1(self.conv1(self.normalise(x)))))
        x = F.relu(self.bn1(x)).mean((2, 3))
        logits: torch.Tensor = self.fc(x)
        return logits

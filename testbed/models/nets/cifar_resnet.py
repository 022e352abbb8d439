"""The CIFAR ResNets of He et al. 2016, section 4.2: depth 6n + 2, widths 16, 32, 64, shortcuts without weights.

Keys are those of the public checkpoints by Y. Idelbayev (pytorch_resnet_cifar10): `conv1`, `bn1`,
`layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}`, `linear`. Where a block halves the image, its shortcut takes every second
pixel and pads the new channels with zeros on both sides (option A).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from testbed.models.nets.common import Normalise


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.stride, self.pad = stride, (outside - inside) // 2
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same layout, `outside` channels."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        kept = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + F.pad(kept, (0, 0, 0, 0, self.pad, self.pad)))


class CifarResNet(nn.Module):
    """Logits `[n k]` from images `[n c h w]` in [0, 1]."""

    def __init__(self, depth: int, channels: int, classes: int, normalise: Normalise | None) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.normalise = normalise or nn.Identity()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = torch.relu(self.bn1(self.conv1(self.normalise(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(inside: int, outside: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inside, outside, stride)
    return nn.Sequential(first, *(BasicBlock(outside, outside, 1) for _ in range(blocks - 1)))

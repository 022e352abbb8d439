"""Pre-activation ResNet-18 (He et al. 2016b) in the CIFAR form of the adversarial-training literature.

Keys are those of kuangliu/pytorch-cifar with a final batch norm, as in Wong et al. 2020 and Rice et al. 2020:
`conv1`, `layer{1..4}.{i}.{bn1,conv1,bn2,conv2,shortcut.0}`, `bn`, `linear`.
"""

from __future__ import annotations

import torch
from torch import nn

from testbed.models.nets.common import Normalise


class PreActBlock(nn.Module):
    """BN, ReLU, conv, BN, ReLU, conv; the shortcut convolution, where there is one, starts after the first ReLU."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        same = stride == 1 and inside == outside
        self.shortcut = None if same else nn.Sequential(nn.Conv2d(inside, outside, 1, stride=stride, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same layout, `outside` channels."""
        active = torch.relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        y: torch.Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return kept + y


class PreActResNet18(nn.Module):
    """Logits `[n k]` from images `[n c h w]` in [0, 1]; two blocks each of widths 64, 128, 256, 512."""

    def __init__(self, channels: int, classes: int, normalise: Normalise | None) -> None:
        super().__init__()
        self.normalise = normalise or nn.Identity()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(PreActBlock(64, 64, 1), PreActBlock(64, 64, 1))
        self.layer2 = nn.Sequential(PreActBlock(64, 128, 2), PreActBlock(128, 128, 1))
        self.layer3 = nn.Sequential(PreActBlock(128, 256, 2), PreActBlock(256, 256, 1))
        self.layer4 = nn.Sequential(PreActBlock(256, 512, 2), PreActBlock(512, 512, 1))
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(self.normalise(x))))))
        x = torch.relu(self.bn(x)).mean((2, 3))
        logits: torch.Tensor = self.linear(x)
        return logits

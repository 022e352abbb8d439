"""EfficientNet-Lite0: EfficientNet-B0 (Tan & Le 2019) without squeeze-and-excitation, with ReLU6 for swish.

A convolution to 32 channels, sixteen inverted bottlenecks, a 1x1 convolution to 1280, mean over space, a linear layer.
Padding is TensorFlow's "same": where a stride leaves an odd number of pixels to add, the extra one is at the end. Batch
norm has eps 1e-3. `keys` maps the names of the public PyTorch checkpoint (efficientnet_lite_pytorch) to those here.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional as F

from testbed.models.nets.common import Normalise

#: Expansion, kernel, stride, channels, blocks.
STAGES: Final = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)  # fmt: skip
_EPS: Final = 1e-3
_PARTS: Final = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv", "_bn1": "depthwise.norm",
    "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip
_TOP: Final = {
    "_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm", "_fc": "linear"
}  # fmt: skip


def keys(name: str) -> str:
    """The name here of a tensor of the public checkpoint.

    >>> keys("_blocks.3._bn1.weight"), keys("_conv_stem.weight")
    ('blocks.3.depthwise.norm.weight', 'stem.conv.weight')
    """
    head, *rest = name.split(".")
    if head != "_blocks":
        return ".".join([_TOP.get(head, head), *rest])
    index, part, *tail = rest
    return ".".join(["blocks", index, _PARTS.get(part, part), *tail])


class Unit(nn.Module):
    """Convolution without bias, "same" padding, batch norm, and ReLU6 unless `linear`."""

    def __init__(
        self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outside, eps=_EPS, momentum=0.01)
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n outside ceil(h / stride) ceil(w / stride)]`."""
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        down, right = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        x = self.norm(self.conv(F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))))
        return x if self.linear else F.relu6(x)


class Bottleneck(nn.Module):
    """1x1 up, depthwise, 1x1 down, and the input added where nothing changed its shape."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.expand = Unit(inside, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Unit(wide, wide, kernel, stride, groups=wide)
        self.project = Unit(wide, outside, 1, linear=True)
        self.same = stride == 1 and inside == outside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same layout, `outside` channels."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.same else y


class EfficientNetLite0(nn.Module):
    """Logits `[n k]` from images `[n 3 h w]` in [0, 1]."""

    def __init__(self, classes: int, normalise: Normalise | None, dropout: float = 0.2) -> None:
        super().__init__()
        self.normalise = normalise or nn.Identity()
        self.stem = Unit(3, 32, 3, 2)
        blocks, inside = [], 32
        for expansion, kernel, stride, outside, count in STAGES:
            for position in range(count):
                blocks.append(Bottleneck(inside, outside, kernel, 1 if position else stride, expansion))
                inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.head = Unit(inside, 1280, 1)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.head(self.blocks(self.stem(self.normalise(x))))
        logits: torch.Tensor = self.linear(self.dropout(x.mean((2, 3))))
        return logits

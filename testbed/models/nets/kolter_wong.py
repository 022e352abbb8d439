"""The plain convolutional networks of Wong & Kolter 2018 and Wong et al. 2018, layered as in their public checkpoints.

small: conv 4x4 stride 2 to 16, conv 4x4 stride 2 to 32, linear to 100, linear to k.
large: conv 3x3 to 32, conv 4x4 stride 2 to 32, conv 3x3 to 64, conv 4x4 stride 2 to 64, linear to 512, to 512, to k.
Padding is 1 and ReLU stands between all layers. `layers` is one sequence, so a public name such as `11.weight` is
`layers.11.weight` here; `keys` says so.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from testbed.models.nets.common import Normalise

#: Variant -> convolutions (channels, kernel, stride), widths of the hidden linear layers.
FORMS: Final = {
    "small": (((16, 4, 2), (32, 4, 2)), (100,)),
    "large": (((32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)), (512, 512)),
}


def keys(name: str) -> str:
    """The name here of a tensor of a public checkpoint; a name that is one already stays.

    >>> keys("0.weight"), keys("layers.0.weight")
    ('layers.0.weight', 'layers.0.weight')
    """
    return f"layers.{name}" if name[:1].isdigit() else name


class KolterWong(nn.Module):
    """Logits `[n k]` from images `[n c h w]` in [0, 1], both sides multiples of 4."""

    def __init__(self, variant: str, shape: tuple[int, int, int], classes: int, normalise: Normalise | None) -> None:
        super().__init__()
        convolutions, hidden = FORMS[variant]
        inside, h, w = shape
        parts: list[nn.Module] = []
        for outside, kernel, stride in convolutions:
            parts += [nn.Conv2d(inside, outside, kernel, stride, padding=1), nn.ReLU()]
            inside, h, w = outside, h // stride, w // stride
        parts.append(nn.Flatten())
        width = inside * h * w
        for outside in hidden:
            parts += [nn.Linear(width, outside), nn.ReLU()]
            width = outside
        self.normalise = normalise or nn.Identity()
        self.layers = nn.Sequential(*parts, nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.layers(self.normalise(x))
        return logits

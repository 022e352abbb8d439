"""Parts that networks share: preprocessing as the first layer, and checks of what they are built for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from testbed.errors import UsageError
from testbed.types import Spec


class Normalise(nn.Module):
    """`(x - mean) / std` per channel, for inputs `[n c h w]` in [0, 1]; inside the model, so eps stays in pixels.

    The constants are buffers that are not saved: a checkpoint's keys are those of the network alone.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised `x`."""
        return (x - self.mean) / self.std


def image_spec(spec: Spec, name: str, channels: int | None = None, least: int = 1) -> tuple[int, int, int]:
    """`(c, h, w)` of an image spec; raises UsageError where the network `name` cannot take it."""
    if spec.kind != "image":
        raise UsageError(f"model {name!r} takes images, not {spec.kind} data")
    c, h, w = spec.model_shape
    if channels is not None and c != channels:
        raise UsageError(f"model {name!r} takes images with {channels} channels, the data has {c}")
    if min(h, w) < least:
        raise UsageError(f"model {name!r} takes images of at least {least}x{least} pixels, the data has {h}x{w}")
    return c, h, w


#: Mean and standard deviation of normalisation, by the name a grid uses.
STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar10_63": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "inception": ((127 / 255,) * 3, (128 / 255,) * 3),
    "mnist": ((0.1307,), (0.3081,)),
}


def normalise(name: str, channels: int) -> Normalise | None:
    """The normalisation layer of this name for images with `channels` channels; None for "none"."""
    if name == "none":
        return None
    mean, std = STATISTICS[name]
    if channels not in (len(mean), 1):
        raise UsageError(f"normalise: {name!r} has {len(mean)} channels, the data has {channels}")
    return Normalise(mean[:channels], std[:channels])

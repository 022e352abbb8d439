"""A network of another library behind normalisation: images in [0, 1] in, logits out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from testbed.models.nets.common import Normalise


class Wrapped(nn.Module):
    """Runs `net` on normalised images; `field` names its logits where it gives a structure. Weights lie below `net.`.

    >>> Wrapped(nn.Flatten(), (0.5,), (0.5,))(torch.ones(1, 1, 1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(
        self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], field: str | None = None
    ) -> None:
        super().__init__()
        plain = set(mean) == {0.0} and set(std) == {1.0}
        self.normalise = nn.Identity() if plain else Normalise(mean, std)
        self.net, self.field = net, field

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n k]`."""
        found: Any = self.net(self.normalise(x))
        logits: torch.Tensor = found if self.field is None else getattr(found, self.field)
        return logits

"""Attacks on data that is not in [0, 1]: the box of the bounds becomes the unit box, and the model sees through it.

An attack works in the unit box, `u = (x - low) / (high - low)` feature by feature, against the model of `low + u (high
- low)`. So eps is a share of each feature's range (0.1 of ages 17 to 90 is 7.3 years), which for images, whose range
is 1, is what it always was; and no attack needs to know the scales of a table's columns. Categories do not move.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from testbed.types import Array, Spec


class UnitBox(nn.Module):
    """`model` as a function of `u` in [0, 1], for examples of `spec` in the model's layout.

    >>> box = UnitBox(nn.Identity(), Spec("tabular", (2,), 2, "float32", "f", ((0.0, 4.0), (-1.0, 1.0))))
    >>> box(torch.tensor([[0.25, 0.25]])).tolist(), box.enter(torch.tensor([[1.0, 0.0]])).tolist()
    ([[1.0, -0.5]], [[0.25, 0.5]])
    """

    low: Tensor
    width: Tensor

    def __init__(self, model: Any, spec: Spec) -> None:
        super().__init__()
        self.model = model
        device = next((p.device for p in model.parameters()), None) if isinstance(model, nn.Module) else None
        low, high = (torch.tensor(side, dtype=torch.float32, device=device) for side in zip(*spec.bounds, strict=True))
        shape = (1, -1, *(1,) * (len(spec.model_shape) - 1))
        self.register_buffer("low", low.reshape(shape), persistent=False)
        self.register_buffer("width", (high - low).clamp_min(torch.finfo(torch.float32).tiny).reshape(shape), False)

    def forward(self, u: Tensor) -> Tensor:
        """What the model gives at `leave(u)`."""
        out: Tensor = self.model(self.leave(u))
        return out

    def enter(self, x: Tensor) -> Tensor:
        """From the data's scale to the unit box; what a float32 rounds out of it is cut."""
        return ((x - self.low) / self.width).clamp(0, 1)

    def leave(self, u: Tensor) -> Tensor:
        """From the unit box to the data's scale."""
        return self.low + u * self.width

    def restored(self, u: Tensor, x: Tensor) -> Tensor:
        """`leave(u)`, with the very values of `x` where nothing moved, so that no category is rounded."""
        return torch.where(u == self.enter(x), x, self.leave(u))


def needed(spec: Spec) -> bool:
    """Whether the data has other bounds than [0, 1].

    >>> needed(Spec("image", (4, 4, 1), 10))
    False
    """
    return spec.bounds != ((0.0, 1.0),)


def at_rest(x: Tensor, spec: Spec) -> Array:
    """A model's input as sets are kept after an attack: series back to `[n time channels]`, all else as it is."""
    kept: Array = (x.transpose(1, 2) if spec.layout == "tc" else x).contiguous().cpu().numpy()
    return kept

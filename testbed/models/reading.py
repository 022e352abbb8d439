"""How the logits are found in what a network gives: which part of it holds them, and whether they are probabilities.

    output   a key, name or position, where a network gives a mapping, a transformers ModelOutput, a tuple
    scores   "probs" where that part is a softmax already: logits are then log p, floored at 1e-38

It is a hook on the network, so that its layers and its weights keep their names. A scripted network takes no hooks and
is put inside another module, after its weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from testbed import boundary
from testbed.errors import DataError

_FLOOR = 1e-38
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Reading:
    """Where logits are; `Reading()` takes what comes.

    >>> Reading("out", "probs").of({"out": torch.tensor([[0.25, 0.75]])}, None).exp().tolist()
    [[0.25, 0.75]]
    """

    output: str | int | None = None
    scores: str = "logits"

    def of(self, found: Any, module: Any) -> Any:
        """Logits `[n k]` of what `module` gave; DataError where the key names nothing or rows are no probabilities."""
        part = boundary.pick(found, self.output, module)
        if self.scores == "logits":
            return part
        if not isinstance(part, torch.Tensor) or part.ndim != 2:
            raise DataError(
                f"{boundary.name_of(module)}: expected probabilities [n k], got {boundary.shape_of(part)}"
                + ("" if isinstance(part, torch.Tensor) else "; say which part has them with `output:`")
            )
        return log_probabilities(part, boundary.name_of(module))

    def __call__(self, module: nn.Module, _: Any, found: Any) -> Any:
        """As a forward hook."""
        return self.of(found, module)


def log_probabilities(found: torch.Tensor, what: str) -> torch.Tensor:
    """log p, at least float32, of probabilities `[n k]`; rows that hold NaN stay so. DataError for any other rows."""
    p = found if found.dtype == torch.float64 else found.float()
    rows = p.detach()[p.detach().isfinite().all(1)]
    sums = rows.sum(1)
    if bool((rows < 0).any()) or bool(((sums - 1).abs() > _SUM_TOLERANCE).any()):
        worst = float(sums[(sums - 1).abs().argmax()])
        raise DataError(
            f"{what}: the grid says `scores: probs`, but the rows are no probabilities (smallest value "
            f"{float(rows.min()):.4g}, a row sums to {worst:.4g}); say `scores: logits`"
        )
    return p.clamp_min(_FLOOR).log()


def read(module: nn.Module, recipe: Mapping[str, Any] | None) -> nn.Module:
    """`module`, which now gives logits as `recipe` (the fields of a Reading) says; itself where there is none."""
    if not recipe:
        return module
    reading = Reading(**recipe)
    if isinstance(module, torch.jit.ScriptModule):
        return Read(module, reading)
    module.register_forward_hook(reading)
    return module


class Read(nn.Module):
    """A scripted network with its reading."""

    def __init__(self, net: nn.Module, reading: Reading) -> None:
        super().__init__()
        self.net, self.reading = net, reading

    def forward(self, x: torch.Tensor) -> Any:
        """Logits `[n k]`."""
        return self.reading.of(self.net(x), self.net)

"""Variants of a network that change how it predicts, not how it is trained: each a torch module that gives logits.

Ensemble          M members trained from different seeds; log of their mean probability (Lakshminarayanan, Pritzel &
                  Blundell 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles")
DropoutSamples    M passes with dropout on; log of their mean probability (Gal & Ghahramani 2016, "Dropout as a Bayesian
                  approximation"). The masks of pass i are drawn once, from i and the place of the layer, and are the
                  same for every example: so predictions depend neither on the batch nor on what ran before, an attack
                  differentiates the very function that is scored, and the M passes are M fixed subnetworks
MeanOfDraws       M passes of a network that draws random numbers, such as a randomised defence; log of their mean
                  probability. Draws come from torch's generator, new ones at each call
BatchStatistics   batch normalisation by the statistics of the test batch, not those of training (Nado et al. 2020,
                  "Evaluating prediction-time batch normalization for robustness under covariate shift"). A prediction
                  then depends on its batch: the plan fixes the batches

The log of a mean probability is a valid logit vector: its softmax is the mean. It is differentiable in the input.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from testbed.errors import DataError

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def varied(variant: Mapping[str, Any], members: Sequence[nn.Module]) -> nn.Module:
    """The module of a variant `{"kind": ensemble | mc_dropout | draws | batch_statistics, "count": M}`."""
    make: dict[str, Callable[[], nn.Module]] = {
        "ensemble": lambda: Ensemble(members),
        "mc_dropout": lambda: DropoutSamples(members[0], variant["count"]),
        "draws": lambda: MeanOfDraws(members[0], variant["count"]),
        "batch_statistics": lambda: batch_statistics(members[0]),
    }
    return make[variant["kind"]]()


class Ensemble(nn.Module):
    """Logits `[n k]` whose softmax is the mean of the members' probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The combined logits of a batch."""
        return log_mean([member(x) for member in self.members])


class DropoutSamples(nn.Module):
    """Logits `[n k]` whose softmax is the mean over `passes` fixed dropout masks; DataError without dropout layers."""

    def __init__(self, network: nn.Module, passes: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.passes = passes
        self.masked = _with_masks(self.network)
        if not self.masked:
            raise DataError(
                "mc_dropout: the network has no dropout layer that could be left on; give it one (`dropout:`)"
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The combined logits of a batch."""
        found = []
        for one in range(self.passes):
            for layer in self.masked:
                layer.one = one
            found.append(self.network(x))
        return log_mean(found)


class MeanOfDraws(nn.Module):
    """Logits `[n k]` whose softmax is the mean over so many passes of a network that draws random numbers."""

    def __init__(self, network: nn.Module, passes: int) -> None:
        super().__init__()
        self.network, self.passes = network, passes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The combined logits of a batch."""
        return log_mean([self.network(x) for _ in range(self.passes)])


class FixedMask(nn.Module):
    """Dropout by masks that depend on the pass `one` and on `place` alone; whole channels where `channels`."""

    def __init__(self, rate: float, channels: bool, place: int) -> None:
        super().__init__()
        self.rate, self.channels, self.place, self.one = rate, channels, place, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` with the same entries set to 0 in every example, the others scaled up."""
        shape = [x.shape[1], *[1] * (x.ndim - 2)] if self.channels else list(x.shape[1:])
        generator = torch.Generator().manual_seed(1_000_003 * self.place + self.one)
        kept = torch.rand(shape, generator=generator) >= self.rate
        mask = kept.to(x.device, x.dtype) / (1 - self.rate) if self.rate < 1 else torch.zeros(shape).to(x)
        return x * mask


def batch_statistics(network: nn.Module) -> nn.Module:
    """A copy that normalises by the batch it sees, in eval mode too; DataError without batch normalisation."""
    changed = copy.deepcopy(network)
    found = [module for module in changed.modules() if isinstance(module, _NORMS)]
    if not found:
        raise DataError("batch_statistics: the network has no batch normalisation layer")
    for module in found:
        module.track_running_stats = False
        module.running_mean = module.running_var = None
    return changed


def log_mean(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log of the mean of the softmaxes, `[n k]`.

    >>> log_mean([torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.1, 0.9]]))]).exp()
    tensor([[0.3000, 0.7000]])
    """
    stacked = torch.stack([torch.log_softmax(one, dim=1) for one in logits])
    return torch.logsumexp(stacked, dim=0) - math.log(len(logits))


def _with_masks(network: nn.Module) -> list[FixedMask]:
    """Replace every dropout layer by one with fixed masks; the replacements, in the order of the network's modules."""
    found: list[FixedMask] = []
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _DROPOUTS) and child.p > 0:
                fixed = FixedMask(float(child.p), not isinstance(child, nn.Dropout), len(found))
                setattr(parent, name, fixed)
                found.append(fixed)
    return found

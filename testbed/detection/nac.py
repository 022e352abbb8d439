"""Neuron activation coverage (Liu et al., ICLR 2024): how often training data left each neuron in a state like this.

The state of neuron j of a layer is s_j = sigmoid(alpha z_j dKL/dz_j), with KL(uniform || softmax) the loss; a map's
products are averaged over space first. Fit: a histogram of each neuron's state on the training split, `bins` equal bins
of [0, 1]. A state is covered by min(count of its bin / enough, 1). Score: minus the mean coverage over the neurons of a
layer, summed over layers.

The bins are even, as in the authors' code (github.com/BierOne/ood_coverage, nac/coverage.py: thresholds at equal steps
of [0, 1]); there M thresholds make M - 1 bins and a state of exactly 1 lies in none, here `bins` bins are closed at 1.
pytorch-ood 0.4.0 bins geometrically, fine towards 0 and 1, which is not in the paper: its scores differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import State, require
from testbed.detection.mahalanobis_network import children
from testbed.detection.network import Network, NetworkDetector, map_hooks
from testbed.parameters import Count, Positive
from testbed.types import Float64, Ints, Paper


@dataclass(frozen=True)
class NAC(NetworkDetector):
    """Minus neuron activation coverage; consumes inputs, fitted on training inputs without labels.

    layers  names of modules; () = all direct children that give maps
    alpha   steepness of the sigmoid; the paper tunes it by layer, 100 is in its range
    bins    of each histogram; 50
    enough  count at which a bin is fully covered; 50
    """

    layers: tuple[str, ...] = ()
    alpha: Positive = 100.0
    bins: Count = 50
    enough: Count = 50

    fitted_on = "train"
    passes: ClassVar[Mapping[str, int]] = {"forward": 1, "gradient": 1}
    fit_passes: ClassVar[Mapping[str, int]] = {"forward": 1, "gradient": 1}
    reference: ClassVar[Paper] = Paper(
        "Neuron Activation Coverage: Rethinking Out-of-distribution Detection and Generalization",
        "Yibing Liu, Chris Xing Tian, Haoliang Li, Lei Ma, Shiqi Wang", 2024, "ICLR", "2306.02879",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.bins >= 1 and self.enough >= 1, "nac.bins, enough", "at least 1 each", (self.bins, self.enough))

    def learn_network(self, network: Network, x: Any, labels: Ints | None, batch: int) -> dict[str, Any]:
        """A histogram int64 `[neurons, bins]` a layer, and the layers' names."""
        layers = list(self.layers) or children(network, x)
        state: dict[str, Any] = {"layers": "\n".join(layers)}
        for start in range(0, len(x), batch):
            for i, values in enumerate(self._states(network, x[start : start + batch], layers)):
                counts = state.setdefault(f"counts{i}", np.zeros((values.shape[1], self.bins), dtype=np.int64))
                np.add.at(counts, (np.arange(values.shape[1]), self._bin(values)), 1)
        return state

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        total = np.zeros(len(x))
        for i, values in enumerate(self._states(network, x, state["layers"].split("\n"))):
            seen = state[f"counts{i}"][np.arange(values.shape[1]), self._bin(values)]
            total += np.minimum(seen / self.enough, 1.0).mean(axis=1)
        return -total

    def _bin(self, values: Float64) -> Ints:
        return np.minimum((values * self.bins).astype(np.int64), self.bins - 1)

    def _states(self, network: Network, x: Any, layers: list[str]) -> list[Float64]:
        """Neuron states `[n neurons]` of each layer."""
        import torch

        found: dict[str, Any] = {}
        with torch.enable_grad(), map_hooks(network.module, layers, lambda name, out: found.__setitem__(name, out)):
            logits = network.logits(x.detach().clone().requires_grad_())
            loss = -logits.log_softmax(dim=1).mean(dim=1).sum()
            slopes = torch.autograd.grad(loss, [found[name] for name in layers])
        states = []
        for name, slope in zip(layers, slopes, strict=True):
            product = (found[name] * slope).detach().double()
            product = product.flatten(2).mean(dim=2) if product.ndim > 2 else product
            states.append(torch.sigmoid(self.alpha * product).cpu().numpy())
        return states

"""Gram matrices (Sastry & Oore, ICML 2020): how far layer statistics leave the range seen in training.

For a map F `[c, h w]` of layer l and an order p, the statistics are the row sums of F^p F^p', their magnitude to the
power 1/p with the sign kept. Fit, class by class (label for fitting, predicted class for scoring): the smallest and
largest value of each statistic on nine tenths of the class, and on the held-out tenth the mean deviation of each layer.
A value g outside [lo, hi] deviates by (lo - g) / |lo + 1e-6| or (g - hi) / |hi + 1e-6|. Score: sum over layers of the
deviation (summed over statistics and orders) divided by the layer's mean deviation on the held-out tenth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import State, require
from testbed.detection.mahalanobis_network import children
from testbed.detection.network import Network, NetworkDetector, map_hooks
from testbed.errors import DataError
from testbed.parameters import Count, Seed
from testbed.seeding import Rng
from testbed.types import Array, Float64, Ints, Paper


@dataclass(frozen=True)
class Gram(NetworkDetector):
    """Deviation of Gram statistics, >= 0; consumes inputs, fitted on labelled training inputs, one pass.

    layers  names of modules that give maps; () = all direct children that do
    orders  the orders p; the paper uses 1..10, OpenOOD 1..5
    seed    of the choice of the held-out tenth
    """

    layers: tuple[str, ...] = ()
    orders: tuple[Count, ...] = (1, 2, 3, 4, 5)
    seed: Seed = 0

    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "Detecting Out-of-Distribution Examples with Gram Matrices", "Chandramouli Shama Sastry, Sageev Oore",
        2020, "ICML", "1912.12510",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(min(self.orders, default=0) >= 1, "gram.orders", "orders >= 1", self.orders)

    def learn_network(self, network: Network, x: Any, labels: Ints | None, batch: int) -> dict[str, Any]:
        """Bounds `[k, statistics]` of each layer and the mean deviation of each."""
        assert labels is not None
        layers = list(self.layers) or children(network, x)
        found = [self._statistics(network, x[i : i + batch], layers)[1] for i in range(0, len(x), batch)]
        draws = Rng("gram", 1, self.seed, np.arange(len(x))).uniform(name="held out")
        state: dict[str, Any] = {"layers": "\n".join(layers)}
        for i in range(len(layers)):
            values = np.concatenate([part[i] for part in found])
            low, high, expected = ranges(values, labels, draws)
            state |= {f"low{i}": low, f"high{i}": high, f"expected{i}": expected}
        return state

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        layers = state["layers"].split("\n")
        predicted, values = self._statistics(network, x, layers)
        total = np.zeros(len(x))
        for i in range(len(layers)):
            low, high = state[f"low{i}"][predicted], state[f"high{i}"][predicted]
            total += deviation(values[i], low, high) / state[f"expected{i}"]
        return total

    def _statistics(self, network: Network, x: Any, layers: list[str]) -> tuple[Ints, list[Float64]]:
        """Predicted classes, and the statistics `[n, orders x c]` of each layer."""
        import torch

        found: dict[str, Float64] = {}

        def note(name: str, output: Any) -> None:
            flat = output.double().flatten(2)
            sums = [((flat**p) @ (flat**p).transpose(1, 2)).sum(dim=2) for p in self.orders]
            roots = [s.sign() * s.abs() ** (1 / p) for s, p in zip(sums, self.orders, strict=True)]
            found[name] = torch.cat(roots, dim=1).cpu().numpy()

        with torch.no_grad(), map_hooks(network.module, layers, note):
            predicted = network.logits(x).argmax(dim=1).cpu().numpy()
        return predicted, [found[name] for name in layers]


def ranges(values: Float64, labels: Ints, draws: Array) -> tuple[Float64, Float64, float]:
    """Smallest and largest value a class `[k s]` without its held-out tenth; the tenth's mean deviation (1 if 0)."""
    k = int(labels.max()) + 1
    low, high = np.empty((k, values.shape[1])), np.empty((k, values.shape[1]))
    off: list[Float64] = []
    for c in range(k):
        rows = np.flatnonzero(labels == c)
        if len(rows) == 0:
            raise DataError(f"gram: no training example of class {c}; its range is undefined")
        rows = rows[np.argsort(draws[rows], kind="stable")]
        held, kept = rows[: len(rows) // 10], rows[len(rows) // 10 :]
        low[c], high[c] = values[kept].min(axis=0), values[kept].max(axis=0)
        off.append(deviation(values[held], low[c], high[c]))
    every = np.concatenate(off)
    mean = float(every.mean()) if len(every) else 0.0
    return low, high, mean if mean > 0 else 1.0


def deviation(values: Float64, low: Float64, high: Float64) -> Float64:
    """Sum over statistics of how far each is outside its range, relative to the bound: float64 `[n]`.

    >>> deviation(np.array([[1.0, 5.0]]), np.array([2.0, 2.0]), np.array([4.0, 4.0])).round(4).tolist()
    [0.75]
    """
    under = np.maximum(low - values, 0) / np.abs(low + 1e-6)
    over = np.maximum(values - high, 0) / np.abs(high + 1e-6)
    total: Float64 = (under + over).sum(axis=1)
    return total

"""AdaSCALE (Regmi, 2025): SCALE and LTS with a percentile of its own for each example.

Trivial pixels of x (the share `share` with the smallest |d f_y / dx|) are moved by `step` along the gradient's sign. ID
features stay where they are, OOD ones shift. With z before and z' after,

    Q = sum over the k1 per cent largest z of relu(z') + weight x sum over the k2 per cent largest z of |z - z'|,
    percentile = low + (1 - F(Q)) (high - low),     F the distribution of Q on the calibration split,
    r = sum relu(z) / sum of its largest entries above that percentile.

Score: -logsumexp(W (z exp(r)) + b) ("features", AdaSCALE-A), or -logsumexp(r^2 (W z + b)) ("logits", AdaSCALE-L).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.detection.base import State, require
from testbed.detection.network import Network, NetworkDetector, features_of
from testbed.detection.numeric import float64, logsumexp
from testbed.detection.shaping import ratio
from testbed.errors import DataError
from testbed.parameters import NonNegative, Percentile, PercentileBelow100, Positive, PositiveShare
from testbed.types import Float64, Ints, Paper


@dataclass(frozen=True)
class AdaSCALE(NetworkDetector):
    """Energy after scaling by an adaptive percentile; consumes inputs, fitted on calibration inputs without labels.

    low, high  range of the percentile, in 0..100; OpenOOD's default is 75 to 85
    k1, k2     per cent of the features that enter Q (at least one feature each)
    weight     of the shift in Q
    share      of the input's values that are moved, in (0, 1]
    step       how far, in units of the input in [0, 1]; the authors' 0.5 is after division by a std of about 1/4
    scales     "features" (AdaSCALE-A) or "logits" (AdaSCALE-L)
    """

    low: Percentile = 75.0
    high: PercentileBelow100 = 85.0
    k1: NonNegative = 5.0
    k2: NonNegative = 1.0
    weight: NonNegative = 10.0
    share: PositiveShare = 0.05
    step: Positive = 0.125
    scales: Literal["features", "logits"] = "features"

    fitted_on = "calibration"
    passes: ClassVar[Mapping[str, int]] = {"forward": 2, "gradient": 1}
    fit_passes: ClassVar[Mapping[str, int]] = {"forward": 2, "gradient": 1}
    reference: ClassVar[Paper] = Paper(
        "AdaSCALE: Adaptive Scaling for OOD Detection", "Sudarshan Regmi", 2025, "", "2503.08023"
    )

    def __post_init__(self) -> None:
        require(0 <= self.low <= self.high < 100, "adascale.low, high", "0 <= low <= high < 100", (self.low, self.high))
        require(0 < self.share <= 1, "adascale.share", "a number in (0, 1]", self.share)

    def learn_network(self, network: Network, x: Any, labels: Ints | None, batch: int) -> dict[str, Any]:
        """Q of every calibration example, ascending, and the head."""
        head = network.head()
        if head is None:
            raise DataError("adascale needs the last linear layer, and this model has none that gives its logits")
        parts = [self._shift(network, x[i : i + batch])[1] for i in range(0, len(x), batch)]
        return {"sorted": np.sort(np.concatenate(parts)), "head_weight": head[0], "head_bias": head[1]}

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        z, q = self._shift(network, x)
        share_below = np.searchsorted(state["sorted"], q, side="right") / len(state["sorted"])
        factor = scale_factor(z, self.low + (1.0 - share_below) * (self.high - self.low))[:, None]
        weight, bias = float64(state["head_weight"]), float64(state["head_bias"])
        if self.scales == "features":
            return -logsumexp((z * np.exp(factor)) @ weight.T + bias)
        return -logsumexp((z @ weight.T + bias) * factor**2)

    def _shift(self, network: Network, x: Any) -> tuple[Float64, Float64]:
        """Features `[n d]` and Q `[n]`."""
        import torch

        with torch.enable_grad():
            moving = x.detach().clone().requires_grad_()
            logits, features = features_of(network, moving, "adascale")
            (gradient,) = torch.autograd.grad(logits.max(dim=1).values.sum(), moving)
        flat = gradient.flatten(1)
        count = int(flat.shape[1] * self.share)
        least = flat.abs().topk(count, dim=1, largest=False).indices
        mask = torch.zeros_like(flat).scatter_(1, least, 1.0)
        moved = x.detach() + self.step * (flat.sign() * mask).reshape(x.shape)
        with torch.no_grad():
            after = features_of(network, moved, "adascale")[1].double().cpu().numpy()
        before = features.detach().double().cpu().numpy()
        order = np.argsort(-before, axis=1, kind="stable")
        first, second = (order[:, : max(1, int(before.shape[1] * k / 100))] for k in (self.k1, self.k2))
        kept = np.take_along_axis(np.maximum(after, 0.0), first, axis=1).sum(axis=1)
        drift = np.take_along_axis(np.abs(before - after), second, axis=1).sum(axis=1)
        return before, kept + self.weight * drift


def scale_factor(features: Float64, percentile: Float64) -> Float64:
    """sum relu(z) / sum of its d - round(d p / 100) largest, each row with its own p: float64 `[n]`.

    >>> scale_factor(np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([0.0, 50.0])).round(4).tolist()
    [1.0, 1.3333]
    """
    falling = -np.sort(-np.maximum(features, 0.0), axis=1)
    d = features.shape[1]
    count = np.clip(d - np.round(d * percentile / 100).astype(np.int64), 1, d)
    sums = np.cumsum(falling, axis=1)
    return ratio(sums[:, -1], np.take_along_axis(sums, count[:, None] - 1, axis=1)[:, 0])

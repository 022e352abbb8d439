"""Calibration errors without the upward bias of binning (Broecker 2012; Kumar, Liang & Ma 2019).

In a bin with n_b examples, mean confidence c and accuracy a, the squared gap overshoots by the variance of a, so

    l2   sqrt(max(0, sum_b n_b / n ((c - a)^2 - a (1 - a) / (n_b - 1))))
    l1   plug-in - (sum_b n_b / n E|c - A| - plug-in), A normal with mean a and variance a (1 - a) / n_b

The expectation in l1 is that of a folded normal, in closed form (the authors simulate it). A bin with one example has
no variance estimate and is left uncorrected. Both remove the bias to first order only: l2 is cut at 0, l1 can be
negative.

Intervals are those of `gaps`, of the error of the population in the same bins: of sums of absolute gaps (l1) and of
squared ones (l2), widened where they must be to hold the value. Replicates serve paired differences only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.metrics import binning
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.estimate import Estimate
from testbed.metrics.gaps import absolute_interval, cells, squared_interval
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.options import one_of
from testbed.metrics.resampled import Analytic, Measured, sums_by_bin
from testbed.parameters import Count
from testbed.types import Array, Float64, Paper

Norm = Literal["l1", "l2"]
Mass = Literal["equal", "width"]


def debiased_ece(p: Any, y: Any, bins: int = 15, norm: Norm = "l2", mass: Mass = "equal") -> float:
    """Debiased top-label calibration error of probabilities `[n, k]` against labels `[n]`.

    >>> p = [[0.25, 0.75]] * 8
    >>> debiased_ece(p, [1, 1, 1, 1, 1, 1, 0, 0], bins=1), debiased_ece(p, [0] * 8, bins=1)
    (0.0, 0.75)
    """
    one_of(norm, Norm, "debiased_ece: norm")
    one_of(mass, Mass, "debiased_ece: mass")
    values, hits = top_label(*probabilities(p, y, "debiased_ece"))
    index = _bins(values, bins, mass)
    counts = np.bincount(index)
    kept = counts > 0
    confidence, right = (np.bincount(index, v)[kept][None] for v in (values, hits))
    return float(corrected(counts[kept][None], confidence, right, norm)[0])


@dataclass(frozen=True)
class DebiasedEce(Analytic):
    """Debiased calibration error with an interval of the true error in the same bins."""

    bins: Count = 15
    norm: Norm = "l2"
    mass: Mass = "equal"

    reference: ClassVar[Paper] = Paper(
        "Verified Uncertainty Calibration", "Kumar, Liang and Ma", 2019, "NeurIPS", "1909.10155"
    )

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits = top_label(*probabilities(probs, labels, "debiased_ece"))
        index = _bins(values, self.bins, self.mass)
        counts, confidence, right = sums_by_bin(draws, index, np.ones_like(values), values, hits)
        value = debiased_ece(probs, labels, self.bins, self.norm, self.mass)
        return Measured(value, corrected(counts, confidence, right, self.norm), self._named())

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        values, hits = top_label(*probabilities(probs, labels, "debiased_ece"))
        found, n = cells(values, hits, _bins(values, self.bins, self.mass)), len(values)
        low, high = absolute_interval(found, n) if self.norm == "l1" else squared_interval(found, n)
        value = debiased_ece(probs, labels, self.bins, self.norm, self.mass)
        how = "moment-selection" if self.norm == "l1" else "score-inverted"
        return Estimate(value, min(low, value), max(high, value), f"{self._named()}; {how} {LEVEL:.0%}", n)

    def _named(self) -> str:
        return (
            f"{self.norm} debiased, {self.bins} bins of equal {'mass' if self.mass == 'equal' else 'width'}, top label"
        )


def _bins(values: Float64, bins: int, mass: Mass) -> Any:
    return binning.equal_mass(values, bins) if mass == "equal" else binning.equal_width(values, bins, "kumar")


def corrected(counts: Array, confidence: Array, right: Array, norm: Norm, debias: bool = True) -> Float64:
    """The corrected error of each row of bin sums `[r, b]`; the plug-in l2 error without `debias`."""
    n = np.maximum(counts, 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    c, a = confidence / n, right / n
    spread = a * (1 - a)
    if norm == "l2":
        excess = np.where(counts > 1, spread / np.maximum(counts - 1, 1), 0.0) if debias else np.zeros_like(spread)
        return np.asarray(np.sqrt(np.maximum(0.0, (share * ((c - a) ** 2 - excess)).sum(axis=1))))
    plain = np.abs(c - a)
    folded = folded_normal_mean(c - a, np.sqrt(spread / n))
    return np.asarray((share * np.where(counts > 1, 2 * plain - folded, plain)).sum(axis=1))


def folded_normal_mean(mean: Array, deviation: Array) -> Float64:
    """E|X| of X normal: s sqrt(2/pi) exp(-m^2 / 2 s^2) + m erf(m / (s sqrt 2)).

    >>> folded_normal_mean(np.array([0.0, 3.0]), np.array([1.0, 0.0])).round(6).tolist()
    [0.797885, 3.0]
    """
    from scipy.special import erf

    s = np.maximum(deviation, 1e-300)
    z = np.clip(mean / s, -1e3, 1e3)
    return np.asarray(s * np.sqrt(2 / np.pi) * np.exp(-z * z / 2) + mean * erf(z / np.sqrt(2)))

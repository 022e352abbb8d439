"""Calibration errors class by class: of each predicted class (top-label), and of each class's probability (marginal).

top-label   mean over examples of |E[correct | prediction, confidence] - confidence|: the bins are formed anew within
            each predicted class, so that over- and under-confident classes cannot cancel (Gupta & Ramdas 2022)
marginal    (1/k sum over classes of CE_k^2)^(1/2), CE_k the l2 error of P(class k) in bins of equal mass, each
            debiased as in `debiased` (Kumar, Liang & Ma 2019)

Intervals are those of `gaps`; replicates serve paired differences only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.metrics import binning
from testbed.metrics.bootstrap import LEVEL, Draws, Interval
from testbed.metrics.calibration_error import binned_gap, binned_gap_draws, of_cells
from testbed.metrics.debiased import DebiasedEce, corrected
from testbed.metrics.estimate import Estimate
from testbed.metrics.gaps import cells, joined, squared_interval
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.resampled import Analytic, Measured, sums_by_bin
from testbed.parameters import Count
from testbed.types import Float64, Ints, Paper


def top_label_ece(p: Any, y: Any, bins: int = 15) -> float:
    """Top-label calibration error of probabilities `[n, k]` against labels `[n]`, in [0, 1]; equal-mass bins a class.

    >>> p = [[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]]
    >>> top_label_ece(p, [0, 0, 1, 0], bins=1).__round__(6)
    0.25
    """
    return binned_gap(*_within_predictions(*probabilities(p, y, "top_label_ece"), bins))


def marginal_ece(p: Any, y: Any, bins: int = 15, debias: bool = True) -> float:
    """Marginal l2 calibration error of probabilities `[n, k]` against labels `[n]`, in [0, 1].

    >>> marginal_ece([[0.25, 0.75]] * 8, [0] * 8, bins=1)
    0.75
    """
    probs, labels = probabilities(p, y, "marginal_ece")
    squares = [_l2(np.ones((1, len(labels))), *one, debias) for one in _marginals(probs, labels, bins)]
    return float(np.sqrt(np.mean(squares)))


@dataclass(frozen=True)
class TopLabelEce(Analytic):
    """Top-label calibration error with an interval that covers."""

    bins: Count = 15

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = Paper(
        "Top-Label Calibration and Multiclass-to-Binary Reductions", "Gupta and Ramdas", 2022, "ICLR", "2107.08353"
    )

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        gap, index = _within_predictions(*probabilities(probs, labels, "top_label_ece"), self.bins)
        return Measured(binned_gap(gap, index), binned_gap_draws(gap, index, draws), self._named())

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "top_label_ece")
        _, index = _within_predictions(p, y, self.bins)
        return of_cells(cells(*top_label(p, y), index), len(y), self._named())

    def _named(self) -> str:
        return f"{self.bins} bins of equal mass within each predicted class, ties together"


@dataclass(frozen=True)
class MarginalEce(Analytic):
    """Debiased marginal l2 calibration error with an interval of the true error in the same bins."""

    bins: Count = 15
    debias: bool = True

    reference: ClassVar[Paper] = DebiasedEce.reference

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "marginal_ece")
        total = np.zeros(draws.replicates)
        for column, hits, index in _marginals(p, y, self.bins):
            counts, confidence, right = sums_by_bin(draws, index, np.ones_like(column), column, hits)
            total += corrected(counts, confidence, right, "l2", self.debias) ** 2
        return Measured(marginal_ece(p, y, self.bins, self.debias), np.sqrt(total / p.shape[1]), self._named())

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "marginal_ece")
        found = joined([cells(*one) for one in _marginals(p, y, self.bins)])
        low, high = squared_interval(found, len(y), p.shape[1])
        value = marginal_ece(p, y, self.bins, self.debias)
        named = f"{self._named()}; score-inverted {LEVEL:.0%}"
        return Estimate(value, min(low, value), max(high, value), named, len(y))

    def _named(self) -> str:
        return f"l2{' debiased' if self.debias else ''}, {self.bins} bins of equal mass a class"


def _within_predictions(p: Float64, y: Ints, bins: int) -> tuple[Float64, Ints]:
    """Gaps confidence - correctness, and bins that are formed within each predicted class, `[n]` each."""
    confidence, hits = top_label(p, y)
    best, index = p.argmax(axis=1), np.empty(len(y), dtype=np.int64)
    for k in np.unique(best).tolist():
        rows = best == k
        index[rows] = k * bins + binning.equal_mass(confidence[rows], bins)
    return confidence - hits, np.unique(index, return_inverse=True)[1]


def _marginals(p: Float64, y: Ints, bins: int) -> Iterator[tuple[Float64, Float64, Ints]]:
    """For each class its probability, whether it is the label, and its bins, `[n]` each."""
    for k in range(p.shape[1]):
        column = np.ascontiguousarray(p[:, k])
        yield column, (y == k).astype(np.float64), binning.equal_mass(column, bins)


def _l2(weights: Float64, column: Float64, hits: Float64, index: Ints, debias: bool) -> float:
    used = np.unique(index)
    inside = (index[:, None] == used).astype(np.float64)
    counts, confidence, right = (weights @ (inside * v[:, None]) for v in (np.ones_like(column), column, hits))
    return float(corrected(counts, confidence, right, "l2", debias)[0]) ** 2

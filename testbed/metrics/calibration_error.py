"""Binned calibration errors in float64: ECE, MCE, adaptive and classwise ECE.

With n_b examples in bin b, mean confidence conf_b and accuracy acc_b there,

    ECE = sum_b n_b / n |acc_b - conf_b|          MCE = max over non-empty b of |acc_b - conf_b|

(Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017, eq. 3 and 5). All are biased upwards near 0, by about
sqrt(bins / n); see `debiased` for estimates that are not. Which bin an edge value falls in is `binning`'s convention.

Intervals: "basic" bootstrap with the bins held fixed, because replicates of an upward-biased statistic are shifted
upwards once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.metrics import binning
from testbed.metrics.binning import Convention
from testbed.metrics.bootstrap import Draws, Interval
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.resampled import Measured, ProbabilityMetric, sums_by_bin
from testbed.types import Float64, Ints, Paper

_GUO = Paper("On Calibration of Modern Neural Networks", "Guo, Pleiss, Sun and Weinberger", 2017, "ICML", "1706.04599")
_NIXON = Paper(
    "Measuring Calibration in Deep Learning",
    "Nixon, Dusenberry, Zhang, Jerfel and Tran",
    2019,
    "CVPR Workshops",
    "1904.01685",
)
_KULL = Paper(
    "Beyond Temperature Scaling: Obtaining Well-Calibrated Multiclass Probabilities with Dirichlet Calibration",
    "Kull, Perello-Nieto, Kangsepp, Silva Filho, Song and Flach", 2019, "NeurIPS", "1910.12656",
)  # fmt: skip


def ece(p: Any, y: Any, bins: int = 15, convention: Convention = "guo") -> float:
    """Expected calibration error of probabilities `[n, k]` against labels `[n]`, in [0, 1].

    >>> ece([[0.1, 0.9], [0.4, 0.6], [0.4, 0.6], [0.8, 0.2]], [1, 0, 1, 1], bins=5).__round__(6)
    0.275
    """
    values, hits, _ = binning.scored(*probabilities(p, y, "ece"), convention)
    return binned_gap(values - hits, binning.equal_width(values, bins, convention))


def mce(p: Any, y: Any, bins: int = 15, convention: Convention = "guo") -> float:
    """Maximum calibration error over non-empty bins, in [0, 1]; one-example bins can dominate it.

    >>> mce([[0.1, 0.9], [0.4, 0.6], [0.4, 0.6], [0.8, 0.2]], [1, 0, 1, 1], bins=5).__round__(6)
    0.8
    """
    values, hits, _ = binning.scored(*probabilities(p, y, "mce"), convention)
    index = binning.equal_width(values, bins, convention)
    sums, counts = _per_bin(values - hits, index)
    return float((np.abs(sums) / np.maximum(counts, 1)).max())


def adaptive_ece(p: Any, y: Any, bins: int = 15) -> float:
    """ECE with bins of equal mass; equal confidences always share a bin, so the order of examples cannot matter.

    >>> adaptive_ece([[0.1, 0.9], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]], [1, 0, 1, 1], bins=2).__round__(6)
    0.15
    """
    values, hits = top_label(*probabilities(p, y, "adaptive_ece"))
    return binned_gap(values - hits, binning.equal_mass(values, bins))


def classwise_ece(
    p: Any, y: Any, bins: int = 15, over: Literal["mean", "sum"] = "mean", mass: Literal["width", "equal"] = "width"
) -> float:
    """Calibration error of each class's probability against 1[y = class], averaged or summed over classes.

    over   "mean" (Nixon 2019) or "sum"; the mean is tiny for many classes, as most probabilities are near 0
    mass   bins of equal width, [lo, hi) with the last closed, or of equal mass

    >>> classwise_ece([[0.1, 0.9], [0.4, 0.6], [0.4, 0.6], [0.8, 0.2]], [1, 0, 1, 1], bins=5).__round__(6)
    0.275
    """
    probs, labels = probabilities(p, y, "classwise_ece")
    errors = np.array([binned_gap(gap, index) for gap, index in _classes(probs, labels, bins, mass)])
    return float(errors.mean() if over == "mean" else errors.sum())


@dataclass(frozen=True)
class Ece(ProbabilityMetric):
    """Expected calibration error with a bootstrap interval."""

    bins: int = 15
    convention: Convention = "guo"

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _GUO

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits, what = binning.scored(*probabilities(probs, labels, "ece"), self.convention)
        index = binning.equal_width(values, self.bins, self.convention)
        name = f"{self.convention}, {self.bins} bins of equal width, {what}"
        return Measured(binned_gap(values - hits, index), binned_gap_draws(values - hits, index, draws), name)

    def cells(self, probs: Any, labels: Any) -> Float64:
        values, hits, _ = binning.scored(*probabilities(probs, labels, "ece"), self.convention)
        index = binning.equal_width(values, self.bins, self.convention)
        return np.asarray((index[:, None] == np.arange(self.bins)) * (values - hits)[:, None])


@dataclass(frozen=True)
class Mce(ProbabilityMetric):
    """Maximum calibration error with a bootstrap interval."""

    bins: int = 15
    convention: Convention = "guo"

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _GUO

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits, what = binning.scored(*probabilities(probs, labels, "mce"), self.convention)
        index = binning.equal_width(values, self.bins, self.convention)
        gaps, counts = sums_by_bin(draws, index, values - hits, np.ones_like(values))
        name = f"{self.convention}, {self.bins} bins of equal width, {what}"
        worst = (np.abs(gaps) / np.maximum(counts, 1)).max(axis=1)
        return Measured(mce(probs, labels, self.bins, self.convention), worst, name)


@dataclass(frozen=True)
class AdaptiveEce(ProbabilityMetric):
    """ECE over bins of equal mass, ties kept together, with a bootstrap interval."""

    bins: int = 15

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _NIXON

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits = top_label(*probabilities(probs, labels, "adaptive_ece"))
        index = binning.equal_mass(values, self.bins)
        name = f"{self.bins} bins of equal mass, ties together, top label"
        return Measured(binned_gap(values - hits, index), binned_gap_draws(values - hits, index, draws), name)


@dataclass(frozen=True)
class ClasswiseEce(ProbabilityMetric):
    """Classwise ECE, mean or sum over classes, with a bootstrap interval."""

    bins: int = 15
    over: Literal["mean", "sum"] = "mean"
    mass: Literal["width", "equal"] = "width"

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _KULL

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "classwise_ece")
        total = np.zeros(draws.replicates)
        for gap, index in _classes(p, y, self.bins, self.mass):
            total = total + binned_gap_draws(gap, index, draws)
        replicates = total / p.shape[1] if self.over == "mean" else total
        name = f"{self.over} over classes, {self.bins} bins of equal {'mass' if self.mass == 'equal' else 'width'}"
        return Measured(classwise_ece(p, y, self.bins, self.over, self.mass), replicates, name)


def _classes(p: Float64, y: Ints, bins: int, mass: str) -> Any:
    """For each class the gap p_k - 1[y = k] and its bins."""
    for k in range(p.shape[1]):
        column = np.ascontiguousarray(p[:, k])
        index = binning.equal_mass(column, bins) if mass == "equal" else binning.equal_width(column, bins, "netcal")
        yield column - (y == k), index


def _per_bin(gap: Float64, index: Ints) -> tuple[Float64, Float64]:
    """Sum of gaps and number of examples in each bin; the examples without a bin (-1) are left out."""
    size = int(index.max()) + 2
    sums = np.asarray(np.bincount(index + 1, gap, size)[1:], dtype=np.float64)
    return sums, np.bincount(index + 1, minlength=size)[1:].astype(np.float64)


def binned_gap(gap: Float64, index: Ints) -> float:
    """sum_b |sum of gaps in b| / n, which is the ECE of gaps confidence - correctness `[n]` in bins `index` `[n]`."""
    return float(np.abs(_per_bin(gap, index)[0]).sum() / len(gap))


def binned_gap_draws(gap: Float64, index: Ints, draws: Draws) -> Float64:
    """`binned_gap` of each resample float64 `[replicates]`, bins held fixed."""
    (gaps,) = sums_by_bin(draws, index, gap)
    return np.asarray(np.abs(gaps).sum(axis=1) / len(gap))

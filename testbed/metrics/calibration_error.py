"""Binned calibration errors in float64: ECE, MCE, adaptive and classwise ECE.

With n_b examples in bin b, mean confidence conf_b and accuracy acc_b there,

    ECE = sum_b n_b / n |acc_b - conf_b|          MCE = max over non-empty b of |acc_b - conf_b|

(Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017, eq. 3 and 5). All are biased upwards near 0, by about
sqrt(bins / n); see `debiased` for estimates that are not. Which bin an edge value falls in is `binning`'s convention.

Intervals are those of `gaps`: they cover at every size of the error, allow for the bias, and need no random numbers.
The convention says how far noise alone lifts the number: its mean over models that are calibrated and as confident as
this one. Bootstrap replicates, bins held fixed, serve paired differences only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

from testbed.metrics import binning
from testbed.metrics.binning import Convention
from testbed.metrics.bootstrap import LEVEL, Draws, Interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.gaps import Cells, absolute_interval, cells, joined, largest_interval, noise
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.options import one_of
from testbed.metrics.resampled import Analytic, Measured, sums_by_bin
from testbed.parameters import Count
from testbed.types import Float64, Ints, Paper

Over = Literal["mean", "sum"]
Mass = Literal["width", "equal"]

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


#: Values in one table of resampled sums.
_TABLE: Final = 2**23


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


def classwise_ece(p: Any, y: Any, bins: int = 15, over: Over = "mean", mass: Mass = "width") -> float:
    """Calibration error of each class's probability against 1[y = class], averaged or summed over classes.

    over   "mean" (Nixon 2019) or "sum"; the mean is tiny for many classes, as most probabilities are near 0
    mass   bins of equal width, [lo, hi) with the last closed, or of equal mass

    >>> classwise_ece([[0.1, 0.9], [0.4, 0.6], [0.4, 0.6], [0.8, 0.2]], [1, 0, 1, 1], bins=5).__round__(6)
    0.275
    """
    one_of(over, Over, "classwise_ece: over")
    one_of(mass, Mass, "classwise_ece: mass")
    probs, labels = probabilities(p, y, "classwise_ece")
    errors = np.array([binned_gap(gap, index) for gap, index in _classes(probs, labels, bins, mass)])
    return float(errors.mean() if over == "mean" else errors.sum())


@dataclass(frozen=True)
class Ece(Analytic):
    """Expected calibration error with an interval that covers."""

    bins: Count = 15
    convention: Convention = "guo"

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _GUO

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits, what = binning.scored(*probabilities(probs, labels, "ece"), self.convention)
        index = binning.equal_width(values, self.bins, self.convention)
        return Measured(
            binned_gap(values - hits, index), binned_gap_draws(values - hits, index, draws), self._named(what)
        )

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        values, hits, what = binning.scored(*probabilities(probs, labels, "ece"), self.convention)
        return of_cells(cells(values, hits, binning.equal_width(values, self.bins, self.convention)),
                        len(values), self._named(what))  # fmt: skip

    def _named(self, what: str) -> str:
        return f"{self.convention}, {self.bins} bins of equal width, {what}"

    def cells(self, probs: Any, labels: Any) -> Float64:
        values, hits, _ = binning.scored(*probabilities(probs, labels, "ece"), self.convention)
        index = binning.equal_width(values, self.bins, self.convention)
        return np.asarray((index[:, None] == np.arange(self.bins)) * (values - hits)[:, None])


@dataclass(frozen=True)
class Mce(Analytic):
    """Maximum calibration error with an interval that covers."""

    bins: Count = 15
    convention: Convention = "guo"

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _GUO

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits, what = binning.scored(*probabilities(probs, labels, "mce"), self.convention)
        index = binning.equal_width(values, self.bins, self.convention)
        gaps, counts = sums_by_bin(draws, index, values - hits, np.ones_like(values))
        worst = (np.abs(gaps) / np.maximum(counts, 1)).max(axis=1)
        name = f"{self.convention}, {self.bins} bins of equal width, {what}"
        return Measured(mce(probs, labels, self.bins, self.convention), worst, name)

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        values, hits, what = binning.scored(*probabilities(probs, labels, "mce"), self.convention)
        found = cells(values, hits, binning.equal_width(values, self.bins, self.convention))
        best = largest_interval(found)
        value, upper = (
            f"about {found.total[i] / found.size[i]:.2f} (n={int(found.size[i])})" for i in (best.at, best.widest)
        )
        words = f"{self.convention}, {self.bins} bins of equal width, {what}; value by the bin {value}, upper end by "
        words += f"that {upper}; empty bins not covered; clopper-pearson a bin {LEVEL:.0%}"
        gap = float((np.abs(found.gap) / found.size).max())
        return Estimate(gap, best.low, best.high, words, len(values))


@dataclass(frozen=True)
class AdaptiveEce(Analytic):
    """ECE over bins of equal mass, ties kept together, with an interval that covers."""

    bins: Count = 15

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _NIXON

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits = top_label(*probabilities(probs, labels, "adaptive_ece"))
        index = binning.equal_mass(values, self.bins)
        return Measured(binned_gap(values - hits, index), binned_gap_draws(values - hits, index, draws), self._named())

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        values, hits = top_label(*probabilities(probs, labels, "adaptive_ece"))
        return of_cells(cells(values, hits, binning.equal_mass(values, self.bins)), len(values), self._named())

    def _named(self) -> str:
        return f"{self.bins} bins of equal mass, ties together, top label"


@dataclass(frozen=True)
class ClasswiseEce(Analytic):
    """Classwise ECE, mean or sum over classes, with an interval that covers."""

    bins: Count = 15
    over: Over = "mean"
    mass: Mass = "width"

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _KULL

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "classwise_ece")
        total = classwise_draws(p, y, self.bins, self.mass, draws)
        replicates = total / p.shape[1] if self.over == "mean" else total
        return Measured(classwise_ece(p, y, self.bins, self.over, self.mass), replicates, self._named())

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "classwise_ece")
        k = p.shape[1]
        found = joined([
            cells(np.ascontiguousarray(p[:, at]), (y == at).astype(np.float64), index)
            for at, (_, index) in enumerate(_classes(p, y, self.bins, self.mass))
        ])  # fmt: skip
        return of_cells(found, len(y), self._named(), classes=k, scale=k if self.over == "mean" else 1)

    def _named(self) -> str:
        return f"{self.over} over classes, {self.bins} bins of equal {'mass' if self.mass == 'equal' else 'width'}"


def of_cells(found: Cells, n: int, words: str, classes: int = 1, scale: int = 1) -> Estimate:
    """The estimate of a sum of absolute gaps over cells by its interval; the convention says how noise lifts it.

    classes  how many partitions of the n examples the cells are;  scale  what the sum is divided by
    """
    inflate = classes / (classes - 1) if classes > 1 else 1.0
    low, high = absolute_interval(found, n, inflate, 1 / classes, float(classes))
    value = float(np.abs(found.gap).sum()) / n
    lifted = f"noise alone gives {noise(found) / n / scale:.2g}"
    named = f"{words}; biased upwards, {lifted} of a calibrated model; moment-selection {LEVEL:.0%}"
    return Estimate(value / scale, low / scale, high / scale, named, n)


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


def classwise_draws(p: Float64, y: Ints, bins: int, mass: str, draws: Draws) -> Float64:
    """Sum over classes of `binned_gap` of each resample, float64 `[replicates]`, bins held fixed.

    A class's fullest bin holds nearly all examples where there are many classes: its sum is the class's less those of
    the other bins, whose table is sparse. Classes are taken a few at a time, so that memory stays bounded.
    """
    n, k = p.shape
    total = np.zeros(draws.replicates)
    step = max(1, _TABLE // max(n, bins * draws.replicates))
    for start in range(0, k, step):
        chunk = list(_classes(p[:, start : start + step], y - start, bins, mass))
        whole = draws.sums(np.stack([gap for gap, _ in chunk], axis=1))
        owner, table = _but_the_fullest(chunk)
        part = draws.sums(table)[:, : len(owner)]
        total += np.abs(part).sum(axis=1)
        for at in range(len(chunk)):
            total += np.abs(whole[:, at] - part[:, owner == at].sum(axis=1))
    return np.asarray(total / n)


def _but_the_fullest(chunk: list[tuple[Float64, Ints]]) -> tuple[Ints, Any]:
    """For all bins but the fullest of each class: whose they are, and sparse `[n, bins]` their examples' gaps."""
    from scipy import sparse

    rows, columns, data, owner = [], [], [], np.empty(0, dtype=np.int64)
    for at, (gap, index) in enumerate(chunk):
        used, place, count = np.unique(index, return_inverse=True, return_counts=True)
        fullest = int(count.argmax())
        kept = np.flatnonzero(place != fullest)
        rows.append(kept)
        data.append(gap[kept])
        columns.append(place[kept] - (place[kept] > fullest) + len(owner))
        owner = np.append(owner, np.full(len(used) - 1, at))
    at_cell = (np.concatenate(rows), np.concatenate(columns))
    return owner, sparse.csr_array((np.concatenate(data), at_cell), shape=(len(chunk[0][0]), max(len(owner), 1)))


def binned_gap_draws(gap: Float64, index: Ints, draws: Draws) -> Float64:
    """`binned_gap` of each resample float64 `[replicates]`, bins held fixed."""
    (gaps,) = sums_by_bin(draws, index, gap)
    return np.asarray(np.abs(gaps).sum(axis=1) / len(gap))

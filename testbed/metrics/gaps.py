"""Intervals of binned calibration errors that cover at every size of the error, 0 included; no random numbers.

A bootstrap of a sum of absolute gaps resamples its upward bias as well: its 95 % interval of a calibrated model holds
the truth in .3 to .6 of sets. Here the noise is bounded instead. With true gaps d and noise Z in the cells (bins, or
class x bin), sum sign(d) Z <= plug-in - sum |d| <= sum |Z| always, so that

    lower end  plug-in less the 97.5 % quantile of the noise excess, where cells whose gap is beyond
               max(1.5, sqrt(2 ln cells)) standard errors count as shifted and the others as null (moment selection,
               Andrews & Soares 2010); a null cell's excess is the mean absolute deviation of a binomial
    upper end  gaps of t standard errors in every cell are least favourable: the largest t at which the plug-in is not
               below its 2.5 % quantile

Laws of sums are Pearson's type III with the first three moments. Squared gaps (after Sun et al. 2408.08998) are
inverted likewise: the candidate theta^2 at which the corrected sum is its 97.5 % and its 2.5 % point; for the latter no
sum is taken as luckier than the lower quartile of an error of 0. The largest gap
takes Clopper & Pearson's interval in each bin: its upper end is the largest upper gap (Berger 1982), its lower end the
largest lower gap at level 1 - .025 / bins. Bins without examples are not covered.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from testbed.metrics.bounded import Ends, exact_ends
from testbed.types import Array, Float64, Ints

_Z: Final = 1.959963984540054
_TAIL: Final = 0.025
_MOST_EXCESS: Final = 1.5
_LUCKY: Final = 0.25


class Cells(NamedTuple):
    """Sums in the non-empty cells, float64 `[cells]` each, g = confidence - hit being an example's gap.

    gap     sum of g               square  sum of g^2            size  examples
    total   sum of confidence      null    sum of c (1 - c), the variance of `gap` were the model calibrated
    hits    sum of hits
    """

    gap: Float64
    square: Float64
    size: Float64
    total: Float64
    null: Float64
    hits: Float64


class Moments(NamedTuple):
    """Mean, variance, third central moment."""

    mean: Any
    variance: Any
    third: Any


def cells(confidence: Float64, hits: Float64, index: Ints) -> Cells:
    """Sums over examples `[n]` in the cells `index` `[n]` names; those below 0 are left out.

    >>> cells(np.array([0.75, 0.25, 0.5]), np.array([1.0, 0.0, 0.0]), np.array([0, 3, 3])).gap.tolist()
    [-0.25, 0.75]
    """
    kept = index >= 0
    place = index[kept]
    c, h = confidence[kept], hits[kept]
    g = c - h
    count = np.bincount(place)
    used = count > 0
    columns = (g, g * g, None, c, c * (1 - c), h)
    return Cells(*(np.asarray(count if v is None else np.bincount(place, v), dtype=np.float64)[used] for v in columns))


def joined(parts: list[Cells]) -> Cells:
    """The cells of several partitions of the same examples (one a class) as one list."""
    return Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def pearson_quantile(q: float, mean: float, variance: float, third: float) -> float:
    """The q-quantile of Pearson's type III law with these moments (third >= 0); normal where it is not skewed.

    >>> round(pearson_quantile(0.975, 0.0, 1.0, 0.0), 4), round(pearson_quantile(0.95, 1.0, 1.0, 2.0), 4)
    (1.96, 2.9957)
    """
    from scipy.special import gammaincinv, ndtri

    spread = math.sqrt(max(variance, 0.0))
    if spread < 1e-90:
        return mean
    skew = third / spread**3
    if skew < 1e-3:
        return float(mean + spread * ndtri(q))
    k = 4 / skew**2
    return float(mean + spread * (gammaincinv(k, q) - k) / math.sqrt(k))


def folded(m: Any) -> Moments:
    """Moments of |X|, X normal with mean m >= 0 and unit variance.

    >>> [round(float(part), 6) for part in folded(0.0)]
    [0.797885, 0.36338, 0.218014]
    """
    from scipy.special import erf

    density, inside = np.exp(-m * m / 2) / np.sqrt(2 * np.pi), erf(m / np.sqrt(2))
    a = 2 * density + m * inside
    third = (m**3 + 3 * m) * inside + 2 * (m * m + 2) * density - 3 * a * (1 + m * m) + 2 * a**3
    return Moments(a, np.maximum(1 + m * m - a * a, 0), third)


def binomial_deviation(n: Array, p: Array) -> Float64:
    """E|X - n p| of X binomial (De Moivre), float64 as the arguments; 0 < p < 1.

    >>> float(binomial_deviation(np.array([2.0]), np.array([0.5]))[0]).__round__(9)
    0.5
    """
    from scipy.special import gammaln

    m = np.minimum(np.floor(n * p), n - 1)
    powers = (m + 1) * np.log(p) + (n - m - 1) * np.log1p(-p)
    return np.asarray(2 * (m + 1) * (1 - p) * np.exp(gammaln(n + 1) - gammaln(m + 2) - gammaln(n - m) + powers))


def noise(found: Cells) -> float:
    """The expected sum of absolute gaps (not divided by n) of a calibrated model with these confidences.

    >>> noise(cells(np.array([0.5, 0.5]), np.array([1.0, 0.0]), np.array([0, 0]))).__round__(9)
    0.5
    """
    p = np.clip(found.total / found.size, 1e-12, 1 - 1e-12)
    return float((binomial_deviation(found.size, p) * _narrower(found, p)).sum())


def _narrower(found: Cells, p: Float64) -> Float64:
    """Standard deviation of a cell's gap relative to that of a binomial with the cell's mean confidence."""
    return np.asarray(np.sqrt(np.minimum(found.null / (found.size * p * (1 - p)), 1)))


def absolute_interval(found: Cells, n: int, inflate: float = 1.0, shrink: float = 1.0, most: float = 1.0) -> Ends:
    """The interval of sum over cells |sum of gaps| / n, in [0, most]; it holds that value.

    inflate  variance of sums over cells that share examples, relative to independent ones: k / (k - 1) for k classes
    shrink   the share of an unseen mistake that one cell bears: 1 / k for k classes

    >>> sure = cells(np.full(50, 0.97), np.ones(50), np.zeros(50, np.int64))
    >>> [round(end, 4) for end in absolute_interval(sure, 50)]
    [0.0, 0.0824]
    """
    p = np.clip(found.total / found.size, 1e-12, 1 - 1e-12)
    plug = float(np.abs(found.gap).sum())
    own = np.maximum(found.square - found.gap**2 / n, 0)
    unseen = own + shrink * _Z * _Z / 2 * found.size / n * (p * p + (1 - p) ** 2)
    excess = _excess(found, p, own, unseen)
    lifted = pearson_quantile(1 - _TAIL, excess.mean, inflate * excess.variance, inflate**1.5 * excess.third)
    low = plug - max(lifted, excess.mean)  # a law with most of its mass at 0 has its mean beyond this quantile
    r = np.sqrt(unseen)
    a, b, c = float(r.sum()), inflate * float(unseen.sum()), inflate**1.5 * float((r**3).sum())
    under, over = 0.0, (plug + _Z * math.sqrt(b)) / a + 1
    for _ in range(40):
        t = (under + over) / 2
        m = folded(np.float64(t))
        inside = pearson_quantile(_TAIL, a * m.mean, b * m.variance, c * m.third) <= plug
        under, over = (t, over) if inside else (under, t)
    return max(0.0, low) / n, min(max(under * a, plug) / n, most)


def _excess(found: Cells, p: Float64, own: Float64, unseen: Float64) -> Moments:
    """Moments of how far noise lifts the sum of absolute gaps: null cells by their own law, shifted ones by theirs."""
    spread = np.sqrt(np.maximum(unseen, found.null))
    kappa = max(1.5, math.sqrt(2 * math.log(len(found.gap))))
    beyond = np.maximum(np.abs(found.gap) / spread - kappa, 0)
    fold = folded(beyond)
    full, variance = found.size * p * (1 - p), np.maximum(found.null, 1e-300)
    mad = binomial_deviation(found.size, p) * _narrower(found, p)
    cube = 1.5957691 * variance**1.5 * np.sqrt(1 + 0.5 / np.maximum(full, 1e-9))
    third = np.maximum(cube - 3 * mad * variance + 2 * mad**3, 0)
    f = max(1.0, math.sqrt(own.sum() / variance.sum()))
    null = (beyond == 0) & (f * f <= _MOST_EXCESS) & (np.abs(found.gap) <= 2 * kappa * np.sqrt(variance))
    f = min(f, math.sqrt(_MOST_EXCESS))
    return Moments(
        float(np.where(null, f * mad, spread * (fold.mean - beyond)).sum()),
        float(np.where(null, f * f * np.maximum(variance - mad**2, 0), spread**2 * fold.variance).sum()),
        float(np.where(null, f**3 * third, spread**3 * fold.third).sum()),
    )


def squared_interval(found: Cells, n: int, classes: int = 1) -> Ends:
    """The interval of the l2 error sqrt(sum over cells count / n gap^2), gap the true one, in [0, 1].

    classes  how many partitions of the n examples the cells are; the mean over them is taken

    >>> sure = cells(np.full(50, 0.97), np.ones(50), np.zeros(50, np.int64))
    >>> [round(end, 3) for end in squared_interval(sure, 50)]
    [0.0, 0.084]
    """
    inflate = classes / (classes - 1) if classes > 1 else 1.0
    w, d, a = found.size / n, found.gap / found.size, found.hits / found.size
    pseudo = (found.hits + 2 * w) / (found.size + 4 * w)
    v = np.where((a > 0) & (a < 1), a * (1 - a) / np.maximum(found.size - 1, 1), pseudo * (1 - pseudo) / found.size)
    own = np.maximum(found.square / found.size - d * d, 0) / np.maximum(found.size - 1, 1)
    value = float((w * (d * d - v)).sum()) / classes
    excess = np.maximum(d * d - v, 0)
    wv, wg, we = w * v / classes, w * own / classes, w * excess / classes
    across = (float((we * excess).sum()) - float(we.sum()) ** 2) / n
    fixed = Moments(0.0, 2 * float((wv**2).sum()) + across, 8 * float((wv**3).sum()))
    weight = we / we.sum() if we.sum() > 0 else np.zeros_like(we)
    b = max(float(weight @ wg), float((wv**2).sum()) / float(wv.sum()))
    b2 = max(float(weight @ wg**2), float((wv**3).sum()) / float(wv.sum()))

    def point(t: float, q: float) -> float:
        variance = inflate * (fixed.variance + 4 * b * t)
        return pearson_quantile(q, t, variance, inflate**1.5 * (fixed.third + 24 * b2 * t))

    low = _crossing(lambda t: point(t, 1 - _TAIL), value)
    high = _crossing(lambda t: point(t, _TAIL), max(value, point(0.0, _LUCKY)))
    return math.sqrt(low), math.sqrt(high)


def _crossing(rising: Any, value: float) -> float:
    """Where a rising function of [0, 1] reaches `value`; the end of the range where it does not."""
    low, high = 0.0, 1.0
    if rising(low) >= value:
        return low
    if rising(high) <= value:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


class Largest(NamedTuple):
    """Ends of the interval of the largest gap, and the cells (positions) that decide the value and the upper end."""

    low: float
    high: float
    at: int
    widest: int


def largest_interval(found: Cells) -> Largest:
    """The interval of the largest |mean gap| of any cell, in [0, 1]; empty cells are not covered.

    >>> largest_interval(cells(np.full(50, 0.97), np.ones(50), np.zeros(50, np.int64))).high.__round__(4)
    0.0411
    """
    mean, hits = found.total / found.size, found.hits
    low, high = exact_ends(hits, found.size, _TAIL)
    over = np.maximum(mean - low, high - mean)
    low, high = exact_ends(hits, found.size, _TAIL / len(mean))
    under = np.maximum(np.maximum(low - mean, mean - high), 0)
    value = np.abs(found.gap) / found.size
    best = float(value.max())
    return Largest(
        min(float(under.max()), best), min(1.0, max(float(over.max()), best)), int(value.argmax()), int(over.argmax())
    )

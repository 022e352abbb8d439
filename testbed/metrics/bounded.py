"""Intervals of shares and of means whose range is known: they cover near the ends and are never a point.

    share          Clopper & Pearson (1934): coverage is never below 95 %. Wilson's falls to .84 where about .18 errors
                   are expected, at every n
    bounded mean   gamma (Fay & Feuer 1997; Tiwari, Clegg & Zou 2006): with y the distance of the value from its
                   nearer end and v its variance, the lower end is the 2.5 % quantile of the gamma law of mean y and
                   variance v, the upper one the 97.5 % quantile of that of mean y + w1 and variance v + w2, where w1
                   and w2 are the mean and mean square of what one more mistake would add. At y = 0 it is the rule of
                   three. Where v is 0 inside the range both ends move
    mean loss      Hall's (1992) transformed t, which knows the skewness; with few wrong (or few right) predictions it
                   is widened to what other error rates within their own interval would make of the mean

No random numbers. Nothing here knows about examples that could be worse than any that the range allows.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from testbed.metrics.bootstrap import LEVEL
from testbed.types import Array

#: Fewer wrong, or fewer right, predictions than this leave the mean loss of that side unknown.
FEW: Final = 10

Ends = tuple[float, float]


def clopper_pearson(successes: float, n: float, level: float = LEVEL) -> Ends:
    """Exact interval of a share of `n` >= 1: inside [0, 1], holds successes / n, never a point.

    >>> [round(end, 4) for end in clopper_pearson(8, 10)], [round(end, 4) for end in clopper_pearson(20, 20)]
    ([0.4439, 0.9748], [0.8316, 1.0])
    """
    tail = (1 - level) / 2
    low, high = exact_ends(np.array([successes]), np.array([n]), tail)
    return float(low[0]), float(high[0])


def exact_ends(successes: Array, n: Array, tail: float) -> tuple[Array, Array]:
    """Lower and upper bounds of shares, float64 as the arguments, each wrong with probability at most `tail`.

    >>> [end.round(3).tolist() for end in exact_ends(np.array([0, 5]), np.array([10, 10]), 0.025)]
    [[0.0, 0.187], [0.308, 0.813]]
    """
    from scipy.special import betaincinv

    k, m = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    low = np.where(k > 0, betaincinv(np.maximum(k, 0.5), m - k + 1, tail), 0.0)
    high = np.where(k < m, betaincinv(k + 1, np.maximum(m - k, 0.5), 1 - tail), 1.0)
    return low, high


def gamma_interval(
    value: float, variance: float, mistake: float, square: float, *, floor: float = 0.0, top: float = 1.0,
    both: bool = False, level: float = LEVEL,
) -> Ends:  # fmt: skip
    """The gamma interval of a number in [floor, top], cut there; it holds the value.

    variance         of the value; NaN gives the whole range
    mistake, square  mean and mean square of what one more mistake would add
    both             allow for a mistake in both directions (differences, whose middle is no end)

    >>> [round(end, 4) for end in gamma_interval(0.0, 0.0, 1 / 50, 1 / 50**2)]
    [0.0, 0.0738]
    >>> [round(end, 4) for end in gamma_interval(0.98, 0.0004, 1 / 50, 1 / 50**2)]
    [0.8886, 0.9995]
    """
    if math.isnan(variance):
        return floor, top
    flipped = value - floor > top - value
    y = max(0.0, top - value if flipped else value - floor)
    under = gamma_quantile((1 - level) / 2, y, variance)
    over = gamma_quantile((1 + level) / 2, y + mistake, variance + square)
    if both or (variance <= 0 and y > 0):
        rest = top - floor - y
        under = min(under, top - floor - gamma_quantile((1 + level) / 2, rest + mistake, variance + square))
    low, high = (top - over, top - under) if flipped else (floor + under, floor + over)
    return max(floor, min(low, value)), min(top, max(high, value))


def gamma_quantile(q: float, mean: float, variance: float) -> float:
    """The q-quantile of the gamma law with this mean and variance; the mean itself where the variance is 0.

    >>> round(gamma_quantile(0.975, 1.0, 1.0), 4), gamma_quantile(0.5, 0.3, 0.0)
    (3.6889, 0.3)
    """
    from scipy.special import gammaincinv

    if mean <= 0 or variance <= 0:
        return max(mean, 0.0)
    return float(variance / mean * gammaincinv(mean * mean / variance, q))


def mean_interval(
    values: Array, *, floor: float = 0.0, top: float = 1.0, both: bool = False, level: float = LEVEL
) -> Ends:
    """The gamma interval of the mean of one value in [floor, top] for each example, `[n]`.

    >>> [round(end, 4) for end in mean_interval(np.zeros(50))]
    [0.0, 0.0738]
    """
    each = np.asarray(values, dtype=np.float64)
    n, span = len(each), top - floor
    variance = float(each.var(ddof=1)) / n if n > 1 else 0.0
    return gamma_interval(
        float(each.mean()), variance, span / n, (span / n) ** 2, floor=floor, top=top, both=both or n == 1, level=level
    )


def size_interval(sizes: Array, classes: int) -> Ends:
    """The gamma interval of a mean set size in [0, classes], where one more set may be one larger than the largest.

    >>> [round(end, 4) for end in size_interval(np.ones(50), 10)]
    [0.8814, 1.1198]
    """
    each = np.asarray(sizes, dtype=np.float64)
    n = len(each)
    variance = float(each.var(ddof=1)) / n if n > 1 else 0.0
    one = min(float(classes), float(each.max()) + 1) / n
    return gamma_interval(float(each.mean()), variance, one, one * one, top=float(classes), both=n == 1)


def skewed_mean_interval(values: Array, level: float = LEVEL) -> Ends:
    """Hall's transformed t interval of the mean of `[n]`; a point where all values are one.

    >>> low, high = skewed_mean_interval(np.array([1.0, 2, 3, 4, 20]))
    >>> round(low, 2), round(high, 2)
    (-0.54, 38.32)
    """
    from scipy.special import stdtrit

    each = np.asarray(values, dtype=np.float64)
    n, mean = len(each), float(each.mean())
    spread = float(each.std(ddof=1)) if n > 1 else 0.0
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean
    skew = float(((each - mean) ** 3).mean()) / float(each.std()) ** 3 / math.sqrt(n)
    t = float(stdtrit(n - 1, (1 + level) / 2))
    steps = (t, -t)
    if abs(skew) > 1e-6:
        steps = tuple(3 / skew * (float(np.cbrt(1 + skew * (x - skew / 6))) - 1) for x in steps)  # type: ignore[assignment]
    low, high = (mean - spread / math.sqrt(n) * step for step in steps)
    return min(low, mean), max(high, mean)


def loss_interval(losses: Array, right: Array, other: Array, most: float = math.inf) -> Ends:
    """Interval of the mean of `losses` `[n]` of which those with `right` (0/1 `[n]`) are of right predictions.

    other  `[n]`, the loss each example would have were its prediction wrong where it is right (the label the runner-up)
           and right where it is wrong; it stands in for a side without examples;  most  the largest loss there is

    >>> sure = np.full(50, 0.03)
    >>> [round(end, 3) for end in loss_interval(sure, np.ones(50), np.full(50, 3.5))]
    [0.03, 0.277]
    """
    low, high = skewed_mean_interval(losses)
    n, good = len(losses), int(np.asarray(right).sum())
    mean = float(np.mean(losses))
    if min(good, n - good) < FEW:
        hit = np.asarray(right) > 0
        of_right = float(np.mean(losses[hit] if good else other))
        of_wrong = float(np.mean(losses[~hit] if good < n else other))
        ends = [(1 - e) * of_right + e * of_wrong for e in clopper_pearson(n - good, n)]
        low, high = min(low, *ends), max(high, *ends)
    if high - low <= 1e-12 * max(1.0, abs(mean)):  # every loss the same: a rule of three for others
        share = 1 - ((1 - LEVEL) / 2) ** (1 / n)
        low, high = low * (1 - share), high * (1 + share) if mean > 0 else share
    return max(0.0, min(low, mean)), min(most, max(high, mean))

"""Tests of a difference between two methods on the same examples that hold where few examples differ.

    mcnemar      accuracy: of the changed predictions half are lost if neither is better; mid-p (Lancaster 1961)
    sign_flips   a mean of one number per example: the signs of the differences are exchangeable. All 2^k of them for
                 k <= 10, else Lugannani & Rice's (1980) saddlepoint approximation of the same tail
    swaps        anything else (ECE): which of the two announced an example is exchangeable. All 2^k for k <= 9, else
                 random swaps; with fewer than ten as large, the normal tail of the swaps

k counts the examples that differ by more than rounding. With k of them no test can give less than about 2^-k, and every
test says what its least p-value is. No p-value is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom

from testbed.types import Array, Float64

#: Examples below which a test of losses, ECE or AUROC gives no verdict: skewed differences reject .09 at 8 to 12.
FEWEST: Final = 20

#: A difference on one example up to this share of its size (at least of 1) is rounding, such as another CPU's.
ROUNDING: Final = 1e-5

#: Random swaps where the metric is a sum over cells (one product), and where it must be computed anew each time.
SWAPS, SLOW_SWAPS = 999, 199

_SMALLEST: Final = float(np.finfo(np.float64).tiny)
_EXACT_FLIPS, _EXACT_SWAPS = 10, 9


class PairedTest(NamedTuple):
    """A two-sided p-value, the least one that this test could have given, and how many examples differ."""

    p: float
    least: float
    differing: int


def least_p(differing: int, exponent: int = 1) -> float:
    """2^(exponent - differing), at most 1 and never 0.

    >>> least_p(0), least_p(5), least_p(5, 0)
    (1.0, 0.0625, 0.03125)
    """
    return max(min(1.0, 2.0 ** max(exponent - differing, -1022)), _SMALLEST)


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided mid-p-value that as many predictions were lost as gained: 2 P(X <= k) - P(X = k), X ~ Bin(m, 1/2).

    >>> mcnemar(1, 0), mcnemar(5, 0), round(mcnemar(2, 9), 6), mcnemar(4, 4)
    (0.5, 0.03125, 0.038574, 1.0)
    """
    few, m = min(lost, gained), lost + gained
    if lost == gained:
        return 1.0
    return least_p(m, 0) if few == 0 else float(2 * binom.cdf(few, m, 0.5) - binom.pmf(few, m, 0.5))


def changed(before: Float64, after: Float64) -> Array:
    """bool `[n]`: the numbers of the two differ by more than rounding.

    >>> changed(np.array([1.0, 20.0, 0.5]), np.array([1.1, 20.0001, 0.5])).tolist()
    [True, False, False]
    """
    size = np.maximum(1.0, np.maximum(np.abs(before), np.abs(after)))
    return np.asarray(np.abs(after - before) > ROUNDING * size)


def sign_flips(differences: Float64) -> PairedTest:
    """Whether the mean of differences `[n]` is 0, by flipping their signs; zeros do not count.

    >>> sign_flips(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).p
    0.0625
    """
    d = np.abs(differences[differences != 0])
    k, total = len(d), abs(float(differences.sum()))
    if k == 0:
        return PairedTest(1.0, 1.0, 0)
    least = least_p(k)
    if k <= _EXACT_FLIPS:
        sums = _all_signs(k) @ d
        p = float((np.abs(sums) >= total * (1 - 1e-12)).mean())
    else:
        p = _saddlepoint(d / math.sqrt(float((d * d).sum())), total / math.sqrt(float((d * d).sum())))
    return PairedTest(min(1.0, max(p, least)), least, k)


def _all_signs(k: int) -> Float64:
    return np.array(list(product((-1.0, 1.0), repeat=k)))


def _saddlepoint(d: Float64, total: float) -> float:
    """Two-sided tail of |sum of d with random signs| at `total`, of d > 0 with sum of squares 1.

    t solves sum d tanh(t d) = total; w and u are Lugannani and Rice's in the form r* = w + ln(u / w) / w.
    """
    if total >= float(d.sum()) * (1 - 1e-12):
        return least_p(len(d))
    if total < 1e-3:
        return float(2 * ndtr(-total))
    low, high = 0.0, 1.0
    while float((d * np.tanh(high * d)).sum()) < total and high < 1e12:
        low, high = high, 2 * high
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if float((d * np.tanh(t * d)).sum()) < total else (low, t)
    t = (low + high) / 2
    x = t * d
    log_cosh = x + np.log1p(np.exp(-2 * x)) - math.log(2)
    w = math.sqrt(max(2 * (t * total - float(log_cosh.sum())), 0.0))
    u = t * math.sqrt(float((d * d / np.cosh(np.minimum(x, 300)) ** 2).sum()))
    if w < 1e-3 or u <= 0:
        return float(2 * ndtr(-total)) if w < 1e-3 else least_p(len(d))
    return float(2 * ndtr(-(w + math.log(u / w) / w)))


def swaps(observed: float, rows: Array, swapped: Callable[[Array], Float64], count: int, seed: int) -> PairedTest:
    """Whether a difference is more than swapping the two methods example by example gives.

    rows     bool `[n]`: the examples that differ        count  random swaps, where there are more than 2^9
    swapped  differences float64 `[m]` under swaps bool `[m, k]` of those k examples
    """
    k = int(rows.sum())
    if k == 0:
        return PairedTest(1.0, 1.0, 0)
    least = least_p(k)
    if k <= _EXACT_SWAPS:
        found = swapped(_all_signs(k) > 0)
        p = float((np.abs(found) >= abs(observed) * (1 - 1e-9)).mean())
        return PairedTest(min(1.0, max(p, least)), least, k)
    found = swapped(np.random.default_rng([seed, len(rows), k]).random((count, k)) < 0.5)
    hits = int((np.abs(found) >= abs(observed) * (1 - 1e-9)).sum())
    p = (1 + hits) / (count + 1)
    spread = float(np.sqrt(np.mean(found**2)))
    if hits < 10 and spread > 0:
        p = float(2 * ndtr(-abs(observed) / spread))
    return PairedTest(min(1.0, max(p, least)), least, k)

"""The variance of an AUROC, and of the difference of two on the same examples (DeLong, DeLong & Clarke-Pearson 1988).

With mid-ranks (Sun & Xu 2014, "Fast implementation of DeLong's algorithm") the structural components cost one sort:
for OOD example j, V_j = share of ID scores below it (ties count one half); for ID example i, U_i = share of OOD scores
above it. AUROC is the mean of either; its variance is var(V)/n_ood + var(U)/n_id with the n - 1 divisor.

Intervals are gamma ones (`bounded`) with this variance, counted from the nearer end of [0, 1]; one more mistake on the
smaller side, of m examples, adds 1/(2m) (3/(4m) for m < 30). In 90 settings (AUROC .6 to .998, three spreads, ties,
20 to 2,000 a side) they cover .932 to 1, where the logit scale (Qin & Hotilovac 2008) falls to .50. Where the variance
is 0 (perfect separation, all scores equal) they still have a width.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from testbed.metrics.bootstrap import LEVEL
from testbed.metrics.bounded import gamma_interval
from testbed.metrics.paired_tests import FEWEST, least_p
from testbed.types import Array, Float64

#: With fewer examples than this on the smaller side, one more mistake is given more weight.
_FEW: Final = 30


class Components(NamedTuple):
    """Structural components of one AUROC: `id` float64 `[n_id]`, `ood` float64 `[n_ood]`; the mean of each is it."""

    id: Float64
    ood: Float64

    @property
    def auroc(self) -> float:
        """The AUROC itself."""
        return float(self.ood.mean())


class Difference(NamedTuple):
    """`value` = first - second AUROC, its interval, and the two-sided p-value of no difference, which is never 0.

    least  the least p-value that these examples could give: 2^(1 - differing); 1 with under 20 on a side (p is NaN)
    error  standard error of `value`     differing  examples that the two rank otherwise, on the side with fewer
    """

    value: float
    low: float
    high: float
    p: float
    least: float
    error: float
    differing: int


def components(id_scores: Array, ood_scores: Array) -> Components:
    """U and V of scores without NaN; larger scores mean OOD, infinite ones rank as such.

    >>> components(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    Components(id=array([1.  , 0.75]), ood=array([0.75, 1.  ]))
    """
    return Components(1.0 - _below(id_scores, ood_scores), _below(ood_scores, id_scores))


def variance(parts: Components) -> float:
    """DeLong's estimate of the variance of the AUROC; NaN where a side has one example."""
    return covariance(parts, parts)


def covariance(first: Components, second: Components) -> float:
    """DeLong's covariance of two AUROCs measured on the same examples in the same order."""
    return _covariance(first.ood, second.ood) / len(first.ood) + _covariance(first.id, second.id) / len(first.id)


def interval(parts: Components, level: float = LEVEL) -> tuple[float, float]:
    """The interval of the AUROC, as the module says; (0, 1) where a side has a single example.

    >>> low, high = interval(components(np.arange(50.0), np.arange(25.0, 75.0)))
    >>> round(low, 3), round(high, 3)
    (0.79, 0.93)
    """
    return bounds(parts.auroc, variance(parts), min(len(parts.id), len(parts.ood)), level)


def bounds(value: float, spread: float, pairs: int, level: float = LEVEL) -> tuple[float, float]:
    """Ends of the interval of an AUROC with variance `spread`; `pairs` examples on the smaller side.

    A NaN variance (a side of one example) gives (0, 1).

    >>> bounds(0.9, float("nan"), 1), [round(end, 4) for end in bounds(1.0, 0.0, 50)]
    ((0.0, 1.0), [0.9631, 1.0])
    """
    share = 0.5 if pairs >= _FEW else 0.75
    return gamma_interval(value, spread, share / pairs, (share / pairs) ** 2, level=level)


def difference(first: Components, second: Components, level: float = LEVEL) -> Difference:
    """Paired difference of two AUROCs on the same examples, DeLong's variance on Welch's t.

    Where the variance is 0 though the AUROCs differ, the m = min(n_id, n_ood) disjoint pairs, all alike, bound the
    interval as they do for one AUROC.

    >>> a = components(np.array([0.0, 1, 2, 3]), np.array([2.0, 4, 5, 6]))
    >>> found = difference(a, a)
    >>> found.value, found.p, found.differing
    (0.0, 1.0, 0)
    """
    value, sides = first.auroc - second.auroc, [a - b for a, b in zip(first, second, strict=True)]
    fewest = min(map(len, sides))
    differing = min(int((np.abs(d) > 1e-12).sum()) for d in sides)
    least = least_p(differing) if fewest >= FEWEST else 1.0
    if fewest < 2:
        return Difference(value, -1.0, 1.0, math.nan, 1.0, math.nan, differing)
    parts = [float(d.var(ddof=1)) / len(d) for d in sides]
    error = math.sqrt(sum(parts))
    if error <= 1e-9:
        q = ((1 - level) / 2) ** (1 / fewest)
        low, high = (value, value) if value == 0 else (value * q - (1 - q), value * q + 1 - q)
        p = 1.0 if differing == 0 else least
    else:
        freedom = sum(parts) ** 2 / sum(v * v / (len(d) - 1) for v, d in zip(parts, sides, strict=True))
        half = float(stdtrit(freedom, (1 + level) / 2)) * error
        low, high = value - half, value + half
        p = min(1.0, max(float(2 * stdtr(freedom, -abs(value) / error)), least))
    p = p if fewest >= FEWEST or differing == 0 else math.nan
    return Difference(value, max(-1.0, low), min(1.0, high), p, least, error, differing)


def normal_quantile(level: float) -> float:
    """The half-width of a two-sided normal interval in standard errors.

    >>> round(normal_quantile(0.95), 4)
    1.96
    """
    return NormalDist().inv_cdf((1 + level) / 2)


def _below(values: Array, others: Array) -> Float64:
    """Share of `others` below each value, ties one half: float64, values' order."""
    ordered = np.sort(others)
    under = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    return (under + upto) / (2.0 * len(ordered))


def _covariance(a: Float64, b: Float64) -> float:
    if len(a) < 2:
        return math.nan
    return float(np.dot(a - a.mean(), b - b.mean()) / (len(a) - 1))

"""Calibration without bins: cumulative gaps (KS, Kuiper) and Spiegelhalter's z, each with a test.

With confidences sorted and r correctness, the walk G_j = 1/n sum over the j lowest of (r - c) has

    KS = max |G_j|                 (Gupta et al. 2021)
    Kuiper = max G_j - min G_j     (Arrieta-Ibarra et al. 2022, ECCE-R; 0 counts as a point of the walk)

Under calibration n G / sqrt(sum c (1 - c)) tends to a Brownian motion, whose largest absolute value and whose range
have known laws (Feller 1951); the p-values are theirs. Tied confidences are summed before the walk is looked at, so the
order of examples cannot matter.

    z = sum (r - c)(1 - 2c) / sqrt(sum (1 - 2c)^2 c (1 - c))     (Spiegelhalter 1986)

tests the Brier score; it is blind where confidences are 1/2. The three test different things.

Intervals: with s the deviation of the walk's end, the error of the population lies above KS - s q, q the 97.5 % point
of max |W| (for Kuiper of the range of W), and below KS + 1.96 s, as the walk at the population's own worst point is at
most KS; s allows for one unseen mistake. They cover at every size of the error. Replicates serve paired differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from testbed.metrics.bootstrap import LEVEL, Draws, Interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.resampled import Analytic, Measured
from testbed.types import Float64, Paper

_KUIPER = Paper(
    "Metrics of Calibration for Probabilistic Predictions",
    "Arrieta-Ibarra, Gujral, Tannen, Tygert and Xu", 2022, "JMLR", "2205.09680",
)  # fmt: skip


_Z: Final = 1.959963984540054
#: 97.5 % points of max |W| and of max W - min W of a Brownian motion on [0, 1].
_LARGEST: Final = 2.497705
_RANGE: Final = 2.734364


class Outcome(NamedTuple):
    """A statistic and the probability of one as large under calibration."""

    statistic: float
    p_value: float


def ks_error(p: Any, y: Any) -> float:
    """Largest absolute cumulative gap of the top label, in [0, 1].

    >>> ks_error([[0.4, 0.6], [0.2, 0.8]], [1, 0]).__round__(6)
    0.2
    """
    return float(np.abs(_walk(*top_label(*probabilities(p, y, "ks_error")))).max())


def kuiper_error(p: Any, y: Any) -> float:
    """Range of the cumulative gap of the top label, in [0, 1].

    >>> kuiper_error([[0.4, 0.6], [0.2, 0.8]], [1, 0]).__round__(6)
    0.4
    """
    walk = _walk(*top_label(*probabilities(p, y, "kuiper_error")))
    return float(max(walk.max(), 0.0) - min(walk.min(), 0.0))


def ks_test(p: Any, y: Any) -> Outcome:
    """KS error and its p-value (largest absolute value of a Brownian motion).

    >>> ks_test([[0.5, 0.5]] * 100, [0, 1] * 50).p_value
    1.0
    """
    values, hits = top_label(*probabilities(p, y, "ks_test"))
    error = float(np.abs(_walk(values, hits)).max())
    return Outcome(error, _tail(error, values, _largest_tail))


def kuiper_test(p: Any, y: Any) -> Outcome:
    """Kuiper error and its p-value (range of a Brownian motion).

    >>> round(kuiper_test([[0.2, 0.8]] * 100, [1] * 100).p_value, 6)
    2e-06
    """
    values, hits = top_label(*probabilities(p, y, "kuiper_test"))
    walk = _walk(values, hits)
    error = float(max(walk.max(), 0.0) - min(walk.min(), 0.0))
    return Outcome(error, _tail(error, values, _range_tail))


def spiegelhalter(p: Any, y: Any) -> Outcome:
    """Spiegelhalter's z of the top label and its two-sided p-value.

    Where every confidence is 0, 1/2 or 1 the variance is 0: z is infinite and p = 0 if a confident prediction is wrong,
    which calibration rules out; else 0 / 0, which is undefined (NaN).

    >>> spiegelhalter([[0.2, 0.8]] * 10, [1] * 8 + [0] * 2).statistic.__round__(9) + 0.0
    0.0
    """
    from scipy.special import ndtr

    c, r = top_label(*probabilities(p, y, "spiegelhalter"))
    variance = float(((1 - 2 * c) ** 2 * c * (1 - c)).sum())
    excess = float(((r - c) * (1 - 2 * c)).sum())
    if variance > 0:
        z = excess / math.sqrt(variance)
    else:
        z = math.copysign(math.inf, excess) if excess else math.nan
    return Outcome(z, float(2 * ndtr(-abs(z))))


@dataclass(frozen=True)
class KsError(Analytic):
    """KS calibration error with an interval that covers."""

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = Paper(
        "Calibration of Neural Networks using Splines",
        "Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu and Hartley", 2021, "ICLR", "2006.12800",
    )  # fmt: skip

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        walks = _walks(*top_label(*probabilities(probs, labels, "ks_error")), draws)
        return Measured(ks_error(probs, labels), np.concatenate([np.abs(w).max(axis=1) for w in walks]), "top label")

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        return _walk_estimate(ks_error(probs, labels), *top_label(*probabilities(probs, labels, "ks_error")), _LARGEST)


@dataclass(frozen=True)
class KuiperError(Analytic):
    """Kuiper calibration error with an interval that covers."""

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = _KUIPER

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        walks = _walks(*top_label(*probabilities(probs, labels, "kuiper_error")), draws)
        ranges = [np.maximum(w.max(axis=1), 0) - np.minimum(w.min(axis=1), 0) for w in walks]
        return Measured(kuiper_error(probs, labels), np.concatenate(ranges), "top label")

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        values, hits = top_label(*probabilities(probs, labels, "kuiper_error"))
        return _walk_estimate(kuiper_error(probs, labels), values, hits, _RANGE)


def _walk_estimate(value: float, values: Float64, hits: Float64, most: float) -> Estimate:
    """A walk's error with its interval; `most` is the 97.5 % point of what pure noise of unit variance gives."""
    n = len(values)
    noise = max(float(((hits - values) ** 2).sum()), float((values * (1 - values)).sum()))
    deviation = np.sqrt(noise + _Z * _Z / 2) / n
    low, high = max(0.0, value - most * deviation), min(1.0, value + _Z * deviation + _Z * _Z / (2 * n))
    return Estimate(value, low, high, f"top label; biased upwards near 0; brownian bound {LEVEL:.0%}", n)


def _walk(values: Float64, hits: Float64) -> Float64:
    """The cumulative gap after each distinct confidence."""
    _, inverse = np.unique(values, return_inverse=True)
    return np.asarray(np.cumsum(np.bincount(inverse, hits - values)) / len(values))


def _walks(values: Float64, hits: Float64, draws: Draws) -> Any:
    """Blocks of resampled walks `[block, n]`; a point inside a run of ties is not looked at."""
    order = np.argsort(values, kind="stable")
    gap, v = (hits - values)[order], values[order]
    last = np.flatnonzero(np.concatenate([v[1:] != v[:-1], [True]]))
    for block in draws.blocks():
        yield np.cumsum(block[:, order] * gap, axis=1)[:, last] / len(values)


def _tail(error: float, values: Float64, law: Any) -> float:
    """p-value of an error under a law of Brownian motion; 1 where every confidence is 0 or 1 and none errs."""
    deviation = float(np.sqrt((values * (1 - values)).sum())) / len(values)
    if deviation == 0:
        return 1.0 if error == 0 else 0.0
    return float(np.clip(law(error / deviation), 0.0, 1.0))


def _largest_tail(x: float) -> float:
    """P(max |W| > x) for a Brownian motion on [0, 1]."""
    if x < 0.15:
        return 1.0
    k = np.arange(200)
    terms = (-1.0) ** k / (2 * k + 1) * np.exp(-((2 * k + 1) ** 2) * np.pi**2 / (8 * x * x))
    return float(1 - 4 / np.pi * terms.sum())


def _range_tail(x: float) -> float:
    """P(max W - min W > x) for a Brownian motion on [0, 1] (Feller 1951)."""
    from scipy.special import ndtr

    if x < 0.4:
        return 1.0
    k = np.arange(1, 200)
    return float(8 * ((-1.0) ** (k - 1) * k * ndtr(-k * x)).sum())

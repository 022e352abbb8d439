"""Tests of calibration and kernel errors as metrics of a grid: Spiegelhalter, KS, Kuiper, T-Cal, SKCE, canonical ECE.

A `_p` metric is a p-value: the chance of a statistic as large if the model were calibrated, so it is better when larger
and has no interval. Methods that compare all pairs of examples see a random subset of `limit` of a larger set, drawn
from the grid's seed, and say so in the convention. SKCE's interval is the normal one of a U-statistic, with both terms
of its variance (Hoeffding 1948): the second one leads where the model is calibrated or n is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.cumulative import KsError, KuiperError, Outcome, ks_test, kuiper_test, spiegelhalter
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities
from testbed.metrics.kernels import LARGEST, canonical_ece, skce_terms, skce_test
from testbed.metrics.tcal import tcal_test
from testbed.parameters import Checked, Count, NonNegative
from testbed.types import Float64, Ints, Paper

_Z = 1.959963984540054
_SPIEGELHALTER = Paper(
    "Probabilistic Prediction in Patient Management and Clinical Trials",
    "Spiegelhalter",
    1986,
    "Statistics in Medicine",
)
_SKCE = Paper(
    "Calibration Tests in Multi-Class Classification: A Unifying Framework",
    "Widmann, Lindsten and Zachariah", 2019, "NeurIPS", "1910.11385",
)  # fmt: skip


@dataclass(frozen=True)
class _PValue(Checked):
    """Base: a test's p-value; a subclass names the test."""

    needs: ClassVar[str] = "probs"
    higher_is_better: ClassVar[bool] = True
    convention: ClassVar[str] = ""
    reference: ClassVar[Paper | None] = None

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        """The p-value of calibration of `probs` `[n, k]`."""
        p, y = probabilities(probs, labels, type(self).__name__)
        return Estimate(self.test(p, y, draws).p_value, np.nan, np.nan, f"p-value, {self.convention}", len(y))

    def test(self, p: Float64, y: Ints, draws: Draws) -> Outcome:
        """The statistic and its p-value."""
        raise NotImplementedError


@dataclass(frozen=True)
class KsP(_PValue):
    """p-value of the KS test of the top label."""

    convention: ClassVar[str] = "KS of the top label, Brownian limit"
    reference: ClassVar[Paper | None] = KsError.reference

    def test(self, p: Float64, y: Ints, draws: Draws) -> Outcome:
        return ks_test(p, y)


@dataclass(frozen=True)
class KuiperP(_PValue):
    """p-value of the Kuiper test of the top label."""

    convention: ClassVar[str] = "Kuiper of the top label, Brownian limit"
    reference: ClassVar[Paper | None] = KuiperError.reference

    def test(self, p: Float64, y: Ints, draws: Draws) -> Outcome:
        return kuiper_test(p, y)


@dataclass(frozen=True)
class SpiegelhalterP(_PValue):
    """p-value of Spiegelhalter's test of the top label, two-sided."""

    version: ClassVar[int] = 2
    convention: ClassVar[str] = "Spiegelhalter's z of the top label, two-sided"
    reference: ClassVar[Paper | None] = _SPIEGELHALTER

    def test(self, p: Float64, y: Ints, draws: Draws) -> Outcome:
        return spiegelhalter(p, y)


@dataclass(frozen=True)
class TcalP(_PValue):
    """p-value of T-Cal, the multi-scale test of the top label."""

    simulations: Count = 1000

    convention: ClassVar[str] = "T-Cal of the top label, Monte Carlo"
    reference: ClassVar[Paper | None] = Paper(
        "T-Cal: An Optimal Test for the Calibration of Predictive Models",
        "Lee, Huang, Hassani and Dobriban", 2023, "JMLR", "2203.01850",
    )  # fmt: skip

    def test(self, p: Float64, y: Ints, draws: Draws) -> Outcome:
        return tcal_test(p, y, self.simulations, draws.seed)


@dataclass(frozen=True)
class Spiegelhalter(Checked):
    """Spiegelhalter's z of the top label: standard normal for a calibrated model, positive for over-confidence.

    Infinite where every confidence is 1 and one is wrong, undefined where all are right.

    >>> p = np.array([[0.2, 0.8]] * 100)
    >>> Spiegelhalter()(p, [1] * 60 + [0] * 40, draws=Draws(0, 100, 1)).value.__round__(6)
    5.0
    """

    version: ClassVar[int] = 2
    needs: ClassVar[str] = "probs"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[Paper] = _SPIEGELHALTER

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        """The statistic, with the interval that noise of unit variance gives it."""
        z = spiegelhalter(probs, labels).statistic
        return Estimate(z, z - _Z, z + _Z, f"z of the top label; unit normal {LEVEL:.0%}", len(labels))


@dataclass(frozen=True)
class Skce(Checked):
    """Unbiased squared kernel calibration error of all classes, with the normal interval of a U-statistic.

    nu     bandwidth of the kernel; 0: the median distance
    limit  examples looked at, at most 5,000
    """

    nu: NonNegative = 0.0
    limit: Count = 2000

    needs: ClassVar[str] = "probs"
    higher_is_better: ClassVar[bool] = False
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = _SKCE

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        """The error of `probs` `[n, k]`."""
        p, y, named = _subset(*probabilities(probs, labels, "skce"), self.limit, draws.seed)
        if len(y) < 2:
            raise DataError("skce compares pairs of examples and got one example")
        terms = skce_terms(p, y, self.nu or None)
        n = len(terms)
        value = float(terms.sum() / (n * (n - 1)))
        first = float(np.var(terms.sum(axis=1) / (n - 1), ddof=1)) if n > 1 else 0.0
        half = _Z * float(np.sqrt(4 * first / n + 2 * float((terms**2).sum()) / (n * (n - 1)) ** 2))
        if half == 0:  # no residual at all: twice the square of the share of errors that may be unseen
            half = 2 * (1 - ((1 - LEVEL) / 2) ** (1 / n)) ** 2
        width = "median" if self.nu == 0 else f"{self.nu:g}"
        return Estimate(value, value - half, value + half, f"{width} bandwidth{named}; normal {LEVEL:.0%}", n)


@dataclass(frozen=True)
class SkceP(_PValue):
    """p-value of the SKCE test of all classes, by random signs."""

    signs: Count = 500
    limit: Count = 2000

    reference: ClassVar[Paper | None] = _SKCE

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        """The p-value of `probs` `[n, k]`."""
        p, y, named = _subset(*probabilities(probs, labels, "skce_p"), self.limit, draws.seed)
        if len(y) < 2:
            raise DataError("skce_p compares pairs of examples and got one example")
        order = np.lexsort((y, *p.T))  # the signs go by position
        found = skce_test(p[order], y[order], None, self.signs, draws.seed).p_value
        return Estimate(found, np.nan, np.nan, f"p-value, SKCE, {self.signs} sign flips{named}", len(y))


@dataclass(frozen=True)
class CanonicalEce(Checked):
    """Canonical (all-class) calibration error by Dirichlet kernels; no interval.

    bandwidth  0: chosen by leave-one-out likelihood
    limit      examples looked at, at most 5,000
    """

    bandwidth: NonNegative = 0.0
    limit: Count = 1000

    needs: ClassVar[str] = "probs"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[Paper] = Paper(
        "A Consistent and Differentiable Lp Canonical Calibration Error Estimator",
        "Popordanoska, Sayer and Blaschko", 2022, "NeurIPS", "2210.07810",
    )  # fmt: skip

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        """The error of `probs` `[n, k]`."""
        p, y, named = _subset(*probabilities(probs, labels, "canonical_ece"), self.limit, draws.seed)
        chosen = "bandwidth by likelihood" if self.bandwidth == 0 else f"bandwidth {self.bandwidth:g}"
        value = canonical_ece(p, y, self.bandwidth or None)
        return Estimate(value, np.nan, np.nan, f"Dirichlet kernels, {chosen}{named}; no interval", len(y))


def _subset(p: Float64, y: Ints, limit: int, seed: int) -> tuple[Float64, Ints, str]:
    """At most `limit` examples, drawn from the seed, and how to say so."""
    limit = min(limit, LARGEST)
    if len(y) <= limit:
        return p, y, ""
    rows = np.sort(np.random.default_rng(seed).choice(len(y), limit, replace=False))
    return p[rows], y[rows], f", {limit} of {len(y)} drawn"

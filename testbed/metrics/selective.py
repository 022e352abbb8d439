"""Coverage at risk: the largest share of examples that can be answered, most certain first, at a bounded error rate.

(Geifman & El-Yaniv 2017, "Selective classification for deep neural networks".) Answering starts with the most certain
examples and takes in ties together; the coverage is the largest share answered with selective risk at most `risk`.
Its interval is often nearly [0, 1] for n = 50: so few errors say little of a risk of 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.errors import UsageError
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.estimate import Estimate
from testbed.metrics.failure import arrange
from testbed.parameters import Checked, Share
from testbed.types import Array, Float64, Ints, Paper


def coverage_at_risk(confidence: Array, correct: Array, risk: float = 0.05) -> float:
    """Largest coverage in [0, 1] at which at most `risk` of the answered examples are wrong; 0 if there is none.

    >>> coverage_at_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]), risk=0.3)
    1.0
    >>> coverage_at_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]), risk=0.2)
    0.5
    """
    ends, wrong, _ = _sorted(confidence, correct, risk)
    return float(_coverage(np.ones((1, len(wrong))), ends, wrong, risk)[0])


@dataclass(frozen=True)
class CoverageAtRisk(Checked):
    """Coverage at a bounded selective risk, with an interval from the errors among the k most certain, at every k.

    >>> certain = np.linspace(0.5, 1, 400)
    >>> print(CoverageAtRisk()(certain, np.ones(400, bool), draws=None))
    1 [1, 1] (n=400; coverage at risk 0.05, ties together; binomial at every coverage 95%)
    """

    risk: Share = 0.05

    needs: ClassVar[str] = "confidence"
    higher_is_better: ClassVar[bool] = True
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = Paper(
        "Selective Classification for Deep Neural Networks", "Geifman and El-Yaniv", 2017, "NeurIPS", "1705.08500"
    )

    def __call__(self, confidence: Array, correct: Array, *, draws: Draws | None) -> Estimate:
        """Confidence `[n]`, larger = more certain, and correct `[n]` -> the coverage."""
        ends, wrong, _ = _sorted(confidence, correct, self.risk)
        n = len(wrong)
        value = float(_coverage(np.ones((1, n)), ends, wrong, self.risk)[0])
        low, high = binomial_ends(ends + 1, np.cumsum(wrong)[ends], self.risk)
        named = f"coverage at risk {self.risk:g}, ties together; binomial at every coverage {LEVEL:.0%}"
        return Estimate(value, min(low / n, value), max(high / n, value), named, n)


def binomial_ends(answered: Ints, errors: Float64, risk: float) -> tuple[float, float]:
    """How many can be answered: the most at which a risk above `risk` would give so few errors one time in forty, and
    the most at which a risk below it would give so many at least one time in forty; 0 where there is none.

    >>> binomial_ends(np.array([100, 200]), np.array([0.0, 60.0]), 0.1)
    (100.0, 100.0)
    """
    from scipy.special import betainc

    tail = (1 - LEVEL) / 2
    k, e = np.asarray(answered, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    at_most = np.where(e < k, 1 - betainc(e + 1, np.maximum(k - e, 0.5), risk), 1.0)
    at_least = np.where(e > 0, betainc(np.maximum(e, 0.5), k - e + 1, risk), 1.0)
    return (
        float(k[at_most <= tail].max(initial=0.0)),
        float(k[at_least > tail].max(initial=0.0)),
    )


def _sorted(confidence: Array, correct: Array, risk: float) -> tuple[Ints, Float64, Ints]:
    """Last position of each run of equal confidences, and errors, by falling confidence; and that order."""
    if not 0 <= risk < 1:
        raise UsageError(f"coverage_at_risk: risk is an error rate in [0, 1), got {risk:g}")
    found = arrange(confidence, correct)
    score = np.asarray(confidence, dtype=np.float64)[found.order]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return ends, found.wrong, np.asarray(found.order)


def _coverage(counts: Float64, ends: Ints, wrong: Float64, risk: float) -> Float64:
    """Coverage of each resample: rows of counts in sorted order `[r, n]`."""
    answered = np.cumsum(counts, axis=1)[:, ends]
    errors = np.cumsum(counts * wrong, axis=1)[:, ends]
    allowed = errors <= risk * answered + 1e-9
    return np.asarray(np.where(allowed, answered, 0.0).max(axis=1) / counts.sum(axis=1))

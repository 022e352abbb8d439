"""Failure prediction: does the confidence tell right from wrong predictions? (selective classification)

Examples are accepted in order of falling confidence. After k of n: coverage k/n, errors E_k, selective risk E_k/k,
generalised risk E_k/n. Ties are treated as a random order among equals, in expectation: inside a tie E grows linearly.

    AURC    mean_k E_k/k (Geifman & El-Yaniv 2017): area under selective risk; weights confident errors heavily
    E-AURC  AURC - (r + (1 - r) ln(1 - r)), r the error rate: what the best order would have is taken off (Geifman 2019)
    AUGRC   area under generalised risk (Traub et al. 2024): mean risk of a failure going undetected, at best r^2/2

All are in [0, 1], smaller is better; published tables often print them times 1,000. `correct` may count OOD examples
as failures (the unified view of FD-Shifts). Intervals are gamma ones (`bounded`) whose variance is the infinitesimal
jackknife's: each example's first-order influence on the number, in closed form, squared and summed. One more mistake
adds 1/n to AURC in the mean (1/2n to AUGRC), so that a sample without errors still has an upper end. They cover less
than 93 % where all errors are the most certain predictions (.89 at accuracy .99, n = 300).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple

import numpy as np

from testbed.errors import DataError, UsageError
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import gamma_interval
from testbed.metrics.estimate import Estimate
from testbed.parameters import Checked
from testbed.types import Array, Float64, Paper

Measure = Literal["aurc", "eaurc", "augrc"]


class Ordered(NamedTuple):
    """Examples by falling confidence: `wrong` (own 0/1), `expected` (mean of its tie), `order` (positions)."""

    wrong: Float64
    expected: Float64
    order: Array


def aurc(confidence: Array, correct: Array) -> float:
    """Area under the risk-coverage curve, mean_k E_k/k, in [0, 1].

    confidence  floats `[n]`, larger = more certain, no NaN;  correct  bool or 0/1 `[n]`

    >>> aurc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]))
    0.14583333333333331
    """
    ordered = arrange(confidence, correct)
    return float((np.cumsum(ordered.expected) / np.arange(1, len(ordered.expected) + 1)).mean())


def eaurc(confidence: Array, correct: Array) -> float:
    """AURC - (r + (1 - r) ln(1 - r)): excess over the best order in the limit of large n.

    >>> round(eaurc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])), 6)
    0.111595
    """
    return aurc(confidence, correct) - best_aurc(1.0 - float(np.mean(correct)))


def best_aurc(risk: float) -> float:
    """AURC of the best possible order at this error rate, for large n.

    >>> best_aurc(0.0), best_aurc(1.0)
    (0.0, 1.0)
    """
    return risk + (1 - risk) * math.log1p(-risk) if risk < 1 else 1.0


def augrc(confidence: Array, correct: Array) -> float:
    """Area under the generalised-risk-coverage curve, trapezoid from (0, 0), in [0, 1/2].

    >>> augrc(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]))
    0.09375
    """
    ordered = arrange(confidence, correct)
    errors = np.concatenate([[0.0], np.cumsum(ordered.expected)])
    n = len(ordered.expected)
    return float((errors[1:] + errors[:-1]).sum() / (2.0 * n * n))


def arrange(confidence: Array, correct: Array) -> Ordered:
    """Sort by falling confidence and spread errors evenly over ties; DataError on NaN, on shapes, on an empty set."""
    score = np.asarray(confidence, dtype=np.float64).reshape(-1)
    wrong = 1.0 - np.asarray(correct, dtype=np.float64).reshape(-1)
    if len(score) == 0 or score.shape != wrong.shape:
        raise DataError(f"expected confidence and correct of one length >= 1, got {score.shape} and {wrong.shape}")
    if np.isnan(score).any():
        raise DataError(f"{int(np.isnan(score).sum())} of {len(score)} confidences are NaN; a NaN has no rank")
    if not np.isin(wrong, (0.0, 1.0)).all():
        raise DataError("expected `correct` as booleans or 0/1")
    order = np.argsort(-score, kind="stable")
    _, tie, counts = np.unique(-score[order], return_inverse=True, return_counts=True)
    expected = (np.bincount(tie, weights=wrong[order]) / counts)[tie]
    return Ordered(wrong[order], expected, order)


def influence(ordered: Ordered, measure: Measure) -> Float64:
    """d(measure)/d(weight of an example) at equal weights, sorted order; the squares sum to the variance."""
    n = len(ordered.expected)
    count = np.arange(1, n + 1)
    errors = np.cumsum(ordered.expected)
    if measure == "augrc":
        after = np.cumsum(np.ones(n))[::-1] - 0.5
        before = errors - 0.5 * ordered.expected
        raw: Float64 = (before + ordered.wrong * after) / n
        raw = (raw - raw.mean()) / n
        return raw
    risk = errors / count
    gain = np.cumsum((1.0 / count)[::-1])[::-1]
    drag = np.cumsum((risk / count)[::-1])[::-1]
    raw = risk + ordered.wrong * gain - drag
    if measure == "eaurc":
        rate = float(ordered.wrong.mean())
        slope = -math.log1p(-rate) if rate < 1 else 0.0
        raw = raw - slope * ordered.wrong
    slopes: Float64 = (raw - raw.mean()) / n
    return slopes


@dataclass(frozen=True)
class _Failure(Checked):
    """What the three measures share: the call, the interval, the facts."""

    interval: Literal["analytic", "bootstrap"] = "analytic"

    needs = "confidence"
    higher_is_better = False
    version: ClassVar[int] = 2
    measure: ClassVar[Measure]
    convention: ClassVar[str]

    def __call__(self, confidence: Array, correct: Array, *, draws: Draws | None) -> Estimate:
        """Confidence `[n]`, larger = more certain, and correct `[n]` -> the measure."""
        score, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
        value = MEASURES[self.measure](score, right)
        words = f"{self.convention}; ties in expectation"
        if self.interval == "bootstrap":
            if draws is None or draws.n != len(score):
                raise UsageError(f"a bootstrap interval needs draws of the {len(score)} examples, got {draws!r}")
            replicates = draws.replicate(lambda rows: MEASURES[self.measure](score[rows], right[rows]))
            return draws.estimate(value, replicates, words)
        n = len(score)
        variance = float(np.square(influence(arrange(score, right), self.measure)).sum())
        one, square, top = (0.5 / n, 1 / (3 * n * n), 0.5) if self.measure == "augrc" else (1 / n, 2 / n**2, 1.0)
        low, high = gamma_interval(value, variance, one, square, top=top, both=2 * value > top)
        return Estimate(value, low, high, f"{words}; gamma-jackknife {LEVEL:.0%}", n)


@dataclass(frozen=True)
class AURC(_Failure):
    """Area under the risk-coverage curve as a metric plug-in; see `aurc`."""

    measure = "aurc"
    convention = "mean selective risk over coverages 1/n..1"
    reference: ClassVar[Paper] = Paper(
        "Selective Classification for Deep Neural Networks",
        "Yonatan Geifman, Ran El-Yaniv",
        2017,
        "NeurIPS",
        "1705.08500",
    )


@dataclass(frozen=True)
class EAURC(_Failure):
    """Excess AURC as a metric plug-in; see `eaurc`."""

    measure = "eaurc"
    convention = "aurc less its large-n optimum"
    reference: ClassVar[Paper] = Paper(
        "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers",
        "Yonatan Geifman, Guy Uziel, Ran El-Yaniv", 2019, "ICLR", "1805.08206",
    )  # fmt: skip


@dataclass(frozen=True)
class AUGRC(_Failure):
    """Area under the generalised-risk-coverage curve as a metric plug-in; see `augrc`."""

    measure = "augrc"
    convention = "generalised risk; trapezoid from (0, 0)"
    reference: ClassVar[Paper] = Paper(
        "Overcoming Common Flaws in the Evaluation of Selective Classification Systems",
        "Jeremias Traub, Till J. Bungert, Carsten T. Luth, Michael Baumgartner, Klaus H. Maier-Hein, Lena Maier-Hein, "
        "Paul F. Jaeger",
        2024, "NeurIPS", "2407.01032",
    )  # fmt: skip


MEASURES: Final[Mapping[Measure, Callable[[Array, Array], float]]] = {"aurc": aurc, "eaurc": eaurc, "augrc": augrc}

"""How well scores separate in-distribution (ID) from out-of-distribution (OOD) examples.

Every function takes two arrays of scores, LARGER = MORE OOD, and treats ties exactly. Infinite scores rank as such;
a NaN has no rank, so any NaN is an error that counts them. Constant scores give an AUROC of 0.5.

FPR at a TPR has two conventions in the literature, which are not comparable:
    positive="ood"  share of ID examples flagged when at least `tpr` of the OOD ones are caught (OpenOOD v1.5)
    positive="id"   share of OOD examples accepted when at least `tpr` of the ID ones are (ODIN, OpenOOD v1.0)

The interval of an FPR at 95 % has no upper end (it is 1) with fewer than 72 positives: with chance .95^m all m of them
lie above the threshold that 95 % of their population exceed. The convention says so.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from testbed.errors import DataError, UsageError
from testbed.metrics import delong
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import clopper_pearson
from testbed.metrics.estimate import Estimate
from testbed.metrics.options import one_of
from testbed.parameters import Checked, PositiveShare
from testbed.types import Array, Float64

Positive = Literal["ood", "id"]
Area = Literal["average_precision", "trapezoid"]


def auroc(id_scores: Array, ood_scores: Array) -> float:
    """P(OOD score > ID score) + P(equal) / 2 (Mann-Whitney with mid-ranks), in [0, 1].

    id_scores, ood_scores  floats `[n]`, `[m]`, n, m >= 1, no NaN

    >>> auroc(np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.4]))
    0.9166666666666667
    """
    first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
    return delong.components(first, second).auroc


def fpr_at_tpr(id_scores: Array, ood_scores: Array, tpr: float = 0.95, positive: Positive = "ood") -> float:
    """False-positive rate at the first ROC point whose true-positive rate is at least `tpr`, in [0, 1].

    The threshold is the score of a positive example; examples that tie with it are flagged with it.

    positive  which side counts as positive, see the module; "ood" as OpenOOD v1.5

    >>> fpr_at_tpr(np.array([1.0, 2, 3, 4]), np.array([3.0, 5, 6, 7]), tpr=0.95)
    0.5
    >>> fpr_at_tpr(np.array([1.0, 2, 3, 4]), np.array([3.0, 5, 6, 7]), tpr=0.95, positive="id")
    0.25
    """
    hits, misses = _sides(checked(id_scores, "ID"), checked(ood_scores, "OOD"), positive)
    threshold = np.sort(hits)[len(hits) - hits_needed(len(hits), tpr)]
    return float(np.count_nonzero(misses >= threshold) / len(misses))


def aupr(id_scores: Array, ood_scores: Array, positive: Positive = "ood", area: Area = "average_precision") -> float:
    """Area under the precision-recall curve, in (0, 1]; its floor is the positives' share of all examples.

    positive  "ood" (AUPR-out) or "id" (AUPR-in)
    area      "average_precision": sum of recall steps times the precision at their end (scikit-learn);
              "trapezoid": linear between the points, from (recall 0, precision 1) (OpenOOD); the two differ

    >>> aupr(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.8333333333333333
    >>> aupr(np.array([1.0, 2.0]), np.array([2.0, 3.0]), area="trapezoid")
    0.9166666666666666
    """
    one_of(area, Area, "aupr: area")
    hits, misses = _sides(checked(id_scores, "ID"), checked(ood_scores, "OOD"), positive)
    thresholds = np.unique(hits)[::-1]
    found = len(hits) - np.searchsorted(np.sort(hits), thresholds, side="left")
    false = len(misses) - np.searchsorted(np.sort(misses), thresholds, side="left")
    if area == "average_precision":
        return min(1.0, float(np.diff(found / len(hits), prepend=0.0) @ (found / (found + false))))
    return _trapezoid(hits, misses)


def hits_needed(n: int, tpr: float) -> int:
    """The smallest count k in 1..n with k / n >= tpr.

    >>> hits_needed(20, 0.95), hits_needed(21, 0.95), hits_needed(1, 0.95)
    (19, 20, 1)
    """
    if not 0 < tpr <= 1:
        raise UsageError(f"tpr: expected a number in (0, 1], got {tpr!r}")
    k = math.ceil(tpr * n)
    return max(1, k - 1 if (k - 1) / n >= tpr else k)


def fpr_interval(
    id_scores: Array, ood_scores: Array, tpr: float = 0.95, positive: Positive = "ood", level: float = LEVEL
) -> tuple[float, float]:
    """An interval of the FPR at a TPR that knows both of its uncertainties; no random numbers.

    Of m positives Bin(m, 1 - tpr) lie below the threshold of the population. Were it j, that threshold would be above
    the j-th smallest positive (j = 0: unbounded) and at most the (j + 1)-th (j = m: unbounded), so that the share of
    negatives at or above these, each with Jeffreys' posterior, bounds the rate. The interval cuts the tails of the two
    mixtures over j. Its upper end is 1 where tpr^m exceeds half of what is left over: at 95 % for m < 72.

    >>> low, high = fpr_interval(np.arange(100.0), np.arange(50.0, 150.0))
    >>> round(low, 3), round(high, 3)
    (0.346, 0.571)
    """
    hits, misses = _sides(checked(id_scores, "ID"), checked(ood_scores, "OOD"), positive)
    m, tail = len(hits), (1 - level) / 2
    value = fpr_at_tpr(id_scores, ood_scores, tpr, positive)
    weights = _binomial_weights(m, 1 - tpr)
    j = np.flatnonzero(weights > 1e-12)
    ordered = np.concatenate([[-np.inf], np.sort(hits), [np.inf]])
    negatives = np.sort(misses)
    below = np.searchsorted(negatives, ordered, side="left")
    below[0], below[-1] = 0, len(misses)
    high = _mixture_quantile(len(misses) - below[j], len(misses), j == 0, weights[j], 1 - tail)
    low = _mixture_quantile(len(misses) - below[j + 1], len(misses), j == m, weights[j], tail, at=0.0)
    return min(low, value), max(high, value)


def least_positives(tpr: float = 0.95, level: float = LEVEL) -> int:
    """The fewest positives with which the FPR at a TPR has an upper end.

    >>> least_positives()
    72
    """
    return math.floor(math.log((1 - level) / 2) / math.log(tpr)) + 1 if tpr < 1 else sys.maxsize


def checked(scores: Array, side: str) -> Float64:
    """The scores as float64 `[n]`; DataError where there are none or some are NaN.

    >>> checked(np.array([0.0, np.nan]), "OOD")
    Traceback (most recent call last):
    testbed.errors.DataError: 1 of 2 OOD scores is NaN, which has no rank; find the inputs the detector fails on
    """
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(values) == 0:
        raise DataError(f"expected at least one {side} score, got none")
    bad = int(np.isnan(values).sum())
    if bad:
        verb = "is" if bad == 1 else "are"
        raise DataError(
            f"{bad} of {len(values)} {side} scores {verb} NaN, which has no rank; find the inputs the detector fails on"
        )
    return values + 0.0


def infinite(id_scores: Array, ood_scores: Array) -> str:
    """The words a convention gains where scores are infinite, empty where none is.

    >>> infinite(np.array([0.0, np.inf]), np.array([1.0]))
    '; infinite scores ranked: 1 of 2 ID, 0 of 1 OOD'
    """
    a, b = int(np.isinf(id_scores).sum()), int(np.isinf(ood_scores).sum())
    return (
        f"; infinite scores ranked: {a} of {np.size(id_scores)} ID, {b} of {np.size(ood_scores)} OOD" if a + b else ""
    )


@dataclass(frozen=True)
class AUROC(Checked):
    """AUROC of OOD against ID scores, with DeLong's interval or, on request, the bootstrap's.

    >>> print(AUROC()(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.4, 0.5, 0.6]), draws=None))
    0.875 [0.1164, 0.9968] (n=8; ood positive; ties half; delong-gamma 95%)
    """

    interval: Literal["delong", "bootstrap"] = "delong"

    needs = "scores"
    higher_is_better = True
    version: ClassVar[int] = 2

    def __call__(self, id_scores: Array, ood_scores: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]`, larger = more OOD -> the AUROC."""
        first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
        parts = delong.components(first, second)
        convention = "ood positive; ties half" + infinite(first, second)
        if self.interval == "bootstrap":
            return resampled(auroc, first, second, convention, draws)
        low, high = delong.interval(parts)
        return Estimate(parts.auroc, low, high, f"{convention}; delong-gamma {LEVEL:.0%}", len(first) + len(second))


@dataclass(frozen=True)
class FPRAtTPR(Checked):
    """FPR at a TPR (FPR95 by default) in the convention that `positive` names.

    >>> print(FPRAtTPR()(np.arange(100.0), np.arange(50.0, 150.0), draws=None))
    0.45 [0.3457, 0.571] (n=200; ood positive; fpr at tpr>=0.95; binomial-jeffreys 95%)
    """

    tpr: PositiveShare = 0.95
    positive: Literal["ood", "id"] = "ood"
    interval: Literal["analytic", "bootstrap"] = "analytic"

    needs = "scores"
    higher_is_better = False
    version: ClassVar[int] = 2

    def __call__(self, id_scores: Array, ood_scores: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]`, larger = more OOD -> the FPR."""
        first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
        convention = f"{self.positive} positive; fpr at tpr>={self.tpr:g}" + infinite(first, second)
        if self.interval == "bootstrap":
            return resampled(lambda a, b: fpr_at_tpr(a, b, self.tpr, self.positive), first, second, convention, draws)
        value = fpr_at_tpr(first, second, self.tpr, self.positive)
        low, high = fpr_interval(first, second, self.tpr, self.positive)
        positives, least = len(second) if self.positive == "ood" else len(first), least_positives(self.tpr)
        bound = f"; no upper bound with {positives} positives, {least} are needed" if positives < least else ""
        words = f"{convention}; binomial-jeffreys {LEVEL:.0%}{bound}"
        return Estimate(value, low, high, words, len(first) + len(second))


@dataclass(frozen=True)
class FPRAtTPRIDPositive(FPRAtTPR):
    """FPR at a TPR with ID as the positive class, so that a grid can show both conventions side by side.

    >>> FPRAtTPRIDPositive().positive
    'id'
    """

    positive: Literal["ood", "id"] = "id"


@dataclass(frozen=True)
class AUPROut(Checked):
    """AUPR with OOD as the positive class, as average precision or trapezoid.

    The analytic interval is the binomial one of Boyd, Eng & Page (2013), with the number of positives as n and Clopper
    and Pearson's exact ends for the area as a share: near 1 their logit scale gives half of [0, 1].

    >>> print(AUPROut()(np.arange(100.0), np.arange(50.0, 150.0), draws=None))
    0.8857 [0.8065, 0.9406] (n=200; ood positive, 50.0% of all; average precision; binomial of the positives 95%)
    """

    area: Literal["average_precision", "trapezoid"] = "average_precision"
    interval: Literal["analytic", "bootstrap"] = "analytic"

    needs = "scores"
    higher_is_better = True
    version: ClassVar[int] = 2
    positive: ClassVar[Positive] = "ood"

    def __call__(self, id_scores: Array, ood_scores: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]`, larger = more OOD -> the AUPR."""
        first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
        n, positives = len(first) + len(second), len(second) if self.positive == "ood" else len(first)
        words = f"{self.positive} positive, {positives / n:.1%} of all; {self.area.replace('_', ' ')}"
        words += infinite(first, second)
        if self.interval == "bootstrap":
            return resampled(lambda a, b: aupr(a, b, self.positive, self.area), first, second, words, draws)
        value = aupr(first, second, self.positive, self.area)
        low, high = clopper_pearson(value * positives, positives)
        return Estimate(value, low, high, f"{words}; binomial of the positives {LEVEL:.0%}", n)


@dataclass(frozen=True)
class AUPRIn(AUPROut):
    """AUPR with ID as the positive class; else as AUPROut."""

    positive: ClassVar[Positive] = "id"


def resampled(statistic: object, first: Float64, second: Float64, convention: str, draws: Draws | None) -> Estimate:
    """`statistic(id, ood)` with a percentile bootstrap interval: ID rows from `draws`, OOD rows from `draws.other`."""
    assert callable(statistic)
    if draws is None or draws.n != len(first):
        raise UsageError(f"a bootstrap interval needs draws of the {len(first)} ID examples, got {draws!r}")
    pairs = zip(draws.indices(), draws.other(len(second)).indices(), strict=True)
    replicates = np.array([statistic(first[a], second[b]) for a, b in pairs])
    estimate = draws.estimate(statistic(first, second), replicates, convention)
    return Estimate(estimate.value, estimate.low, estimate.high, estimate.convention, len(first) + len(second))


def _trapezoid(hits: Float64, misses: Float64) -> float:
    """Trapezoid over every distinct score of either side, highest first, from (0, 1)."""
    thresholds = np.unique(np.concatenate([hits, misses]))[::-1]
    found = len(hits) - np.searchsorted(np.sort(hits), thresholds, side="left")
    false = len(misses) - np.searchsorted(np.sort(misses), thresholds, side="left")
    recall = np.concatenate([[0.0], found / len(hits)])
    precision = np.concatenate([[1.0], found / (found + false)])
    return float(np.trapezoid(precision, recall))


def _sides(first: Float64, second: Float64, positive: Positive) -> tuple[Float64, Float64]:
    """(scores of the positive side, of the negative side), larger = more positive."""
    one_of(positive, Positive, "positive")
    return (second, first) if positive == "ood" else (-first, -second)


def _binomial_weights(m: int, chance: float) -> Float64:
    """P(Bin(m, chance) = j) for j = 0..m."""
    from scipy.special import gammaln, xlog1py, xlogy

    j = np.arange(m + 1)
    logs = gammaln(m + 1) - gammaln(j + 1) - gammaln(m - j + 1)
    return np.asarray(np.exp(logs + xlogy(j, chance) + xlog1py(m - j, -chance)))


def _mixture_quantile(counts: Array, n: int, points: Array, weights: Float64, q: float, at: float = 1.0) -> float:
    """The q-quantile, to 1e-9 or better, of a mixture of Jeffreys' posteriors of `counts` of `n`.

    points  which of them are instead the point `at`, 0 or 1
    """
    from scipy.special import betainc

    a, b = counts[~points] + 0.5, n - counts[~points] + 0.5
    held, loose = float(weights[points].sum()), weights[~points]
    if at == 1.0 and held >= 1 - q:
        return 1.0
    if at == 0.0 and held >= q:
        return 0.0
    before = 0.0 if at == 1.0 else held
    low, high = 0.0, 1.0
    for _ in range(34):
        middle = (low + high) / 2
        low, high = (middle, high) if before + float(loose @ betainc(a, b, middle)) < q else (low, middle)
    return (low + high) / 2

"""Where a score comes from: Brier's reliability and resolution, and the split into calibration and refinement.

Murphy (1973), class by class and summed: with base rate o, bins b of p_k holding n_b examples, means c_b and o_b,

    Brier = reliability - resolution + uncertainty + within
    reliability = sum n_b/n (c_b - o_b)^2     resolution = sum n_b/n (o_b - o)^2     uncertainty = o (1 - o)

`within` is what binning leaves over (variance of p in the bin minus twice its covariance with the outcome); it is
reported, not hidden, and the four add up exactly.

CORP (Dimitriadis, Gneiting & Jordan 2021) needs no bins: each class's best monotone recalibration (pool adjacent
violators) is fitted on the set itself; refinement is the Brier score after it, miscalibration the gain, never negative.

The fitted curve is better on its own set than the population's best curve is, and a curve fitted on other folds is
worse: so the mean loss after the first bounds refinement from below, that after the second from above, each by the
end of Hall's interval (`bounded`), and the other way round for miscalibration. Fold of example i is i mod 5.

`loss_split` does the same with any recalibration, cross-fitted, so that it can be negative out of sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np

from testbed.metrics import binning
from testbed.metrics.bootstrap import LEVEL, Draws, Interval
from testbed.metrics.bounded import skewed_mean_interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities
from testbed.metrics.options import one_of
from testbed.metrics.resampled import Analytic, Measured
from testbed.metrics.scores import brier, nll
from testbed.types import Float64, Ints, Paper

Loss = Literal["nll", "brier"]
Recalibrate = Callable[[Float64, Ints, Float64], Float64]


_FOLDS: Final = 5
#: -log .025: as many unseen examples as a sample without them leaves room for.
_THREE: Final = 3.6888794541139363
_CORP: Final = "CORP, monotone curve a class, sum over classes"


class BrierParts(NamedTuple):
    """Brier = reliability - resolution + uncertainty + within; small reliability and large resolution are good."""

    reliability: float
    resolution: float
    uncertainty: float
    within: float


class Split(NamedTuple):
    """loss = refinement + calibration."""

    refinement: float
    calibration: float


def brier_decomposition(p: Any, y: Any, bins: int = 15) -> BrierParts:
    """Murphy's parts of the Brier score (summed over classes), bins of equal width.

    >>> parts = brier_decomposition([[0.1, 0.9], [0.4, 0.6], [0.4, 0.6], [0.8, 0.2]], [1, 0, 1, 1], bins=5)
    >>> [round(part, 6) for part in parts]
    [0.335, 0.125, 0.375, 0.0]
    """
    probs, labels = probabilities(p, y, "brier_decomposition")
    parts = np.zeros(3)
    for k in range(probs.shape[1]):
        index = binning.equal_width(probs[:, k], bins, "netcal")
        hits = (labels == k).astype(np.float64)
        count = np.bincount(index)
        kept = count > 0
        share = count[kept] / len(labels)
        c, o = (np.bincount(index, v)[kept] / count[kept] for v in (probs[:, k], hits))
        base = hits.mean()
        parts += [float(share @ (c - o) ** 2), float(share @ (o - base) ** 2), base * (1 - base)]
    reliability, resolution, uncertainty = (float(part) for part in parts)
    return BrierParts(reliability, resolution, uncertainty, brier(p, y) - (reliability - resolution + uncertainty))


def brier_split(p: Any, y: Any) -> Split:
    """CORP's split of the Brier score: refinement after the best monotone curve of each class, and the gain.

    >>> [round(part, 6) for part in brier_split([[0.2, 0.8], [0.2, 0.8], [0.7, 0.3], [0.7, 0.3]], [1, 1, 0, 1])]
    [0.25, 0.08]
    """
    probs, labels = probabilities(p, y, "brier_split")
    refined = sum(float(_pooled(probs[:, k], labels == k).mean()) for k in range(probs.shape[1]))
    return Split(refined, brier(p, y) - refined)


def loss_split(p: Any, y: Any, recalibrate: Recalibrate, loss: Loss = "nll", folds: int = 5) -> Split:
    """Refinement = loss of cross-fitted `recalibrate(fit_p, fit_y, p)`; calibration = the loss minus that.

    Example i is in fold i mod `folds`. Out of sample, so calibration can come out below 0.

    >>> p = np.array([[0.1, 0.9], [0.9, 0.1]] * 10)
    >>> loss_split(p, [1, 0] * 10, lambda fit_p, fit_y, q: q).calibration
    0.0
    """
    one_of(loss, Loss, "loss_split: loss")
    probs, labels = probabilities(p, y, "loss_split")
    after = np.empty_like(probs)
    fold = np.arange(len(labels)) % folds
    for held in range(folds):
        after[fold == held] = recalibrate(probs[fold != held], labels[fold != held], probs[fold == held])
    score = nll if loss == "nll" else brier
    refined = score(after, labels)
    return Split(refined, score(probs, labels) - refined)


@dataclass(frozen=True)
class BrierRefinement(Analytic):
    """Brier score after CORP's recalibration; the curves of the whole set are kept for the resamples."""

    reference: ClassVar[Paper] = Paper(
        "Stable Reliability Diagrams for Probabilistic Classifiers",
        "Dimitriadis, Gneiting and Jordan", 2021, "PNAS", "2008.03033",
    )  # fmt: skip

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "brier_refinement")
        losses = sum(_pooled(p[:, k], y == k) for k in range(p.shape[1]))
        return Measured(float(np.mean(losses)), draws.means(losses), _CORP)

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "brier_refinement")
        own, held = _refined(p, y)
        low, high = _between(own, held, 2.0)
        return Estimate(float(own.mean()), low, high, f"{_CORP}; cross-fitted {LEVEL:.0%}", len(y))


@dataclass(frozen=True)
class BrierCalibration(Analytic):
    """Brier score lost to miscalibration, CORP; the curves of the whole set are kept for the resamples."""

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = BrierRefinement.reference

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "brier_calibration")
        gain = sum((p[:, k] - (y == k)) ** 2 - _pooled(p[:, k], y == k) for k in range(p.shape[1]))
        return Measured(float(np.mean(gain)), draws.means(gain), _CORP)

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "brier_calibration")
        plain = ((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1)
        own, held = (plain - losses for losses in _refined(p, y))
        low, high = _between(held, own, 2.0)
        value = float(own.mean())
        return Estimate(value, max(0.0, min(low, value)), high, f"{_CORP}; cross-fitted {LEVEL:.0%}", len(y))


def _pooled(scores: Float64, hits: Any) -> Float64:
    """Squared error of each example after the best monotone curve of its score."""
    targets = hits.astype(np.float64)
    return np.asarray((_curve(scores, targets, scores) - targets) ** 2)


def _curve(scores: Float64, targets: Float64, at: Float64) -> Float64:
    """The best monotone curve of `targets` over `scores`, at other scores; flat beyond its ends and between points."""
    from scipy.optimize import isotonic_regression

    known, inverse, count = np.unique(scores, return_inverse=True, return_counts=True)
    curve = isotonic_regression(np.bincount(inverse, targets) / count, weights=count.astype(np.float64)).x
    return np.asarray(curve[np.maximum(np.searchsorted(known, at, side="right") - 1, 0)])


def _refined(p: Float64, y: Ints) -> tuple[Float64, Float64]:
    """Squared error `[n]`, summed over classes, after the curves of the whole set, and after those of other folds."""
    n = len(y)
    own, held, fold = np.zeros(n), np.zeros(n), np.arange(n) % _FOLDS
    for k in range(p.shape[1]):
        targets = (y == k).astype(np.float64)
        own += _pooled(p[:, k], targets)
        for one in np.unique(fold).tolist() if n > 1 else []:
            out = fold == one
            held[out] += (_curve(p[~out, k], targets[~out], p[out, k]) - targets[out]) ** 2
    return own, held if n > 1 else np.full(n, 2.0)


def _between(lower: Float64, upper: Float64, worst: float) -> tuple[float, float]:
    """Lower end of the mean of `lower`, upper end of that of `upper`; with a rule of three for 0 and for `worst`."""
    n = len(lower)
    low = min(skewed_mean_interval(lower)[0], float(lower.sum()) / (n + _THREE))
    high = max(skewed_mean_interval(upper)[1], (float(upper.sum()) + _THREE * worst) / (n + _THREE))
    return max(0.0, min(low, float(lower.mean()))), min(worst, high)

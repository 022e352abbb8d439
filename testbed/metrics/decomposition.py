"""Where a score comes from: Brier's reliability and resolution, and the split into calibration and refinement.

Murphy (1973), class by class and summed: with base rate o, bins b of p_k holding n_b examples, means c_b and o_b,

    Brier = reliability - resolution + uncertainty + within
    reliability = sum n_b/n (c_b - o_b)^2     resolution = sum n_b/n (o_b - o)^2     uncertainty = o (1 - o)

`within` is what binning leaves over (variance of p in the bin minus twice its covariance with the outcome); it is
reported, not hidden, and the four add up exactly.

CORP (Dimitriadis, Gneiting & Jordan 2021) needs no bins: each class's best monotone recalibration (pool adjacent
violators) is fitted on the set itself; refinement is the Brier score after it, miscalibration the gain, never negative.

`loss_split` does the same with any recalibration, cross-fitted, so that it can be negative out of sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from testbed.metrics import binning
from testbed.metrics.bootstrap import Draws, Interval
from testbed.metrics.inputs import probabilities
from testbed.metrics.resampled import Measured, ProbabilityMetric
from testbed.metrics.scores import brier, nll
from testbed.types import Float64, Ints, Paper

Recalibrate = Callable[[Float64, Ints, Float64], Float64]


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


def loss_split(
    p: Any, y: Any, recalibrate: Recalibrate, loss: Literal["nll", "brier"] = "nll", folds: int = 5
) -> Split:
    """Refinement = loss of cross-fitted `recalibrate(fit_p, fit_y, p)`; calibration = the loss minus that.

    Example i is in fold i mod `folds`. Out of sample, so calibration can come out below 0.

    >>> p = np.array([[0.1, 0.9], [0.9, 0.1]] * 10)
    >>> loss_split(p, [1, 0] * 10, lambda fit_p, fit_y, q: q).calibration
    0.0
    """
    probs, labels = probabilities(p, y, "loss_split")
    after = np.empty_like(probs)
    fold = np.arange(len(labels)) % folds
    for held in range(folds):
        after[fold == held] = recalibrate(probs[fold != held], labels[fold != held], probs[fold == held])
    score = nll if loss == "nll" else brier
    refined = score(after, labels)
    return Split(refined, score(probs, labels) - refined)


@dataclass(frozen=True)
class BrierRefinement(ProbabilityMetric):
    """Brier score after CORP's recalibration; the curves of the whole set are kept for the resamples."""

    reference: ClassVar[Paper] = Paper(
        "Stable Reliability Diagrams for Probabilistic Classifiers",
        "Dimitriadis, Gneiting and Jordan", 2021, "PNAS", "2008.03033",
    )  # fmt: skip

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "brier_refinement")
        losses = sum(_pooled(p[:, k], y == k) for k in range(p.shape[1]))
        return Measured(float(np.mean(losses)), draws.means(losses), "CORP, monotone curve a class, sum over classes")


@dataclass(frozen=True)
class BrierCalibration(ProbabilityMetric):
    """Brier score lost to miscalibration, CORP; the curves of the whole set are kept for the resamples."""

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = BrierRefinement.reference

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        p, y = probabilities(probs, labels, "brier_calibration")
        gain = sum((p[:, k] - (y == k)) ** 2 - _pooled(p[:, k], y == k) for k in range(p.shape[1]))
        return Measured(float(np.mean(gain)), draws.means(gain), "CORP, monotone curve a class, sum over classes")


def _pooled(scores: Float64, hits: Any) -> Float64:
    """Squared error of each example after the best monotone curve of its score."""
    from scipy.optimize import isotonic_regression

    targets = hits.astype(np.float64)
    _, inverse, count = np.unique(scores, return_inverse=True, return_counts=True)
    curve = isotonic_regression(np.bincount(inverse, targets) / count, weights=count.astype(np.float64)).x
    return np.asarray((curve[inverse] - targets) ** 2)

"""Measures beside AUROC: thresholds that must be chosen, open-set accuracy, failures of both kinds, means over sets.

Scores are LARGER = MORE OOD, ties count one half, a NaN is an error (see `testbed.metrics.ood`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from testbed.errors import DataError
from testbed.metrics import delong
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import gamma_interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.ood import checked, infinite, resampled
from testbed.parameters import Checked
from testbed.types import Array, Paper


def detection_error(id_scores: Array, ood_scores: Array) -> float:
    """min over thresholds of (FPR + FNR) / 2, in [0, 1/2]: the error with ID and OOD equally likely.

    >>> detection_error(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.5, 5.0, 6.0, 7.0]))
    0.125
    """
    first, second = np.sort(checked(id_scores, "ID")), np.sort(checked(ood_scores, "OOD"))
    thresholds = np.unique(np.concatenate([first, second, [np.inf]]))
    false = 1.0 - np.searchsorted(first, thresholds, side="left") / len(first)
    missed = np.searchsorted(second, thresholds, side="left") / len(second)
    return float(min(0.5, ((false + missed) / 2).min()))


def autc(id_scores: Array, ood_scores: Array) -> float:
    """Area under the threshold curve (Humblot-Renaux et al. 2023), in [0, 1], smaller is better.

    Scores are scaled to [0, 1] by the smallest and largest of both sets; (area under FPR(t) + area under FNR(t)) / 2
    over t in [0, 1] is then (mean ID score + 1 - mean OOD score) / 2. It rewards a wide gap, not only a right order.
    Constant scores give 1/2. Infinite scores leave it undefined and are an error.

    >>> autc(np.array([0.0, 1.0]), np.array([3.0, 4.0]))
    0.125
    """
    first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
    whole = np.concatenate([first, second])
    if np.isinf(whole).any():
        raise DataError(f"AUTC is not defined with infinite scores: {infinite(first, second).removeprefix('; ')}")
    span = float(whole.max() - whole.min())
    return 0.5 if span == 0 else 0.5 * (1.0 + float(first.mean() - second.mean()) / span)


def oscr(id_scores: Array, ood_scores: Array, correct: Array) -> float:
    """Open-set classification rate: area under correct classification rate against OOD false positives, in [0, 1].

    correct  bool `[n]`, whether each ID example is classified correctly. Equals the mean over ID examples of
    correct_i P(OOD score > its score), so it is at most the accuracy (Dhamija, Guenther & Boult, NeurIPS 2018).

    >>> oscr(np.array([0.1, 0.2]), np.array([0.3, 0.15]), np.array([True, False]))
    0.5
    """
    right = np.asarray(correct, dtype=np.float64).reshape(-1)
    parts = delong.components(checked(id_scores, "ID"), checked(ood_scores, "OOD"))
    if right.shape != parts.id.shape:
        raise DataError(f"oscr: expected one `correct` an ID score ({len(parts.id)}), got {right.shape}")
    return float((right * parts.id).mean())


class Failures(NamedTuple):
    """What the failure measures take: `confidence` float64 `[n]`, larger = more certain, and `correct` bool `[n]`."""

    confidence: Array
    correct: Array


def failure_view(id_scores: Array, correct: Array, ood_scores: Array) -> Failures:
    """ID and OOD examples in one: wrong predictions AND all OOD examples are failures (FD-Shifts, ICLR 2023).

    Feed the result to `aurc`, `eaurc`, `augrc`.

    >>> view = failure_view(np.array([0.1, 0.2]), np.array([True, False]), np.array([0.9]))
    >>> view.correct.tolist(), view.confidence.tolist()
    ([True, False, False], [-0.1, -0.2, -0.9])
    """
    first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
    right = np.asarray(correct, dtype=bool).reshape(-1)
    if right.shape != first.shape:
        raise DataError(f"failure_view: expected one `correct` an ID score ({len(first)}), got {right.shape}")
    return Failures(-np.concatenate([first, second]), np.concatenate([right, np.zeros(len(second), dtype=bool)]))


def mean_auroc(id_scores: Array, ood_scores: Mapping[str, Array]) -> Estimate:
    """Unweighted mean AUROC over several OOD sets against one ID set, as OpenOOD forms its near and far numbers.

    The interval is that of `testbed.metrics.pooled`: it knows that the sets share the ID examples.

    >>> print(mean_auroc(np.arange(100.0), {"a": np.arange(50.0, 150.0), "b": np.arange(80.0, 180.0)}))
    0.9275 [0.8925, 0.951] (n=300; mean over a, b; ood positive; ties half; delong-gamma 95%)
    """
    from testbed.metrics.pooled import pooled_auroc

    if not ood_scores:
        raise DataError("mean_auroc: expected at least one OOD set, got none")
    first = checked(id_scores, "ID")
    outside = [checked(scores, f"OOD ({name})") for name, scores in ood_scores.items()]
    found = pooled_auroc([(first, np.arange(len(first)))], outside)
    named = found.convention.split("; ", 1)[1] if len(outside) > 1 else found.convention
    return replace(found, convention=f"mean over {', '.join(ood_scores)}; {named}")


class Spread(NamedTuple):
    """Mean over training seeds, their sample standard deviation (n - 1; NaN for one), and how many."""

    mean: float
    std: float
    seeds: int


def over_seeds(values: Array) -> Spread:
    """Mean and spread of one number over training seeds.

    >>> over_seeds(np.array([0.90, 0.92, 0.94]))
    Spread(mean=0.92, std=0.019999999999999962, seeds=3)
    """
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(numbers) == 0 or np.isnan(numbers).any():
        raise DataError(f"over_seeds: expected one number a seed without NaN, got {numbers.tolist()}")
    std = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return Spread(round(float(numbers.mean()), 15), std, len(numbers))


@dataclass(frozen=True)
class DetectionError(Checked):
    """Detection error as a metric plug-in; the threshold is chosen on the scored sets, so it is a lower bound.

    >>> print(DetectionError()(np.arange(4.0), np.arange(10.0, 14.0), draws=None))
    0 no interval (n=8; min over thresholds of (fpr + fnr) / 2; best threshold of these sets)
    """

    interval: Literal["none", "bootstrap"] = "none"

    needs = "scores"
    higher_is_better = False
    version: ClassVar[int] = 1

    def __call__(self, id_scores: Array, ood_scores: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]`, larger = more OOD -> the error."""
        first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
        words = "min over thresholds of (fpr + fnr) / 2; best threshold of these sets" + infinite(first, second)
        if self.interval == "bootstrap":
            return resampled(detection_error, first, second, words, draws)
        return Estimate(detection_error(first, second), math.nan, math.nan, words, len(first) + len(second))


@dataclass(frozen=True)
class AUTC(Checked):
    """Area under the threshold curve as a metric plug-in.

    The interval takes the scale (min, max) as given: it covers the area on the scale of these sets, not that of larger
    ones, whose extremes lie further out.

    >>> AUTC()(np.array([0.0, 1.0]), np.array([3.0, 4.0]), draws=None).value
    0.125
    """

    needs = "scores"
    higher_is_better = False
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = Paper(
        "Beyond AUROC & Co. for Evaluating Out-of-Distribution Detection Performance",
        "Galadrielle Humblot-Renaux, Sergio Escalera, Thomas B. Moeslund", 2023, "CVPR Workshops", "2306.14658",
    )  # fmt: skip

    def __call__(self, id_scores: Array, ood_scores: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]`, larger = more OOD -> the area."""
        first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
        value = autc(first, second)
        span = float(max(first.max(), second.max()) - min(first.min(), second.min()))
        spread = (_variance_of_mean(first) + _variance_of_mean(second)) / (4 * span**2) if span else 0.0
        one = 0.5 / min(len(first), len(second))
        low, high = gamma_interval(value, spread, one, one * one)
        words = f"scores scaled by min and max of both sets, taken as given; gamma {LEVEL:.0%}"
        return Estimate(value, low, high, words, len(first) + len(second))


def _variance_of_mean(values: Array) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.nan

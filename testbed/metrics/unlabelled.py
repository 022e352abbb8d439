"""Accuracy without labels: estimates for a target set from labelled source predictions.

    AC   mean confidence on the target                                          (Hendrycks & Gimpel 2017)
    DoC  source accuracy minus the fall of mean confidence                      (Guillory et al. 2021)
    ATC  share of target scores above the threshold that as large a share of source scores exceeds as is right there
         (Garg et al. 2022); the score is the largest probability or the negative entropy
    GDE  share of examples on which two independently trained models agree      (Jiang et al. 2022)

All rest on assumptions that concept change breaks without a trace in the unlabelled data, so an estimate is only as
good as its error on conditions that do have labels: `failed` says where it was further off than sampling explains.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bounded import clopper_pearson
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.options import one_of
from testbed.types import Float64

Score = Literal["max", "entropy"]


def average_confidence(target: Any) -> float:
    """AC: mean largest probability of `target` `[m, k]`.

    >>> average_confidence([[0.1, 0.9], [0.3, 0.7]])
    0.8
    """
    return float(_rows(target).max(axis=1).mean())


def difference_of_confidences(source: Any, labels: Any, target: Any) -> float:
    """DoC: source accuracy - (mean source confidence - mean target confidence), cut to [0, 1].

    >>> difference_of_confidences([[0.1, 0.9], [0.2, 0.8]], [1, 0], [[0.3, 0.7]]).__round__(6)
    0.35
    """
    confidence, correct = top_label(*probabilities(source, labels, "difference_of_confidences"))
    return float(np.clip(correct.mean() - confidence.mean() + average_confidence(target), 0.0, 1.0))


def average_thresholded_confidence(source: Any, labels: Any, target: Any, score: Score = "max") -> float:
    """ATC: share of target scores at or above the source quantile at the source error rate.

    >>> source = [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]
    >>> average_thresholded_confidence(source, [1, 1, 1, 0], [[0.35, 0.65], [0.05, 0.95]])
    0.5
    """
    p, y = probabilities(source, labels, "average_thresholded_confidence")
    _, correct = top_label(p, y)
    ordered = np.sort(scores(p, score))
    wrong = round(float((1 - correct).sum()))
    if wrong == len(ordered):
        return 0.0
    return float((scores(_rows(target), score) >= ordered[wrong]).mean())


def disagreement_accuracy(first: Any, second: Any) -> float:
    """GDE: share of examples on which two models' predicted classes `[m]` agree.

    >>> disagreement_accuracy([0, 1, 1], [0, 1, 0]).__round__(6)
    0.666667
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise DataError(
            f"disagreement_accuracy: expected two predictions of one shape [m], got {a.shape} and {b.shape}"
        )
    return float((a == b).mean())


def failed(estimate: float, correct: int, n: int, tolerance: float = 0.05) -> bool:
    """Whether an estimate is more than `tolerance` outside the 95 % interval of the accuracy really measured.

    >>> failed(0.54, correct=359, n=1000), failed(0.39, correct=359, n=1000)
    (True, False)
    """
    low, high = clopper_pearson(correct, n)
    return bool(estimate < low - tolerance or estimate > high + tolerance)


def _rows(p: Any) -> Float64:
    rows = np.asarray(p, dtype=np.float64)
    return probabilities(rows, np.zeros(len(rows), dtype=np.int64), "accuracy estimation")[0]


def scores(p: Float64, score: Score) -> Float64:
    """ATC's score of each row, larger = more certain: the largest probability or the negative entropy in nats.

    >>> scores(np.array([[0.5, 0.5]]), "max").tolist(), scores(np.array([[0.5, 0.5]]), "entropy").round(6).tolist()
    ([0.5], [-0.693147])
    """
    one_of(score, Score, "atc: score")
    if score == "max":
        return np.asarray(p.max(axis=1))
    return np.asarray((p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=1))

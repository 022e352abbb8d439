"""What the metrics of probabilities accept, checked once and said in one place."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from testbed.errors import DataError
from testbed.types import Float64, Ints

_TOLERANCE: Final = 1e-3


def probabilities(probs: Any, labels: Any, metric: str) -> tuple[Float64, Ints]:
    """`probs` as float64 `[n, k]` and `labels` as int64 `[n]`, or a DataError that says what is wrong with them.

    Rows must be finite, non-negative and sum to 1 within 1e-3 (float16 softmax is let through); they are not
    renormalised. n >= 1, k >= 2, labels in 0..k-1.

    >>> probabilities([[0.25, 0.75]], [1], "nll")
    (array([[0.25, 0.75]]), array([1]))
    """
    p = np.asarray(probs, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2 or len(p) == 0:
        raise DataError(f"{metric}: expected probabilities of shape [n, k] with n >= 1 and k >= 2, got {p.shape}")
    if not np.isfinite(p).all():
        row = int(np.flatnonzero(~np.isfinite(p).all(axis=1))[0])
        raise DataError(f"{metric}: probabilities must be finite; row {row} is {p[row][:6]}")
    wrong = np.abs(p.sum(axis=1) - 1)
    if p.min() < 0 or wrong.max() > _TOLERANCE:
        row = int(np.argmax(np.where(p.min(axis=1) < 0, np.inf, wrong)))
        raise DataError(
            f"{metric}: rows must be non-negative and sum to 1; row {row} is {p[row][:6]}, sum {p[row].sum():.6g}: "
            "are they logits? pass them through a calibrator ('none' is the softmax) first"
        )
    return p, label_vector(labels, len(p), p.shape[1], metric)


def label_vector(labels: Any, n: int, classes: int, metric: str) -> Ints:
    """`labels` as int64 `[n]`, each in 0..classes-1."""
    y = np.asarray(labels)
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{metric}: expected integer labels of shape [{n}], got {y.dtype} {y.shape}")
    if y.min() < 0 or y.max() >= classes:
        raise DataError(f"{metric}: labels must lie in 0..{classes - 1}, got {y.min()}..{y.max()}")
    return y.astype(np.int64)


def top_label(p: Float64, y: Ints) -> tuple[Float64, Float64]:
    """Confidence max p and correctness 0.0/1.0, float64 `[n]` each; the first of tied classes is the prediction.

    >>> [part.tolist() for part in top_label(np.array([[0.4, 0.6], [0.5, 0.5]]), np.array([1, 1]))]
    [[0.6, 0.5], [1.0, 0.0]]
    """
    best = p.argmax(axis=1)
    return p[np.arange(len(p)), best], (best == y).astype(np.float64)


def confidence(confidences: Any, correct: Any, metric: str) -> tuple[Float64, Float64]:
    """Confidences float64 `[n]` (any real numbers, larger = surer) and correctness as 0.0/1.0 `[n]`."""
    c, r = np.asarray(confidences, dtype=np.float64), np.asarray(correct)
    if c.ndim != 1 or r.shape != c.shape or len(c) == 0:
        raise DataError(
            f"{metric}: expected confidences and correctness of one shape [n], n >= 1, got {c.shape} and {r.shape}"
        )
    if np.isnan(c).any() or not np.isin(r, (0, 1)).all():
        raise DataError(f"{metric}: confidences must not be NaN and correctness must be 0/1 or boolean")
    return c, r.astype(np.float64)

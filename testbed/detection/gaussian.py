"""The shared algebra of the Gaussian detectors: pooled covariances and squared Mahalanobis distances in float64.

A covariance is never inverted as such. It is eigen-decomposed; directions whose variance is at most `rcond` times the
largest carry no information on the training set and are left out (the pseudo-inverse), and a warning says how many.
Trade-off: a test example that moves only along a left-out direction is not seen to move.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from testbed.detection.base import caution
from testbed.errors import DataError
from testbed.types import Array, Float64


class Whitening(NamedTuple):
    """`matrix` float64 `[d r]`, matrix @ matrix.T = pseudo-inverse of the covariance; `log_det` over r directions."""

    matrix: Float64
    log_det: float


def whiten(covariance: Float64, rcond: float, name: str) -> Whitening:
    """The whitening of a symmetric positive semi-definite covariance `[d d]`.

    >>> round(whiten(np.diag([4.0, 1.0]), 1e-10, "example").log_det, 6)
    1.386294
    """
    values, vectors = np.linalg.eigh(covariance)
    if not values[-1] > 0:
        raise DataError(f"{name}: the features have no variance within the classes, so there is no distance to measure")
    kept = values > rcond * values[-1]
    if not kept.all():
        caution(
            f"{name}: singular covariance (rcond {rcond:g}): {int((~kept).sum())} of {len(kept)} directions left out"
        )
    return Whitening(vectors[:, kept] / np.sqrt(values[kept]), float(np.log(values[kept]).sum()))


def squared_distances(features: Array, means: Float64, whitening: Float64, block: int = 8192) -> Float64:
    """(z - mu_c)' P (z - mu_c) for each row and mean: float64 `[n c]`, P = whitening @ whitening.T.

    Rows and means are centred on the grand mean first, so that the expansion into squares loses no digits to an offset.

    >>> squared_distances(np.array([[3.0]]), np.array([[1.0], [3.0]]), np.array([[0.5]])).tolist()
    [[1.0, 0.0]]
    """
    centre = means.mean(axis=0)
    anchors = (means - centre) @ whitening
    out = np.empty((len(features), len(means)))
    for start in range(0, len(features), block):
        rows = (features[start : start + block].astype(np.float64) - centre) @ whitening
        squares = np.einsum("nd,nd->n", rows, rows)[:, None] + np.einsum("cd,cd->c", anchors, anchors)
        out[start : start + block] = squares - 2.0 * (rows @ anchors.T)
    return np.maximum(out, 0.0, out=out)


def within_covariance(features: Float64, means: Float64, index: Array) -> Float64:
    """The covariance shared by all classes, float64 `[d d]`, divided by n; `index` picks each row's mean."""
    centred = features - means[index]
    covariance: Float64 = centred.T @ centred / len(features)
    return covariance

"""Float64 pieces that several detectors share: log-sum-exp, softmax, unit rows, class means.

Nothing here clips or squashes; where a textbook form loses digits near 0 or 1, the exact complement is computed.
"""

from __future__ import annotations

import numpy as np

from testbed.types import Array, Float64, Ints


def float64(values: Array) -> Float64:
    """The same values as a C-ordered float64 array."""
    return np.ascontiguousarray(values, dtype=np.float64)


def logsumexp(logits: Array) -> Float64:
    """log sum_c exp(f_c) over the last axis, float64.

    >>> round(float(logsumexp(np.array([[0.0, 0.0]]))[0]), 6)
    0.693147
    """
    f = float64(logits)
    top = f.max(axis=-1)
    total: Float64 = top + np.log(np.exp(f - top[..., None]).sum(axis=-1))
    return total


def log_softmax(logits: Array) -> Float64:
    """log p_c `[n k]`, float64."""
    f = float64(logits)
    values: Float64 = f - logsumexp(f)[..., None]
    return values


def softmax(logits: Array) -> Float64:
    """p_c `[n k]`, float64, rows sum to 1."""
    return np.exp(log_softmax(logits))


def complement_of_max(logits: Array) -> Float64:
    """1 - max_c p_c `[n]`, as the sum of the other probabilities: keeps its digits where max p rounds to 1.

    >>> float(complement_of_max(np.array([[50.0, 0.0]]))[0]) > 0
    True
    """
    f = np.sort(float64(logits), axis=-1)
    rest = np.exp(f[..., :-1] - f[..., -1:]).sum(axis=-1)
    share: Float64 = rest / (1.0 + rest)
    return share


def unit_rows(features: Array) -> Float64:
    """Rows divided by their Euclidean norm, float64; a row of zeros stays zero.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    z = float64(features)
    norms = np.sqrt(np.einsum("nd,nd->n", z, z))
    return z / np.where(norms > 0, norms, 1.0)[:, None]


def class_means(values: Array, labels: Ints) -> tuple[Ints, Float64]:
    """Classes that occur, ascending, and the mean row of each: int64 `[c]`, float64 `[c d]`.

    >>> present, means = class_means(np.array([[1.0], [3.0], [5.0]]), np.array([2, 2, 0]))
    >>> present.tolist(), means.tolist()
    ([0, 2], [[5.0], [2.0]])
    """
    order = np.argsort(labels, kind="stable")
    present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    totals = np.add.reduceat(float64(values)[order], starts, axis=0)
    return present.astype(np.int64), totals / counts[:, None]

"""Kernel calibration errors: SKCE with its test, and the canonical calibration error by Dirichlet kernels.

SKCE (Widmann, Lindsten & Zachariah 2019, "Calibration tests in multi-class classification"), the unbiased estimate

    2 / n(n-1) sum_{i<j} (e_{y_i} - p_i)' (e_{y_j} - p_j) k(p_i, p_j),    k(p, q) = exp(-|p - q|_1 / (2 nu)),

nu the median |p - q|_1 unless given; it is 0 in expectation under full (canonical) calibration and may come out
negative. Its test multiplies the terms by random signs (a wild bootstrap of the degenerate U-statistic).

Canonical error (Popordanoska, Sayer & Blaschko 2022): mean over i of |E[e_y | p_i] - p_i|_1^q, the expectation a
leave-one-out average of labels with Dirichlet kernels of bandwidth h centred at the other predictions. h is chosen by
leave-one-out likelihood unless given. Both compare all pairs: O(n^2 k), sets above `LARGEST` are refused.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from testbed.errors import DataError
from testbed.metrics.cumulative import Outcome
from testbed.metrics.inputs import probabilities
from testbed.types import Float64, Ints

LARGEST: Final = 5_000
BANDWIDTHS: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


def skce(p: Any, y: Any, nu: float | None = None) -> float:
    """Unbiased squared kernel calibration error of probabilities `[n, k]` against labels `[n]`.

    >>> skce([[0.5, 0.5], [0.5, 0.5]], [0, 1], nu=1.0)
    -0.5
    """
    terms = skce_terms(*probabilities(p, y, "skce"), nu)
    n = len(terms)
    return float(terms.sum() / (n * (n - 1)))


def skce_test(p: Any, y: Any, nu: float | None = None, signs: int = 500, seed: int = 0) -> Outcome:
    """SKCE and its p-value: the share of sign-flipped statistics as large, each drawn from (seed, signs) alone.

    >>> rng = np.random.default_rng(0)
    >>> skce_test([[0.1, 0.9]] * 50, rng.integers(0, 2, 50)).p_value < 0.05
    True
    """
    terms = skce_terms(*probabilities(p, y, "skce_test"), nu)
    n = len(terms)
    value = float(terms.sum() / (n * (n - 1)))
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(signs, n))
    null = np.einsum("sn,sn->s", flips @ terms, flips) / (n * (n - 1))
    return Outcome(value, float((1 + (null >= value).sum()) / (signs + 1)))


def canonical_ece(p: Any, y: Any, bandwidth: float | None = None, power: int = 1) -> float:
    """Canonical (all-class) calibration error, mean |E[e_y | p] - p|_1 for power 1, squared l2 for power 2.

    >>> canonical_ece([[0.5, 0.5]] * 4, [0, 1, 0, 1], bandwidth=0.1).__round__(6)
    0.333333
    """
    probs, labels = probabilities(p, y, "canonical_ece")
    _check_size(len(probs), "canonical_ece")
    logs = np.log(np.clip(probs, 1e-10, 1.0))
    h = _best_bandwidth(probs, logs) if bandwidth is None else bandwidth
    weights = _log_kernels(probs, logs, h)
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    expected = weights @ np.eye(probs.shape[1])[labels] / weights.sum(axis=1, keepdims=True)
    gap = np.abs(expected - probs)
    return float((gap.sum(axis=1) if power == 1 else (gap * gap).sum(axis=1)).mean())


def _check_size(n: int, metric: str) -> None:
    if not 2 <= n <= LARGEST:
        raise DataError(
            f"{metric} compares all pairs and takes 2 to {LARGEST} examples, got {n}: score a random subset"
        )


def skce_terms(p: Float64, y: Ints, nu: float | None) -> Float64:
    """The symmetric matrix of SKCE's terms, 0 on the diagonal, float64 `[n, n]`."""
    _check_size(len(p), "skce")
    distance = np.zeros((len(p), len(p)))
    for column in p.T:
        distance += np.abs(column[:, None] - column)
    pairs = distance[np.triu_indices(len(p), 1)]
    width = float(np.median(pairs)) if nu is None else nu
    residual = -p.copy()
    residual[np.arange(len(p)), y] += 1
    kernel = np.exp(-distance / (2 * width)) if width > 0 else np.ones_like(distance)
    terms = kernel * (residual @ residual.T)
    np.fill_diagonal(terms, 0.0)
    return np.asarray(terms)


def _log_kernels(p: Float64, logs: Float64, h: float) -> Float64:
    """log Dirichlet density at row i with centre j, concentration p_j / h + 1; -inf on the diagonal."""
    from scipy.special import gammaln

    alpha = p / h
    constant = gammaln(alpha.sum(axis=1) + p.shape[1]) - gammaln(alpha + 1).sum(axis=1)
    table = logs @ alpha.T + constant
    np.fill_diagonal(table, -np.inf)
    return np.asarray(table)


def _best_bandwidth(p: Float64, logs: Float64) -> float:
    """The bandwidth with the largest mean leave-one-out log density."""
    from scipy.special import logsumexp

    return max(BANDWIDTHS, key=lambda h: float(logsumexp(_log_kernels(p, logs, h), axis=1).mean()))

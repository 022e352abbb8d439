"""Choosing a model: who is not beaten in everything, and how surely the best under given weights is the best.

`pareto` marks the rows no other row matches or beats in all columns and beats in one. The utility of a candidate is the
weighted sum of its columns, each scaled by its range over the candidates (as measured, kept for all resamples).
`may_be_best` is the set that holds the best one, which leads; `probability_best` a shrunk chance of each, which comes
second. Candidates that are equal in all weighted columns are one (`equals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.types import Array, Float64, Ints


def pareto(values: Any, higher_is_better: Sequence[bool]) -> Array:
    """bool `[m]`: candidates `[m, c]` that no other one dominates.

    >>> pareto([[0.9, 0.1], [0.8, 0.2], [0.7, 0.05]], [True, False]).tolist()
    [True, False, True]
    """
    table = _oriented(values, higher_is_better)
    at_least = (table[:, None] >= table[None]).all(axis=2)
    above = (table[:, None] > table[None]).any(axis=2)
    return np.asarray(~(at_least & above).any(axis=0))


def utility(values: Any, higher_is_better: Sequence[bool], weights: Sequence[float]) -> Float64:
    """Weighted sum `[m]` of columns scaled to 0 (worst candidate) .. 1 (best); a column without range counts 0.

    >>> utility([[0.9, 0.1], [0.8, 0.05]], [True, False], [1.0, 1.0]).tolist()
    [1.0, 1.0]
    """
    table = _oriented(values, higher_is_better)
    low, span = table.min(axis=0), np.ptp(table, axis=0)
    return np.asarray(
        np.where(span > 0, (table - low) / np.where(span > 0, span, 1), 0.0) @ np.asarray(weights, np.float64)
    )


def scores(
    values: Any, replicates: Any, higher_is_better: Sequence[bool], weights: Sequence[float]
) -> tuple[Float64, Float64]:
    """Utilities `[m]`, and those of resamples `[r, m, c]` on the same scale (that of the measured ranges), `[r, m]`.

    >>> x, draws = scores([[0.9], [0.8]], [[[0.9], [0.8]], [[0.7], [0.8]]], [True], [1.0])
    >>> x.tolist(), draws.round(6).tolist()
    ([1.0, 0.0], [[1.0, 0.0], [-1.0, 0.0]])
    """
    table = _oriented(values, higher_is_better)
    draws = np.asarray(replicates, dtype=np.float64)
    if draws.ndim != 3 or draws.shape[1:] != table.shape:
        raise DataError(f"selection: expected replicates [r, {table.shape[0]}, {table.shape[1]}], got {draws.shape}")
    span = np.ptp(table, axis=0)
    scale = np.asarray(weights, np.float64) / np.where(span > 0, span, np.inf)
    sign = np.where(higher_is_better, 1.0, -1.0)
    return (table - table.min(axis=0)) @ scale, (draws * sign - table.min(axis=0)) @ scale


def equals(values: Any, replicates: Any, weights: Sequence[float]) -> Ints:
    """int64 `[m]`: for each candidate the first one that equals it, resample by resample, in all weighted criteria.

    >>> equals([[0.9, 0.1], [0.8, 0.1], [0.9, 0.3]], np.zeros((0, 3, 2)), [1.0, 0.0]).tolist()
    [0, 1, 0]
    """
    kept = np.asarray(weights) > 0
    table, draws = np.asarray(values)[:, kept], np.asarray(replicates)[:, :, kept]
    first: dict[bytes, int] = {}
    rows = (table[j].tobytes() + np.ascontiguousarray(draws[:, j]).tobytes() for j in range(len(table)))
    return np.array([first.setdefault(row, j) for j, row in enumerate(rows)], dtype=np.int64)


def may_be_best(utilities: Float64, replicates: Float64, level: float = 0.95) -> Array:
    """bool `[m]`: the candidates among which the best one is, in 95 of 100 such test sets (Hsu 1984).

    utilities `[m]` and their resamples `[r, m]`. One is left out where another is above it by more standard errors of
    their difference than 95 % of the centred resamples show anywhere by chance.

    >>> draws = np.random.default_rng(0).normal(size=(500, 3)) * 0.1
    >>> may_be_best(np.array([1.0, 0.9, 0.2]), draws).tolist()
    [True, True, False]
    """
    m = len(utilities)
    kept = np.ones(m, bool)
    centred = replicates - replicates.mean(axis=0)
    for j in range(m):
        apart = centred - centred[:, [j]]
        error = np.sqrt((apart**2).mean(axis=0))
        ahead = utilities - utilities[j]
        sure = (error <= 1e-12) & (ahead > 1e-12)
        noisy = error > 1e-12
        if sure.any():
            kept[j] = False
        elif noisy.any():
            chance = np.quantile((apart[:, noisy] / error[noisy]).max(axis=1), level)
            kept[j] = bool((ahead[noisy] / error[noisy]).max() <= chance)
    return kept


def probability_best(utilities: Float64, replicates: Float64) -> Float64:
    """Posterior chance of each candidate to be the best `[m]`, shrunk: differences as large as noise are mostly noise.

    The contrasts of the utilities `[m]` are normal around the truth with the covariance of the resamples `[r, m]`; the
    true ones are normal with a common spread, itself half-Cauchy on the scale of the noise and weighted by likelihood.
    A share of resamples won claims too much: one of two equal models would be the best at .9 in every fifth test set.

    >>> draws = np.random.default_rng(0).normal(size=(500, 2))
    >>> probability_best(np.array([0.0, 0.0]), draws).round(1).tolist()
    [0.5, 0.5]
    """
    m = len(utilities)
    if m == 1:
        return np.ones(1)
    centred = replicates - replicates.mean(axis=0)
    contrasts = centred - centred.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(contrasts.T @ contrasts / max(1, len(replicates) - 1))
    noise, axes = np.maximum(values, 0.0), vectors
    noise[0] = 0.0  # the direction of the common level, in which candidates do not differ
    y = axes.T @ (utilities - utilities.mean())
    scale = float(np.sqrt(noise[1:].mean()))
    if scale <= 1e-12:
        best = utilities >= utilities.max() - 1e-12
        return np.asarray(best / best.sum())
    grid = np.concatenate([[0.02], np.geomspace(0.1, 30, 28)])
    edges = np.concatenate([[0.0], np.sqrt(grid[1:] * grid[:-1]), [np.inf]])
    prior = np.diff(np.arctan(edges))
    total = (grid[:, None] * scale) ** 2 + noise
    log_likelihood = -0.5 * (np.log(total) + y**2 / total)[:, 1:].sum(axis=1)
    weight = prior * np.exp(log_likelihood - log_likelihood.max())
    rng = np.random.default_rng(0)
    spread = (rng.choice(grid, size=2000, p=weight / weight.sum())[:, None] * scale) ** 2
    share = spread / (spread + noise)
    drawn = (y * share + np.sqrt(noise * share) * rng.normal(size=(2000, m))) @ axes.T
    return np.bincount(drawn.argmax(axis=1), minlength=m) / 2000


def _oriented(values: Any, higher_is_better: Sequence[bool]) -> Float64:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(higher_is_better) or np.isnan(table).any():
        raise DataError(f"selection: expected values [m, {len(higher_is_better)}] without NaN, got {table.shape}")
    return table * np.where(higher_is_better, 1.0, -1.0)

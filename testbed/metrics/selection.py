"""Choosing a model: who is not beaten in everything, and how surely the best under given weights is the best.

`pareto` marks the rows no other row matches or beats in all columns and beats in one. `probability_best` scores each
candidate as the weighted sum of its columns, each scaled by its range over the candidates (as measured, kept for all
resamples), and counts in how many shared resamples each one wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.types import Array, Float64


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


def probability_best(
    values: Any, replicates: Any, higher_is_better: Sequence[bool], weights: Sequence[float]
) -> Float64:
    """Share of resamples `[r, m, c]` in which each candidate has the largest utility; ties are shared.

    >>> probability_best([[0.9], [0.8]], [[[0.9], [0.8]], [[0.7], [0.8]]], [True], [1.0]).tolist()
    [0.5, 0.5]
    """
    table = _oriented(values, higher_is_better)
    draws = np.asarray(replicates, dtype=np.float64) * np.where(higher_is_better, 1.0, -1.0)
    if draws.ndim != 3 or draws.shape[1:] != table.shape:
        raise DataError(
            f"probability_best: expected replicates [r, {table.shape[0]}, {table.shape[1]}], got {draws.shape}"
        )
    span = np.ptp(table, axis=0)
    score = (draws / np.where(span > 0, span, np.inf)) @ np.asarray(weights, np.float64)
    wins = score == score.max(axis=1, keepdims=True)
    return np.asarray((wins / wins.sum(axis=1, keepdims=True)).mean(axis=0))


def _oriented(values: Any, higher_is_better: Sequence[bool]) -> Float64:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(higher_is_better) or np.isnan(table).any():
        raise DataError(f"selection: expected values [m, {len(higher_is_better)}] without NaN, got {table.shape}")
    return table * np.where(higher_is_better, 1.0, -1.0)

"""Prediction sets: coverage, size, and coverage by the size of the set."""

from __future__ import annotations

from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bootstrap import LEVEL
from testbed.metrics.bounded import clopper_pearson, size_interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import label_vector
from testbed.types import Array, Ints


def coverage(sets: Any, y: Any) -> Estimate:
    """Share of examples whose label is in their set; `sets` bool `[n, k]`, exact interval.

    >>> coverage([[True, False], [True, True]], [1, 1]).value
    0.5
    """
    held, _ = _held(sets, y)
    low, high = clopper_pearson(float(held.sum()), len(held))
    return Estimate(float(held.mean()), low, high, f"marginal coverage; clopper-pearson {LEVEL:.0%}", len(held))


def set_size(sets: Any, y: Any) -> Estimate:
    """Mean number of classes in a set.

    >>> set_size([[True, False], [True, True]], [1, 1]).value
    1.5
    """
    _, size = _held(sets, y)
    low, high = size_interval(size, np.shape(sets)[1])
    return Estimate(float(size.mean()), low, high, f"mean set size; gamma {LEVEL:.0%}", len(size))


def coverage_by_size(sets: Any, y: Any) -> dict[int, Estimate]:
    """Coverage among sets of each size that occurs: conditional coverage, where marginal coverage can hide gaps.

    >>> {size: e.value for size, e in coverage_by_size([[True, False], [True, True]], [1, 1]).items()}
    {1: 0.0, 2: 1.0}
    """
    held, size = _held(sets, y)
    found = {}
    for one in np.unique(size).tolist():
        part = held[size == one]
        low, high = clopper_pearson(float(part.sum()), len(part))
        found[one] = Estimate(
            float(part.mean()), low, high, f"coverage of sets of size {one}; clopper-pearson {LEVEL:.0%}", len(part)
        )
    return found


def _held(sets: Any, y: Any) -> tuple[Array, Ints]:
    table = np.asarray(sets)
    if table.ndim != 2 or table.dtype != np.bool_ or len(table) == 0:
        raise DataError(f"prediction sets: expected bool [n, k] with n >= 1, got {table.dtype} {table.shape}")
    labels = label_vector(y, len(table), table.shape[1], "prediction sets")
    return table[np.arange(len(table)), labels], table.sum(axis=1)

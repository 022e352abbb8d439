"""T-Cal: an adaptive test of calibration at several scales (Lee, Huang, Hassani & Dobriban 2023).

At m equal-width bins of the confidence, with residuals u = correct - confidence, the debiased plug-in estimate

    T_m = 1/n sum_b [ (sum_{i in b} u_i)^2 - sum_{i in b} u_i^2 ] / n_b

has mean 0 under calibration. T_m is taken at m = 2, 4, 8, ... up to n / 10 and standardised by its mean and deviation
under calibration, where correctness is drawn from the confidences themselves; the largest one is compared with the
largest one of each draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from testbed.metrics.cumulative import Outcome
from testbed.metrics.inputs import probabilities, top_label
from testbed.types import Float64, Ints


def tcal_test(p: Any, y: Any, draws: int = 1000, seed: int = 0) -> Outcome:
    """Largest standardised multi-scale estimate of the top label, and its Monte Carlo p-value.

    >>> rng = np.random.default_rng(0)
    >>> c = rng.uniform(0.5, 1.0, 400)
    >>> p = np.stack([1 - c, c], axis=1)
    >>> tcal_test(p, (rng.random(400) < c).astype(int)).p_value > 0.05, tcal_test(p, np.ones(400, int)).p_value < 0.01
    (True, True)
    """
    values, hits = top_label(*probabilities(p, y, "tcal_test"))
    n = len(values)
    scales = [2**j for j in range(1, max(2, int(np.log2(max(n / 10, 4))) + 1))]
    bins = [np.minimum((values * m).astype(np.int64), m - 1) for m in scales]
    null_hits = np.random.default_rng(seed).random((draws, n)) < values
    seen = np.array([_estimate((hits - values)[None], index)[0] for index in bins])
    null = np.stack([_estimate(null_hits - values, index) for index in bins], axis=1)
    middle, spread = null.mean(axis=0), np.maximum(null.std(axis=0), 1e-300)
    largest = float(((seen - middle) / spread).max())
    return Outcome(largest, float((1 + (((null - middle) / spread).max(axis=1) >= largest).sum()) / (draws + 1)))


def _estimate(residual: Float64, index: Ints) -> Float64:
    """T_m of each row of residuals `[r, n]`, bins given."""
    order = np.argsort(index, kind="stable")
    first = np.flatnonzero(np.diff(index[order], prepend=-1))
    u = residual[:, order]
    count = np.diff(np.append(first, len(index)))
    sums = np.add.reduceat(u, first, axis=1)
    squares = np.add.reduceat(u * u, first, axis=1)
    return np.asarray(((sums * sums - squares) / count).sum(axis=1) / len(index))

"""A security curve in two numbers: the area under robust accuracy over the budget, and the median minimal distance.

Both are means or order statistics of one value per example, so their intervals need no resampling: the mean's is a
gamma one (`bounded`), which has a width where nobody, or everybody, is fooled.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from testbed.errors import DataError
from testbed.metrics.bounded import mean_interval
from testbed.metrics.estimate import Estimate
from testbed.types import Array

LEVEL = 0.95


def curve_area(eps: Array, fooled: Array, wrong: Array, *, level: float = LEVEL) -> Estimate:
    """Area under robust accuracy over [0, largest eps], divided by that eps: a mean robust accuracy in [0, 1].

    eps     float `[b]`, rising, above 0; fooled bool `[b n]` at each; wrong bool `[n]`, misclassified without an attack

    Trapezoids between the budgets, from the clean accuracy at 0. The interval is that of the mean over examples.

    >>> curve_area(np.array([0.1, 0.2]), np.array([[False, True], [True, True]]), np.array([False, False])).value
    0.5
    """
    budgets = np.concatenate([[0.0], np.asarray(eps, dtype=np.float64)])
    if len(budgets) < 2 or (np.diff(budgets) <= 0).any():
        raise DataError(f"a curve needs budgets that rise from above 0, got {np.asarray(eps).tolist()}")
    stands = ~np.concatenate([np.asarray(wrong)[None], np.asarray(fooled)])
    each = np.trapezoid(stands.astype(np.float64), budgets, axis=0) / budgets[-1]
    low, high = mean_interval(each, level=level)
    says = f"area under robust accuracy over [0, {budgets[-1]:.4g}] / {budgets[-1]:.4g}, {len(budgets) - 1} budgets"
    return Estimate(float(each.mean()), low, high, f"{says}; gamma {level:.0%}", len(each))


def median_distance(distance: Array, *, level: float = LEVEL) -> Estimate:
    """Median over examples of the smallest distance at which an attack fooled: 0 wrong without one, infinite never.

    The value is the lower median and NaN where it is not finite: then more than half were never fooled, and the curve
    does not reach far enough. The ends of the interval are order statistics (binomial, no assumption on the law); an
    infinite end is NaN.

    >>> median_distance(np.array([0.0, 0.1, 0.3, np.inf, np.inf])).value
    0.3
    """
    ordered = np.sort(np.asarray(distance, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        raise DataError("the median distance of an empty set is not defined")
    low, high = stats.binom.ppf([(1 - level) / 2, (1 + level) / 2], n, 0.5).astype(int)
    picked = ordered[[(n - 1) // 2, max(low - 1, 0), min(high, n - 1)]]
    value, bottom, top = (float(one) if np.isfinite(one) else float("nan") for one in picked)
    says = "smallest distance at which any image of the curve fools, median; binomial order statistics"
    return Estimate(value, bottom, top, f"{says} {level:.0%}", n)

"""What a recalibration changed, on the whole set and on each part of it: accuracy, NLL, Brier, ECE and coverage.

All but the ECE are means of one number an example, so the change is a mean of differences on the same examples, with
Student's interval and p-value (n - 1 degrees of freedom). The ECE's change is bootstrapped under shared resamples and
measured on the whole set only: on a class of fifty examples its upward bias is larger than most changes.

Coverage is that of LAC sets at 90 % whose threshold each side takes from its own calibrated source outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.calibration_error import Ece
from testbed.metrics.comparison import Difference, compare
from testbed.metrics.scores import FLOOR
from testbed.types import Array, Float64, Ints

#: Metrics of `changes` that are better when larger.
LARGER_IS_BETTER: Final = frozenset({"accuracy", "coverage"})


def changes(
    before: Float64, after: Float64, labels: Ints, parts: Mapping[str, Array], draws: Draws, held: tuple[Array, Array]
) -> list[Difference]:
    """Every change from probabilities `before` to `after` `[n, k]`, on "all" and on each of `parts` (positions).

    held  bool `[n]` each: whether the label was in the conformal set before and after
    Verdicts are by uncorrected p-values: whoever gathers several calls corrects over all of them.

    >>> a, b = np.array([[0.6, 0.4]] * 50), np.array([[0.9, 0.1]] * 50)
    >>> kept = np.ones(50, bool)
    >>> found = changes(a, b, np.zeros(50, int), {}, Draws(0, 50, 100), (kept, kept))
    >>> [(d.metric, round(d.change, 3)) for d in found]
    [('accuracy', 0.0), ('nll', -0.405), ('brier', -0.3), ('coverage', 0.0), ('ece', -0.3)]
    """
    losses = {
        "accuracy": [(p.argmax(axis=1) == labels).astype(np.float64) for p in (before, after)],
        "nll": [-np.log(np.maximum(p[np.arange(len(p)), labels], FLOOR)) for p in (before, after)],
        "brier": [((p - np.eye(p.shape[1])[labels]) ** 2).sum(axis=1) for p in (before, after)],
        "coverage": [side.astype(np.float64) for side in held],
    }
    found = []
    for part, rows in {"all": np.arange(len(labels)), **parts}.items():
        found += [mean_change(name, part, a[rows], b[rows]) for name, (a, b) in losses.items() if len(rows)]
        if part == "all":
            found += compare({"ece": Ece()}, before, after, labels, draws)
    return found


def mean_change(metric: str, part: str, before: Float64, after: Float64) -> Difference:
    """The paired change of a mean, with Student's interval; n of 1 has none (p is NaN).

    >>> d = mean_change("nll", "all", np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]))
    >>> round(d.change, 3), round(d.low, 3), round(d.high, 3), round(d.p, 4)
    (-1.0, -3.484, 1.484, 0.2254)
    """
    from scipy.special import stdtr, stdtrit

    n, gap = len(before), after - before
    change = float(gap.mean())
    named = f"after - before, paired, student {LEVEL:.0%}"
    first, second = float(before.mean()), float(after.mean())
    if n < 2:
        nothing = float("nan")
        return Difference(metric, part, n, first, second, change, nothing, nothing, nothing, nothing, "unclear", named)
    error = float(gap.std(ddof=1)) / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    p = (1.0 if change == 0 else 0.0) if error == 0 else float(2 * stdtr(n - 1, -abs(change) / error))
    return Difference(metric, part, n, first, second, change, change - half, change + half, p, p, "unclear", named)

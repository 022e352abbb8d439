"""What a recalibration changed, on the whole set and on each part of it: accuracy, NLL, Brier, ECE and coverage.

All but the ECE are means of one number per example, and are tested so (see `testbed.metrics.comparison`). The ECE's
change is measured on the whole set only: on a class of fifty examples its upward bias is larger than most changes.

Coverage is that of LAC sets at 90 % whose threshold each side takes from its own calibrated source outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from testbed.metrics.bootstrap import Draws
from testbed.metrics.calibration_error import Ece
from testbed.metrics.comparison import Difference, difference, mean_difference
from testbed.metrics.scores import Accuracy, Brier, Nll
from testbed.types import Array, Float64, Ints


def changes(
    before: Float64, after: Float64, labels: Ints, parts: Mapping[str, Array], draws: Draws, held: tuple[Array, Array]
) -> list[Difference]:
    """Every change from probabilities `before` to `after` `[n, k]`, on "all" and on each of `parts` (positions).

    held  bool `[n]` each: whether the label was in the conformal set before and after
    Verdicts are left to whoever gathers several calls and judges all of them as families.

    >>> a, b = np.array([[0.6, 0.4]] * 50), np.array([[0.9, 0.1]] * 50)
    >>> kept = np.ones(50, bool)
    >>> found = changes(a, b, np.zeros(50, int), {}, Draws(0, 50, 100), (kept, kept))
    >>> [(d.metric, round(d.change, 3)) for d in found]
    [('accuracy', 0.0), ('nll', -0.405), ('brier', -0.3), ('coverage', 0.0), ('ece', -0.3)]
    """
    metrics = {"accuracy": Accuracy(), "nll": Nll(), "brier": Brier()}
    found = []
    for part, rows in {"all": np.arange(len(labels)), **parts}.items():
        if not len(rows):
            continue
        p, q, y, shared = before[rows], after[rows], labels[rows], draws if part == "all" else draws.other(len(rows))
        found += [difference(name, metric, part, p, q, y, shared) for name, metric in metrics.items()]
        shares = (side[rows].astype(np.float64) for side in held)
        found.append(mean_difference("coverage", part, *shares, higher_is_better=True))
        if part == "all":
            found.append(difference("ece", Ece(), part, p, q, y, shared))
    return found

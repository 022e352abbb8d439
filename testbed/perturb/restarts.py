"""Robust accuracy of each restart of an attack that runs all of them on every example, and the average.

An attack with R random starts is reported in two ways. Per example over the starts, one success is enough: that is the
ledger, and every robust accuracy of this project. Or as the average over the starts of the accuracy that each leaves by
itself, as some papers do; it is never lower. An attack that returns `Found.restarts`, the image that each start leaves,
gets both: each restart's images are verified and judged like the set itself.

    a_r = 1 - fooled_r / n,    fooled_r with the examples that were wrong before the attack
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

#: Where the audit has the counts, one a restart; shards add up.
COUNTS: Final = "fooled_by_restart"


def accuracies(n: int, fooled: Sequence[int]) -> list[float]:
    """The robust accuracy that each restart leaves of n examples.

    >>> accuracies(10, [2, 4])
    [0.8, 0.6]
    """
    return [1.0 - count / n for count in fooled]


def summary(n: int, fooled: Sequence[int]) -> dict[str, Any]:
    """The counts, and mean and sample standard deviation (R - 1) of the accuracies over restarts, for an audit.

    >>> summary(10, [2, 4])["restart_accuracy_mean"], round(summary(10, [2, 4])["restart_accuracy_std"], 4)
    (0.7, 0.1414)
    """
    found = accuracies(n, fooled)
    return {
        COUNTS: list(fooled),
        "restart_accuracy": found,
        "restart_accuracy_mean": float(np.mean(found)),
        "restart_accuracy_std": float(np.std(found, ddof=1)),
    }


def merged(audits: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    """The summary over shards of n examples in all; nothing where no shard has counts.

    A shard in which no example was right has none: its examples are fooled in every restart.

    >>> merged([{"fooled_by_restart": [1, 2]}, {"already_wrong": 3}], 10)["fooled_by_restart"]
    [4, 5]
    """
    if not any(COUNTS in audit for audit in audits):
        return {}
    fooled = sum(np.asarray(audit.get(COUNTS, audit.get("already_wrong", 0))) for audit in audits)
    return summary(n, np.asarray(fooled).tolist())

"""Worst-group accuracy as a metric plug-in (Sagawa et al. 2020): the lowest accuracy over a set's subpopulations.

Interval: the lowest of the groups' 97.5 % lower ends, and the lowest of their upper ends at 1 - .025 / groups (Clopper
and Pearson's): whichever group is the worst of the population, it is covered. A bootstrap resamples the choice of the
worst group and covers one time in ten where groups are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import exact_ends
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities, top_label
from testbed.parameters import Checked, Count
from testbed.types import Array, Paper


@dataclass(frozen=True)
class WorstGroupAccuracy(Checked):
    """Accuracy of the group in which it is lowest; the convention names the group and its size.

    by     group: the data set's subpopulations; class: its classes, which every set has
    least  groups with fewer examples are left out

    >>> probs, labels = np.eye(2)[[0, 1, 1, 1]], [0, 1, 1, 0]
    >>> WorstGroupAccuracy()(probs, labels, np.array([0, 0, 1, 1]), names=("a", "b"), draws=Draws(0, 4, 50)).value
    0.5
    """

    by: Literal["group", "class"] = "group"
    least: Count = 1

    needs: ClassVar[str] = "groups"
    higher_is_better: ClassVar[bool] = True
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = Paper(
        "Distributionally Robust Neural Networks for Group Shifts", "Sagawa, S. and others", 2020, "ICLR", "1911.08731"
    )

    def __call__(
        self, probs: Any, labels: Any, groups: Array | None, *, names: Sequence[str] = (), draws: Draws
    ) -> Estimate:
        """The estimate; `groups` int `[n]`. Raises DataError where the set has none."""
        if self.by == "class":
            groups, names = np.asarray(labels), ()
        if groups is None:
            raise DataError(
                "worst_group_accuracy needs a data set with groups; this one has none (`by: class` takes classes)"
            )
        correct = top_label(*probabilities(probs, labels, "worst_group_accuracy"))[1].astype(np.float64)
        used = [k for k in np.unique(groups).tolist() if (groups == k).sum() >= self.least]
        if not used:
            raise DataError(f"worst_group_accuracy: no group has {self.least} examples (`least`)")
        hits = np.array([correct[groups == k].sum() for k in used])
        sizes = np.array([float((groups == k).sum()) for k in used])
        worst = int(np.argmin(hits / sizes))
        name = names[used[worst]] if used[worst] < len(names) else str(used[worst])
        words = f"top-1, lowest of {len(used)} by {self.by}: {name} (n={int(sizes[worst])})"
        tail = (1 - LEVEL) / 2
        low, high = exact_ends(hits, sizes, tail)[0].min(), exact_ends(hits, sizes, tail / len(used))[1].min()
        named = f"{words}; clopper-pearson of all groups {LEVEL:.0%}"
        return Estimate(float(hits[worst] / sizes[worst]), float(low), float(high), named, len(correct))

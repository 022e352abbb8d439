"""One metric on the parts of a set: per class, per subgroup, and the worst of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from testbed.metrics.bootstrap import Draws
from testbed.metrics.estimate import Estimate
from testbed.types import Array

Metric = Callable[..., Estimate]


def slices(labels: Array, groups: Array | None = None) -> dict[str, Array]:
    """Positions of each class that occurs ("class 3") and of each group ("group 1"; negative groups are none).

    >>> {name: rows.tolist() for name, rows in slices(np.array([0, 1, 1]), np.array([5, 5, -1])).items()}
    {'class 0': [0], 'class 1': [1, 2], 'group 5': [0, 1]}
    """
    found = {f"class {k}": np.flatnonzero(labels == k) for k in np.unique(labels).tolist()}
    if groups is not None:
        found |= {f"group {g}": np.flatnonzero(groups == g) for g in np.unique(groups).tolist() if g >= 0}
    return found


def by_slice(metric: Metric, probs: Any, labels: Any, parts: Mapping[str, Array], draws: Draws) -> dict[str, Estimate]:
    """The metric on each part, with resamples of the part's own that depend on its name and size alone.

    >>> from testbed.metrics.scores import Accuracy
    >>> p, y = np.array([[0.1, 0.9], [0.6, 0.4]]), np.array([1, 1])
    >>> {name: e.value for name, e in by_slice(Accuracy(), p, y, slices(y), Draws(0, 2, 10)).items()}
    {'class 1': 0.5}
    """
    p, y = np.asarray(probs), np.asarray(labels)
    return {
        name: metric(p[rows], y[rows], draws=draws.other(len(rows), name)) for name, rows in parts.items() if len(rows)
    }


def worst(found: Mapping[str, Estimate], higher_is_better: bool) -> tuple[str, Estimate]:
    """The part with the worst value; its interval does not allow for having been picked.

    >>> worst({"a": Estimate(0.9, 0.8, 1.0, "", 9), "b": Estimate(0.7, 0.6, 0.8, "", 9)}, higher_is_better=True)[0]
    'b'
    """
    sign = 1 if higher_is_better else -1
    name = min(found, key=lambda part: sign * found[part].value)
    return name, found[name]

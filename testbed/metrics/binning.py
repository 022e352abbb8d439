"""Which bin a confidence falls in, by the named convention: the choice that alone moves an ECE by a point.

    guo          (lo, hi]  edges linspace(0, 1, bins + 1) in float64; a value of exactly 0 falls in no bin
    torchmetrics [lo, hi)  values and edges cast to float32; a value of 1 falls in a bin of its own
    netcal       [lo, hi)  last bin closed; values clipped to [eps, 1 - eps], eps = 2.2e-16
    sklearn      (lo, hi]  first bin closed
    kumar        (lo, hi]  upper edges i / bins (Kumar et al. 2019), first bin closed

guo and kumar bin the largest probability for every number of classes. torchmetrics, netcal and sklearn bin P(class 1)
when there are two classes, as those packages do; sklearn has no multiclass form, so with more than two classes its
edges are applied to the largest probability.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np

from testbed.errors import UsageError, nearest
from testbed.metrics.inputs import top_label
from testbed.types import Array, Float64, Ints

Convention = Literal["guo", "netcal", "torchmetrics", "sklearn", "kumar"]
CONVENTIONS: Final = get_args(Convention)
_BINARY: Final = ("netcal", "torchmetrics", "sklearn")


def check(bins: int, convention: str) -> None:
    """UsageError for a convention nobody has, or fewer than one bin."""
    if convention not in CONVENTIONS:
        raise UsageError(f"unknown ECE convention {convention!r}; {nearest(convention, CONVENTIONS)}")
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}")


def scored(p: Float64, y: Ints, convention: Convention) -> tuple[Float64, Float64, str]:
    """What is binned and what it is compared with, `[n]` each, and the name of that choice."""
    if p.shape[1] == 2 and convention in _BINARY:
        return p[:, 1], (y == 1).astype(np.float64), "P(class 1)"
    return (*top_label(p, y), "top label")


def equal_width(values: Array, bins: int, convention: Convention = "guo") -> Ints:
    """Bin index int64 `[n]` of `values` in [0, 1], -1 for none; `bins` is one more than the last index at most.

    >>> values = np.array([0.0, 0.25, 0.5, 1.0])
    >>> equal_width(values, 2, "guo").tolist(), equal_width(values, 2, "torchmetrics").tolist()
    ([-1, 0, 0, 1], [0, 0, 1, 2])
    >>> equal_width(values, 2, "netcal").tolist(), equal_width(values, 2, "sklearn").tolist()
    ([0, 0, 1, 1], [0, 0, 0, 1])
    """
    check(bins, convention)
    v = np.asarray(values, dtype=np.float64)
    if convention == "torchmetrics":
        return np.searchsorted(float32_edges(bins), v.astype(np.float32), side="right") - 1
    if convention == "netcal":
        eps = np.finfo(np.float64).eps
        inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
        return np.searchsorted(inner, np.clip(v, eps, 1 - eps), side="right")
    if convention == "kumar":
        return np.searchsorted(np.arange(1, bins) / bins, v, side="left")
    index = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], v, side="left")
    return np.where(v <= 0, -1, index) if convention == "guo" else index


def float32_edges(bins: int) -> Array:
    """torch.linspace(0, 1, bins + 1) in float32, which counts from both ends and so differs from numpy's by an ulp."""
    step = np.float32(1) / np.float32(bins)
    index = np.arange(bins + 1, dtype=np.float32)
    upper = (np.float64(1) - np.float64(step) * (bins - index.astype(np.float64))).astype(np.float32)
    return np.where(index < (bins + 1) // 2, step * index, upper).astype(np.float32)


def equal_mass(values: Array, bins: int) -> Ints:
    """Bin index int64 `[n]` by rank, equal values always together: floor(bins (mid-rank + 1/2) / n).

    Without ties bins hold n/bins values each, rounded; a run of equal values goes where its middle lies. The
    order of the examples cannot matter. With fewer values than bins some bins stay empty.

    >>> equal_mass(np.array([0.1, 0.2, 0.2, 0.9]), 2).tolist()
    [0, 1, 1, 1]
    """
    check(bins, "guo")
    _, inverse, count = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2
    index = np.minimum((bins * middle / len(inverse)).astype(np.int64), bins - 1)
    return index[inverse]

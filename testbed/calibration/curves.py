"""One curve a class, stored flat: what the one-vs-rest methods of binning share.

A step curve is (inner edges `[b - 1]`, heights `[b]`): a score s reads heights[number of inner edges <= s]. Curves of
k classes lie one after another in `edges` and `heights`, told apart by `offsets` `[k + 1]` (of the heights).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from testbed.metrics.binning import equal_mass
from testbed.types import Float64, Ints

Binning = Literal["width", "mass", "quantile"]


def inner_edges(scores: Float64, bins: int, binning: Binning) -> Float64:
    """Inner edges of `bins` bins over scores in [0, 1].

    width     i / bins
    mass      halfway between neighbours of different equal-mass bins; equal scores are never parted
    quantile  numpy's quantiles of the scores, repeats dropped

    >>> inner_edges(np.array([0.1, 0.2, 0.6, 0.8]), 2, "mass").round(6).tolist()
    [0.4]
    """
    if binning == "width":
        return np.linspace(0.0, 1.0, bins + 1)[1:-1]
    if binning == "quantile":
        return np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    ordered = np.unique(scores)
    index = np.empty(len(ordered), dtype=np.int64)
    index[np.searchsorted(ordered, scores)] = equal_mass(scores, bins)
    last = np.flatnonzero(index[1:] != index[:-1])
    return (ordered[last] + ordered[last + 1]) / 2


def place(scores: Float64, inner: Float64) -> Ints:
    """Bin of each score: [lo, hi), the last bin closed."""
    return np.searchsorted(inner, scores, side="right")


def means(scores: Float64, targets: Float64, inner: Float64) -> Float64:
    """Mean target in each bin `[b]`; an empty bin gets its middle, which leaves its scores about where they are.

    >>> means(np.array([0.1, 0.2, 0.9]), np.array([0.0, 1.0, 1.0]), np.array([0.25, 0.75])).tolist()
    [0.5, 0.5, 1.0]
    """
    index = place(scores, inner)
    count = np.bincount(index, minlength=len(inner) + 1)
    total = np.bincount(index, targets, len(inner) + 1)
    bounds = np.concatenate([[0.0], inner, [1.0]])
    return np.where(count > 0, total / np.maximum(count, 1), (bounds[1:] + bounds[:-1]) / 2)


def flat(curves: Sequence[tuple[Float64, Float64]]) -> dict[str, Any]:
    """The state of one step curve a class."""
    return {
        "edges": np.concatenate([inner for inner, _ in curves]),
        "heights": np.concatenate([heights for _, heights in curves]),
        "offsets": np.cumsum([0] + [len(heights) for _, heights in curves]),
    }


def read(p: Float64, state: Mapping[str, Any]) -> Float64:
    """The heights at each column's scores, float64 `[n, k]`, not normalised."""
    q = np.empty_like(p)
    for k, (start, end) in enumerate(zip(state["offsets"][:-1], state["offsets"][1:])):
        inner = state["edges"][start - k : end - k - 1]
        q[:, k] = state["heights"][start:end][place(p[:, k], inner)]
    return q


def each_class(
    p: Float64, y: Ints, fit: Callable[[Float64, Float64], tuple[Float64, Float64]]
) -> Iterator[tuple[Float64, Float64]]:
    """`fit(scores, 0/1 targets)` of each class against the rest."""
    for k in range(p.shape[1]):
        yield fit(np.ascontiguousarray(p[:, k]), (y == k).astype(np.float64))


def with_top(p: Float64, top: Float64) -> Float64:
    """`p` with each row's largest entry set to `top` and the others scaled so that the row sums to 1.

    Where the others are all 0 they share the rest evenly. The prediction can change where `top` becomes small.

    >>> with_top(np.array([[0.5, 0.3, 0.2]]), np.array([0.8])).round(6).tolist()
    [[0.8, 0.12, 0.08]]
    """
    rows, best = np.arange(len(p)), p.argmax(axis=1)
    others = p.copy()
    others[rows, best] = 0
    rest = others.sum(axis=1, keepdims=True)
    even = np.full_like(p, 1 / (p.shape[1] - 1))
    even[rows, best] = 0
    q = np.where(rest > 0, others / np.where(rest > 0, rest, 1), even) * (1 - top)[:, None]
    q[rows, best] = top
    return np.asarray(q / q.sum(axis=1, keepdims=True))

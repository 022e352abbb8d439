"""Exact nearest neighbours on the unit sphere: searched in float32 by blocks, re-ranked in float64.

A float32 product of unit vectors of width d is off by at most `slack(d)`. The float64 re-rank takes the best
candidates of the float32 search; its k-th value is final if it exceeds the worst candidate by more than the slack,
otherwise that row's candidates are widened until it does. So the result is that of a float64 search of everything.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from testbed.detection.numeric import unit_rows
from testbed.types import Array, Float64, Ints


class Neighbours(NamedTuple):
    """The k nearest of the bank for each query, nearest first: `distances` float64 `[n k]`, `rows` int64 `[n k]`."""

    distances: Float64
    rows: Ints


def slack(width: int) -> float:
    """A bound on |float32 product - exact product| of two unit vectors of this width.

    Rounding both vectors to float32 costs 2 u, the sum of `width` products at most width u (u = 2^-24).
    """
    return (width + 4.0) * 2.0**-24


def nearest(bank: Array, query: Array, k: int, block: int = 256) -> Neighbours:
    """The k nearest bank rows of each query row, both scaled to unit length; needs k <= len(bank).

    >>> found = nearest(np.eye(3), np.array([[2.0, 0.1, 0.0]]), k=2)
    >>> found.rows.tolist(), found.distances.round(4).tolist()
    ([[0, 1]], [[0.05, 1.3785]])
    """
    rows, wide = unit_rows(bank), unit_rows(query)
    narrow = rows.astype(np.float32)
    empty = np.flatnonzero(~rows.any(axis=1))  # a zero row lies at distance 1, as near as a similarity of one half
    distances, index = np.empty((len(wide), k)), np.empty((len(wide), k), dtype=np.int64)
    for start in range(0, len(wide), block):
        part = slice(start, start + block)
        similarity = wide[part].astype(np.float32) @ narrow.T
        similarity[:, empty] = 0.5
        distances[part], index[part] = _rerank(similarity, rows, wide[part], k)
    return Neighbours(distances, index)


def _rerank(similarity: Array, bank: Float64, query: Float64, k: int) -> tuple[Float64, Ints]:
    """Float64 distances and indices `[m k]` from float32 similarities `[m N]`, widened row by row where in doubt."""
    count = min(k + 16, len(bank))
    candidates = _largest(similarity, count)
    distances, index = _sorted_distances(candidates, bank, query, k)
    if count < len(bank):
        cut = np.take_along_axis(similarity, candidates, axis=1).min(axis=1)
        similarity_of_last = 0.5 * (np.einsum("nd,nd->n", query, query) + 1.0 - distances[:, -1] ** 2)
        unsure = np.flatnonzero(similarity_of_last < cut + slack(bank.shape[1]))
        for row in unsure:
            wider = np.flatnonzero(similarity[row] >= cut[row] - 2 * slack(bank.shape[1]))
            distances[row], index[row] = _sorted_distances(wider[None], bank, query[row : row + 1], k)
    return distances, index


def _largest(similarity: Array, count: int) -> Ints:
    n = similarity.shape[1]
    if count >= n:
        return np.broadcast_to(np.arange(n), similarity.shape).copy()
    return np.argpartition(similarity, n - count, axis=1)[:, n - count :]


def _sorted_distances(candidates: Ints, bank: Float64, query: Float64, k: int) -> tuple[Float64, Ints]:
    gaps = bank[candidates] - query[:, None, :]
    distances = np.sqrt(np.einsum("nkd,nkd->nk", gaps, gaps))
    order = np.lexsort((candidates, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(candidates, order, axis=1)

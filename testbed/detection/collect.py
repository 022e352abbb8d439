"""What is collected from a pass over similarities (see `testbed.detection.similarity`).

Each collector sees float32 similarities, never changes them, and settles in float64 whatever float32 cannot decide.

How the k largest of a row are found: the columns are dealt into groups, and t, the k-th largest of the group
maxima, is a lower bound of the k-th largest value. If values are off by at most e, every true member of the k largest
has a float32 value of at least t - 2 e; those are the candidates, and they are ranked in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from testbed.detection.similarity import Side, fingerprint, slack
from testbed.types import Array, Float64, Ints

_PAIRS = 2**16


@dataclass(frozen=True)
class Nearest:
    """Distances to the k nearest of the bank, nearest first, float64 `[n k]`."""

    k: int

    def key(self) -> str:
        """The k."""
        return f"nearest {self.k}"

    def take(self, rows: slice, similarity: Array, bank: Side, query: Float64) -> Array:
        """The k smallest distances of each row."""
        return np.sqrt(self.search(similarity, bank, query)[0])

    def search(self, similarity: Array, bank: Side, query: Float64) -> tuple[Float64, Ints]:
        """Squared distances and bank rows `[m k]`, nearest first, equal distances by bank row."""
        if len(bank.empty):  # a zero row lies at distance 1, as near as a similarity of one half
            similarity = similarity.copy()
            similarity[:, bank.empty] = 0.5
        row, column = candidates(similarity, self.k, slack(query.shape[1]))
        squares = pairwise(row, column, bank.wide, query, "gap")
        best = best_of_rows(row, squares, column, len(query), self.k)
        return squares[best], column[best]


@dataclass(frozen=True)
class Guided:
    """Mean of the k largest of weight_i <z, b_i> over the bank, float64 `[n]`.

    weights  float64 `[N]`, one a bank row
    """

    weights: Float64
    k: int

    def key(self) -> str:
        """The weights and the k."""
        return f"guided {self.k} {fingerprint(self.weights)}"

    def take(self, rows: slice, similarity: Array, bank: Side, query: Float64) -> Array:
        """The guided mean of each row."""
        guided = similarity * self.weights.astype(np.float32)
        scale = float(np.abs(self.weights).max())
        row, column = candidates(guided, self.k, (slack(query.shape[1]) + 2.0**-22) * scale)
        values = pairwise(row, column, bank.wide, query, "product") * self.weights[column]
        best = best_of_rows(row, -values, column, len(query), self.k)
        mean: Float64 = values[best].mean(axis=1)
        return mean


@dataclass(frozen=True)
class Related:
    """Sum over the bank of [v > threshold] v^power, v = relu(<z, b_i>) <p, p_i>, float64 `[n]`.

    query_probs, bank_probs  float64 `[n k]`, `[N k]`. Which edges count is decided exactly; the sum is of float32
    terms, good to about 1e-6 of its value.
    """

    query_probs: Float64
    bank_probs: Float64
    power: float
    threshold: float

    def key(self) -> str:
        """Power, threshold and both sets of probabilities."""
        return (
            f"related {self.power!r} {self.threshold!r} {fingerprint(self.query_probs)} {fingerprint(self.bank_probs)}"
        )

    @cached_property
    def narrow(self) -> Array:
        """The bank's probabilities, float32 `[k N]`."""
        return np.ascontiguousarray(self.bank_probs.T, dtype=np.float32)

    def take(self, rows: slice, similarity: Array, bank: Side, query: Float64) -> Array:
        """The relation of each row to the whole bank."""
        p = self.query_probs[rows]
        value = np.matmul(p.astype(np.float32), self.narrow)
        total = np.empty(len(p))
        for row in range(len(p)):  # one row at a time stays in the processor's cache
            total[row] = self._sum(value[row], similarity[row], p[row], bank, query[row])
        return total

    def _sum(self, value: Array, similarity: Array, probs: Float64, bank: Side, query: Float64) -> float:
        """Sum over one row's edges; `value` is scratch. What lies near the threshold is computed again in float64."""
        np.multiply(value, similarity, out=value)
        doubt = slack(len(query)) + slack(len(probs)) + 2.0**-22
        edge = value > self.threshold - doubt
        near = np.flatnonzero(edge & (value < self.threshold + doubt))
        if len(near):
            exact = (bank.wide[near] @ query) * (self.bank_probs[near] @ probs)
            edge[near] = exact > self.threshold
        np.multiply(value, edge, out=value)
        if self.power != 1.0:
            np.power(value, self.power, out=value)
        return float(value.sum(dtype=np.float32))


@dataclass(frozen=True)
class Covered:
    """The first level at which a query lies inside at least `needed` of the bank's balls, int64 `[n]`.

    radii  float64 `[levels, N]`: SQUARED radius of each bank row's ball, growing with the level. The answer is `levels`
    where even the largest balls do not cover it often enough.
    """

    radii: Float64
    needed: int

    def key(self) -> str:
        """The radii and the count."""
        return f"covered {self.needed} {fingerprint(self.radii)}"

    def take(self, rows: slice, similarity: Array, bank: Side, query: Float64) -> Array:
        """The level of each row, by bisection in float32 and again in float64 where float32 leaves a doubt."""
        square = np.einsum("nd,nd->n", bank.wide, bank.wide)
        squares = square + np.einsum("nd,nd->n", query, query)[:, None] - 2.0 * similarity
        doubt = 2.0 * slack(query.shape[1]) + 2.0**-21
        low, high = self._level(squares - doubt), self._level(squares + doubt)
        unsure = np.flatnonzero(low != high)
        if len(unsure):
            own = query[unsure]
            exact = square + np.einsum("nd,nd->n", own, own)[:, None] - 2.0 * (own @ bank.wide.T)
            low[unsure] = self._level(exact)
        return low

    def _level(self, squares: Array) -> Ints:
        """Bisection for the first level with enough of squares <= radii."""
        low = np.zeros(len(squares), dtype=np.int64)
        high = np.full(len(squares), len(self.radii), dtype=np.int64)
        while (low < high).any():
            middle = np.minimum((low + high) // 2, len(self.radii) - 1)
            enough = np.count_nonzero(squares <= self.radii[middle], axis=1) >= self.needed
            open_ = low < high
            high = np.where(open_ & enough, middle, high)
            low = np.where(open_ & ~enough, middle + 1, low)
        return low


def candidates(values: Array, k: int, error: float) -> tuple[Ints, Ints]:
    """(row, column) of every float32 value that may be among the k largest exact values of its row, rows ascending.

    error  bound on |float32 value - exact value|

    >>> [a.tolist() for a in candidates(np.array([[0.1, 0.9, 0.8]], dtype=np.float32), 1, 1e-6)]
    [[0], [1]]
    """
    n = values.shape[1]
    width = min(64, max(1, n // (16 * k)))
    whole = n // width * width
    groups = values[:, :whole].reshape(len(values), width, -1).max(axis=1) if width > 1 else values
    bound = np.partition(groups, groups.shape[1] - k, axis=1)[:, -k].astype(np.float64)
    near = np.flatnonzero(values >= np.nextafter((bound - 2 * error).astype(np.float32), np.float32(-np.inf))[:, None])
    row, column = np.divmod(near, n)
    return row.astype(np.int64), column.astype(np.int64)


def pairwise(row: Ints, column: Ints, bank: Float64, query: Float64, what: str) -> Float64:
    """Exact products, or squared gaps, of query[row] with bank[column], float64, a few at a time."""
    out = np.empty(len(row))
    for start in range(0, len(row), _PAIRS):
        part = slice(start, start + _PAIRS)
        a, b = query[row[part]], bank[column[part]]
        if what == "gap":
            a, b = a - b, a - b
        out[part] = np.einsum("nd,nd->n", a, b)
    return out


def best_of_rows(row: Ints, cost: Float64, column: Ints, rows: int, k: int) -> Ints:
    """Positions `[rows k]` of the k cheapest entries of each row, cheapest first, equal ones by column."""
    order = np.lexsort((column, cost, row))
    starts = np.searchsorted(row, np.arange(rows))
    best: Ints = order[starts[:, None] + np.arange(k)]
    return best

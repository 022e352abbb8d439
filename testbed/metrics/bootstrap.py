"""Resamples of a set, drawn once and shared by every metric and every method that is scored on it.

A replicate is a row of multinomial counts: how often each of the n examples was drawn in n draws with replacement
(Efron 1979, "Bootstrap methods: another look at the jackknife"). A statistic that is a function of sums is then one
product of counts with a column of values, 1,000 replicates at once, and two methods scored under the same counts
give paired differences for free.

Counts are a function of (seed, n, replicate) alone: any block of them can be made on its own, in any order. Up to
64 MiB of them are kept, as uint8, for as long as the object lives; up to 384 MiB (384,000 examples at 1,000 replicates)
until another set as large is resampled, so that a process never holds more than one such table; beyond that they are
made again block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from testbed.metrics.estimate import Estimate
from testbed.types import Array, Float64

LEVEL: Final = 0.95
Interval = Literal["percentile", "basic"]

_KEEP_BYTES: Final = 64 * 2**20
_KEEP_ONE_BYTES: Final = 384 * 2**20
_BLOCK_VALUES: Final = 2**19


#: The counts of the one large set that is kept, if any.
_large: list[dict[int, NDArray[np.uint8]]] = []


def _let_go(kept: dict[int, NDArray[np.uint8]]) -> None:
    """Forget the large table that is held, and hold `kept` from now on."""
    for before in _large:
        before.clear()
    _large[:] = [kept]


@dataclass(frozen=True)
class Draws:
    """`replicates` bootstrap resamples of a set of `n` examples, a pure function of (seed, n, replicates, name).

    >>> draws = Draws(seed=0, n=4, replicates=3)
    >>> draws.counts().shape, draws.counts().sum(axis=1).tolist()
    ((3, 4), [4, 4, 4])
    >>> draws.means([0.0, 0.0, 1.0, 1.0]).tolist()
    [0.25, 0.75, 0.5]
    """

    seed: int
    n: int
    replicates: int = 1000
    name: str = ""
    _kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def other(self, n: int, name: str = "other") -> Draws:
        """Independent resamples of a second set (the out-of-distribution one), with the same number of replicates.

        >>> Draws(0, 4, 3).other(2).counts().shape
        (3, 2)
        """
        return Draws(self.seed, n, self.replicates, f"{self.name}/{name}")

    def counts(self) -> NDArray[np.uint8]:
        """uint8 `[replicates, n]`: how often each example is in each resample. For small sets; else use `blocks`."""
        return np.concatenate(list(self.blocks()))

    def blocks(self) -> Iterator[NDArray[np.uint8]]:
        """The rows of `counts`, a few at a time, in order, so that memory stays bounded."""
        step = max(1, min(self.replicates, _BLOCK_VALUES // max(self.n, 1)))
        keep = self.replicates * self.n <= _KEEP_ONE_BYTES
        if keep and self.replicates * self.n > _KEEP_BYTES and not any(one is self._kept for one in _large):
            _let_go(self._kept)
        for start in range(0, self.replicates, step):
            block = self._kept.get(start)
            if block is None:
                block = self._make(range(start, min(start + step, self.replicates)))
                if keep:
                    self._kept[start] = block
            yield block

    def indices(self) -> Iterator[NDArray[np.int64]]:
        """Each resample as `n` sorted positions, for statistics that are no function of sums.

        >>> [rows.tolist() for rows in Draws(0, 4, 2).indices()]
        [[0, 1, 1, 3], [0, 2, 2, 3]]
        """
        for block in self.blocks():
            for row in block:
                yield np.repeat(np.arange(self.n), row)

    def sums(self, values: Any) -> Float64:
        """float64 `[replicates]` or `[replicates, m]`: resampled sums of `values` `[n]` or `[n, m]` (or sparse)."""
        columns = values if hasattr(values, "tocsr") else np.asarray(values, dtype=np.float64)
        if columns.shape[0] != self.n:
            raise ValueError(f"draws are of {self.n} examples, the values have {columns.shape[0]} rows")
        return np.concatenate([np.asarray(block.astype(np.float64) @ columns) for block in self.blocks()])

    def means(self, values: Any) -> Float64:
        """float64 `[replicates]` or `[replicates, m]`: the resampled means of `values`."""
        return self.sums(values) / self.n

    def replicate(self, statistic: Callable[[NDArray[np.int64]], float]) -> Float64:
        """float64 `[replicates]`: `statistic` of the sorted positions of each resample; the slow way, for anything."""
        return np.array([statistic(rows) for rows in self.indices()], dtype=np.float64)

    def estimate(self, value: float, replicates: Array, convention: str, interval: Interval = "percentile") -> Estimate:
        """`value` with the interval that these replicates of it give; the convention gains the interval's name."""
        low, high = bounds(value, replicates, interval=interval)
        return Estimate(
            float(value), low, high, f"{convention}; bootstrap-{interval} {LEVEL:.0%} x{self.replicates}", self.n
        )

    def _make(self, rows: range) -> NDArray[np.uint8]:
        entropy = int.from_bytes(blake3(f"draws\0{self.seed}\0{self.n}\0{self.name}".encode()).digest(16), "little")
        dtype: Any = np.uint16 if self.n <= 2**16 else np.uint32
        out = np.empty((len(rows), self.n), np.uint8)
        for place, row in enumerate(rows):
            generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy, spawn_key=(row,))))
            drawn = generator.integers(0, self.n, size=self.n, dtype=dtype)
            out[place] = np.bincount(drawn, minlength=self.n)
        return out


def bounds(
    value: float, replicates: Array, level: float = LEVEL, interval: Interval = "percentile"
) -> tuple[float, float]:
    """Ends of the bootstrap interval around `value`.

    percentile  the (1 - level)/2 and (1 + level)/2 quantiles of the replicates
    basic       2 value - those quantiles: right for statistics biased upwards, as every binned calibration error is
                near 0 (there the replicates are shifted from the value as the value is from the truth); cut at 0

    Either is widened, where it must be, to hold `value`. Replicates that are NaN (a resample without positives) are
    left out; with fewer than half left there is no interval (NaN, NaN).

    >>> [round(end, 9) for end in bounds(20, np.arange(41))]
    [1.0, 39.0]
    >>> [round(end, 9) for end in bounds(10, np.arange(41), interval="basic")]
    [0.0, 19.0]
    """
    sound = np.asarray(replicates, dtype=np.float64)
    sound = sound[~np.isnan(sound)]
    if 2 * len(sound) < np.size(replicates) or len(sound) == 0 or np.isnan(value):
        return float("nan"), float("nan")
    low, high = (float(q) for q in np.quantile(sound, [(1 - level) / 2, (1 + level) / 2]))
    if interval == "basic":
        low, high = max(0.0, 2 * value - high), 2 * value - low
    return min(low, float(value)), max(high, float(value))

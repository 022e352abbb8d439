"""Accuracy, ECE, NLL and coverage of a stream's last `window` labelled examples, in memory that does not grow.

An example that is in the window twice counts once in n and in every interval: its rows are resampled together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.binning import equal_width
from testbed.metrics.bootstrap import LEVEL, Draws, Interval
from testbed.metrics.calibration_error import binned_gap
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import confidence as checked
from testbed.metrics.scores import wilson
from testbed.types import Float64, Ints


@dataclass
class Rolling:
    """A ring of the last `window` (confidence, correct, covered, loss, size of set) rows and what they say.

    >>> rolling = Rolling(window=3)
    >>> rolling.add([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 1])
    >>> rolling.accuracy().value.__round__(6), rolling.seen
    (0.666667, 4)
    """

    window: int = 1000
    seed: int = 0
    replicates: int = 200
    seen: int = field(default=0, init=False)
    _ring: Float64 = field(init=False, repr=False)
    _ids: Ints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ring = np.full((self.window, 5), np.nan)
        self._ids = np.zeros(self.window, np.int64)

    def add(
        self,
        confidence: Any,
        correct: Any,
        covered: Any = None,
        loss: Any = None,
        size: Any = None,
        ids: Ints | None = None,
    ) -> None:
        """The next labelled examples: confidence, whether the prediction was right, whether the set held the label.

        loss  -log of the label's probability (nats), `size` classes in the set; each `[n]`, None where there is none
        ids   which example each is, int64 `[n]`; None: all are different
        """
        c, r = checked(confidence, correct, "Rolling")
        columns = [np.full(len(c), np.nan) if v is None else np.asarray(v, np.float64) for v in (covered, loss, size)]
        table = np.stack([c, r, *columns], axis=1)
        named = -1 - self.seen - np.arange(len(c)) if ids is None else ids
        for start in range(0, len(c), self.window):
            rows = table[start : start + self.window]
            place = (self.seen + np.arange(len(rows))) % self.window
            self._ring[place], self._ids[place] = rows, named[start : start + self.window]
            self.seen += len(rows)

    def accuracy(self) -> Estimate:
        """Share of right predictions in the window, Wilson interval."""
        return self._share(1, "rolling accuracy")

    def coverage(self) -> Estimate:
        """Share of labels held by their sets in the window, Wilson interval."""
        return self._share(2, "rolling coverage")

    def ece(self, bins: int = 15) -> Estimate:
        """ECE of the window, basic bootstrap interval."""
        rows = self._rows()
        gap, index = rows[:, 0] - rows[:, 1], equal_width(rows[:, 0], bins)
        named = f"rolling, window {self.window}, guo, {bins} bins of equal width, top label"
        inside = (index[:, None] == np.arange(bins)) * gap[:, None]
        return self._estimate(binned_gap(gap, index), np.abs(self._means(inside)).sum(axis=1), named, "basic")

    def nll(self) -> Estimate:
        """Mean loss of the window in nats, percentile bootstrap interval."""
        return self._mean(3, "rolling nll, nats")

    def set_size(self) -> Estimate:
        """Mean size of the window's sets, percentile bootstrap interval."""
        return self._mean(4, "rolling mean set size")

    def _mean(self, column: int, name: str) -> Estimate:
        values = self._rows()[:, column]
        if np.isnan(values).any():
            raise DataError(f"{name}: an example of the window does not have it")
        return self._estimate(float(values.mean()), self._means(values[:, None])[:, 0], f"{name}, window {self.window}")

    def _means(self, values: Float64) -> Float64:
        """Resampled means float64 `[replicates, m]` of the window's rows `[n, m]`, examples drawn whole."""
        examples, inverse, sizes = np.unique(self._ids[: len(values)], return_inverse=True, return_counts=True)
        sums = np.zeros((len(examples), values.shape[1]))
        np.add.at(sums, inverse, values)
        draws = _draws(self.seed, len(examples), self.replicates)
        return np.asarray(draws.sums(sums) / draws.sums(sizes[:, None].astype(np.float64)))

    def _estimate(self, value: float, replicates: Float64, name: str, interval: Interval = "percentile") -> Estimate:
        return _draws(self.seed, self._distinct, self.replicates).estimate(value, replicates, name, interval)

    @property
    def _distinct(self) -> int:
        """Examples in the window."""
        return len(np.unique(self._ids[: len(self._rows())]))

    def _rows(self) -> Float64:
        if self.seen == 0:
            raise DataError("Rolling has seen no example yet")
        return self._ring[: min(self.seen, self.window)]

    def _share(self, column: int, name: str) -> Estimate:
        values = self._rows()[:, column]
        there = ~np.isnan(values)
        n = len(np.unique(self._ids[: len(values)][there]))
        if n == 0:
            raise DataError(f"{name}: no example of the window has it")
        share = float(values[there].mean())
        low, high = wilson(share * n, n)
        return Estimate(share, low, high, f"{name}, window {self.window}; wilson {LEVEL:.0%}", n)


@lru_cache(maxsize=2)
def _draws(seed: int, n: int, replicates: int) -> Draws:
    """The resamples of a window, shared by all measures and by all that are rolled together."""
    return Draws(seed, n, replicates, "rolling")

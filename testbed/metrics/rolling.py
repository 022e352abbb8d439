"""Accuracy, ECE, NLL and coverage of a stream's last `window` labelled examples, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.binning import equal_width
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.calibration_error import binned_gap, binned_gap_draws
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import confidence as checked
from testbed.metrics.scores import wilson
from testbed.types import Float64


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

    def __post_init__(self) -> None:
        self._ring = np.full((self.window, 5), np.nan)

    def add(self, confidence: Any, correct: Any, covered: Any = None, loss: Any = None, size: Any = None) -> None:
        """The next labelled examples: confidence, whether the prediction was right, whether the set held the label.

        loss  -log of the label's probability (nats), `size` classes in the set; each `[n]`, None where there is none
        """
        c, r = checked(confidence, correct, "Rolling")
        columns = [np.full(len(c), np.nan) if v is None else np.asarray(v, np.float64) for v in (covered, loss, size)]
        table = np.stack([c, r, *columns], axis=1)
        for start in range(0, len(c), self.window):
            rows = table[start : start + self.window]
            self._ring[(self.seen + np.arange(len(rows))) % self.window] = rows
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
        draws = _draws(self.seed, len(rows), self.replicates)
        named = f"rolling, window {self.window}, guo, {bins} bins of equal width, top label"
        return draws.estimate(binned_gap(gap, index), binned_gap_draws(gap, index, draws), named, "basic")

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
        draws = _draws(self.seed, len(values), self.replicates)
        return draws.estimate(float(values.mean()), draws.means(values), f"{name}, window {self.window}")

    def _rows(self) -> Float64:
        if self.seen == 0:
            raise DataError("Rolling has seen no example yet")
        return self._ring[: min(self.seen, self.window)]

    def _share(self, column: int, name: str) -> Estimate:
        values = self._rows()[:, column]
        values = values[~np.isnan(values)]
        if len(values) == 0:
            raise DataError(f"{name}: no example of the window has it")
        low, high = wilson(float(values.sum()), len(values))
        return Estimate(
            float(values.mean()), low, high, f"{name}, window {self.window}; wilson {LEVEL:.0%}", len(values)
        )


@lru_cache(maxsize=4)
def _draws(seed: int, n: int, replicates: int) -> Draws:
    """The resamples of a window, shared by all measures and by all that are rolled together."""
    return Draws(seed, n, replicates, "rolling")

"""Accuracy, ECE and coverage over the last `window` labelled examples of a stream, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """A ring of the last `window` (confidence, correct, covered) triples and what they say.

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
        self._ring = np.full((self.window, 3), np.nan)

    def add(self, confidence: Any, correct: Any, covered: Any = None) -> None:
        """The next labelled examples: confidence, whether the prediction was right, whether the set held the label."""
        c, r = checked(confidence, correct, "Rolling")
        held = np.full(len(c), np.nan) if covered is None else np.asarray(covered, dtype=np.float64)
        for start in range(0, len(c), self.window):
            part = slice(start, start + self.window)
            rows = np.stack([c[part], r[part], held[part]], axis=1)
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
        draws = Draws(self.seed, len(rows), self.replicates, "rolling")
        named = f"rolling, window {self.window}, guo, {bins} bins of equal width, top label"
        return draws.estimate(binned_gap(gap, index), binned_gap_draws(gap, index, draws), named, "basic")

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

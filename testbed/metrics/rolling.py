"""Accuracy, ECE, NLL and coverage of a stream's last `window` labelled examples, in memory that does not grow.

Their intervals are those of the metrics of a set (`bounded`, `gaps`), with the window's distinct examples as n: an
example that is in the window several times counts once, with the mean of its rows, and its repeats narrow nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.binning import equal_width
from testbed.metrics.bootstrap import LEVEL
from testbed.metrics.bounded import clopper_pearson, gamma_interval, skewed_mean_interval
from testbed.metrics.calibration_error import of_cells
from testbed.metrics.estimate import Estimate
from testbed.metrics.gaps import Cells, cells
from testbed.metrics.inputs import confidence as checked
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
        """Share of right predictions in the window."""
        return self._share(1, "rolling accuracy")

    def coverage(self) -> Estimate:
        """Share of labels held by their sets in the window."""
        return self._share(2, "rolling coverage")

    def ece(self, bins: int = 15) -> Estimate:
        """ECE of the window."""
        rows = self._rows()
        named = f"rolling, window {self.window}, guo, {bins} bins of equal width, top label"
        found, n = cells(rows[:, 0], rows[:, 1], equal_width(rows[:, 0], bins)), self._distinct
        return of_cells(Cells(*(sums * (n / len(rows)) for sums in found)), n, named)

    def nll(self) -> Estimate:
        """Mean loss of the window in nats."""
        losses = self._each(self._all_of(3, "rolling nll"))
        low, high = skewed_mean_interval(losses)
        named = f"rolling nll, nats, window {self.window}; hall-t {LEVEL:.0%}"
        return Estimate(float(losses.mean()), max(0.0, low), high, named, len(losses))

    def set_size(self) -> Estimate:
        """Mean size of the window's sets; one more set may be one larger than the largest."""
        sizes = self._each(self._all_of(4, "rolling mean set size"))
        n, most = len(sizes), float(sizes.max()) + 1
        variance = float(sizes.var(ddof=1)) / n if n > 1 else 0.0
        low, high = gamma_interval(float(sizes.mean()), variance, most / n, (most / n) ** 2, top=most, both=n == 1)
        return Estimate(
            float(sizes.mean()), low, high, f"rolling mean set size, window {self.window}; gamma {LEVEL:.0%}", n
        )

    def _all_of(self, column: int, name: str) -> Float64:
        values = self._rows()[:, column]
        if np.isnan(values).any():
            raise DataError(f"{name}: an example of the window does not have it")
        return values

    def _each(self, values: Float64) -> Float64:
        """The mean of each distinct example's rows, moved so that their mean is that of all rows."""
        _, inverse, counts = np.unique(self._ids[: len(values)], return_inverse=True, return_counts=True)
        means = np.bincount(inverse, values) / counts
        return np.asarray(means + (values.mean() - means.mean()))

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
        rate = float(values[there].mean())
        low, high = clopper_pearson(rate * n, n)
        return Estimate(rate, low, high, f"{name}, window {self.window}; clopper-pearson {LEVEL:.0%}", n)

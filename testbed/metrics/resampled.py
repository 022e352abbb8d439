"""The shape of every metric of probabilities: a value, its bootstrap replicates, and the convention both were taken in.

`measure` gives all three, so that two methods measured under the same draws can be subtracted replicate by replicate
(`paired`). Calling the metric gives an `Estimate`: from the replicates, or, of an `Analytic` metric, without any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from testbed.metrics.bootstrap import Draws, Interval
from testbed.metrics.estimate import Estimate
from testbed.parameters import Checked
from testbed.types import Float64, Ints, Paper

_DENSE_COLUMNS: Final = 64


class Measured(NamedTuple):
    """A metric's value, its replicates float64 `[replicates]` (None: not resampled) and its convention."""

    value: float
    replicates: Float64 | None
    convention: str


@dataclass(frozen=True)
class ProbabilityMetric(Checked):
    """Base of the metrics of probabilities `[n, k]` against labels `[n]`; a subclass writes `measure`.

    `interval`, of the replicates: "basic" for statistics biased upwards near 0 (every calibration error), else
    "percentile".
    """

    needs: ClassVar[str] = "probs"
    higher_is_better: ClassVar[bool] = False
    interval: ClassVar[Interval] = "percentile"
    reference: ClassVar[Paper | None] = None

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        """The estimate with its interval."""
        value, replicates, convention = self.measure(probs, labels, draws)
        if replicates is None:
            return Estimate(value, np.nan, np.nan, f"{convention}; no interval", draws.n)
        return draws.estimate(value, replicates, convention, self.interval)

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        """Value, replicates under `draws`, convention."""
        raise NotImplementedError

    def per_example(self, probs: Any, labels: Any) -> Float64 | None:
        """The numbers `[n]` whose mean the metric is, by which differences are tested; None where it is no mean."""
        return None

    def cells(self, probs: Any, labels: Any) -> Float64 | None:
        """Gaps `[n, cells]` whose sums over examples, in absolute value, add up to n times the metric; None if none."""
        return None


@dataclass(frozen=True)
class Analytic(ProbabilityMetric):
    """Base of the metrics whose interval needs no draws; a subclass writes `estimate` beside `measure`."""

    version: ClassVar[int] = 2

    def __call__(self, probs: Any, labels: Any, *, draws: Draws) -> Estimate:
        return self.estimate(probs, labels)

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        """The value with its interval; no random numbers."""
        raise NotImplementedError


def sums_by_bin(draws: Draws, index: Ints, *values: Float64) -> tuple[Float64, ...]:
    """Resampled sums of each of `values` `[n]` in each used bin, float64 `[replicates, used bins]` each.

    Examples with a bin below 0 are left out. With many bins the table of (bin, value) columns is kept sparse.
    """
    used = np.unique(index[index >= 0])
    width = len(used)
    if width * len(values) <= _DENSE_COLUMNS:
        inside = index[:, None] == used
        sums = draws.sums(np.hstack([inside * v[:, None] for v in values]))
    else:
        sums = draws.sums(_sparse(index, used, values))
    return tuple(sums[:, j * width : (j + 1) * width] for j in range(len(values)))


def _sparse(index: Ints, used: Ints, values: tuple[Float64, ...]) -> Any:
    """Sparse `[n, used bins * len(values)]` with values[j] of each example in column j * used + its bin."""
    from scipy import sparse

    rows = np.flatnonzero(index >= 0)
    place = np.searchsorted(used, index[rows])
    data = np.concatenate([v[rows] for v in values])
    column = np.concatenate([place + j * len(used) for j in range(len(values))])
    return sparse.csr_array((data, (np.tile(rows, len(values)), column)), shape=(len(index), len(used) * len(values)))

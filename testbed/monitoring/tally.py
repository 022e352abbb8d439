"""Measures of a whole segment with intervals, from sums alone.

The bootstrap of a stream: instead of drawing n examples with replacement, each example joins each replicate Poisson(1)
times (Oza & Russell 2001; Chamandy et al. 2012, "Estimating uncertainty for massive data streams"), so that a replicate
is a running sum and no example is kept but its id. The counts are the example's, not the step's: an example that comes
round again joins the same replicates, so a set of 500 shown sixteen times is worth 500. All calibrators share the
weights, so differences between them are paired. The bins of the calibration error are the fifteen equal-width ones of
`testbed.metrics.ece`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from testbed.metrics.binning import equal_width
from testbed.metrics.bootstrap import bounds
from testbed.metrics.bounded import clopper_pearson
from testbed.monitoring.judged import Judged
from testbed.seeding import Rng
from testbed.types import Float64, Ints

BINS: Final = 15

#: P(Poisson(1) <= j) for j = 0, 1, ...
_POISSON: Final = np.array([0.36787944, 0.73575888, 0.91969860, 0.98101184, 0.99634015, 0.99940582, 0.99991676,
                            0.99998975, 0.99999887], dtype=np.float32)  # fmt: skip


def weights(ids: Ints, seed: int, replicates: int) -> Float64:
    """How often each example is in each replicate, float64 `[n, 1 + replicates]`; column 0 is the sample."""
    drawn = Rng("poisson", 2, seed, ids).uniform((replicates,), name="weights")
    counts = np.searchsorted(_POISSON, drawn, side="right").astype(np.float64)
    return np.concatenate([np.ones((len(ids), 1)), counts], axis=1)


class Tally:
    """Sums over a segment for several calibrators.

    >>> tally = Tally(["none"], replicates=50)
    >>> one = np.array([1.0])
    >>> ids = np.array([7])
    >>> tally.add([Judged(one * 0.8, one, -np.log(one * 0.8), one, one, one, one)], weights(ids, 0, 50), ids)
    >>> [(row["metric"], round(row["value"], 3)) for row in tally.rows()][:2]
    [('accuracy', 1.0), ('ece', 0.2)]
    """

    def __init__(self, names: Sequence[str], replicates: int) -> None:
        c, r = len(names), replicates + 1
        self.names, self.replicates, self.steps = list(names), replicates, 0
        self._ids: set[int] = set()
        self._total = np.zeros(r)
        self._gaps, self._loss = np.zeros((c, r, BINS)), np.zeros((c, r))
        self._shares, self._sizes = np.zeros((c, 3)), np.zeros((c, 2, 2))

    @property
    def n(self) -> int:
        """Distinct examples."""
        return len(self._ids)

    def add(self, judged: Sequence[Judged], weight: Float64, ids: Ints) -> None:
        """The next examples, as each calibrator announced them and the truth judges them."""
        self.steps += len(weight)
        self._ids.update(ids.tolist())
        self._total += weight.sum(axis=0)
        for i, one in enumerate(judged):
            bins = equal_width(one.confidence, BINS)
            inside = (bins[:, None] == np.arange(BINS)) * (one.confidence - one.correct)[:, None]
            self._gaps[i] += weight.T @ inside
            self._loss[i] += weight.T @ one.loss
            self._shares[i] += [one.correct.sum(), one.held.sum(), one.held_adaptive.sum()]
            for j, size in enumerate((one.size, one.size_adaptive)):
                self._sizes[i, j] += [size.sum(), (size**2).sum()]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a calibrator and measure; then the differences of ECE and NLL from the first calibrator."""
        if not self.steps:
            return
        divisor = np.maximum(self._total, 1.0)
        ece, nll = np.abs(self._gaps).sum(axis=2) / divisor, self._loss / divisor
        spelled = f"poisson bootstrap 95% x{self.replicates}"
        for i, name in enumerate(self.names):
            yield self._share(name, "accuracy", float(self._shares[i, 0]))
            yield self._row(
                name, "ece", ece[i], f"guo, {BINS} bins of equal width, top label; {spelled}, basic", "basic"
            )
            yield self._row(name, "nll", nll[i], f"nats; {spelled}, percentile")
            yield self._share(name, "coverage", float(self._shares[i, 1]))
            yield self._share(name, "coverage_adaptive", float(self._shares[i, 2]))
            yield self._mean(name, "set_size", *self._sizes[i, 0])
            yield self._mean(name, "set_size_adaptive", *self._sizes[i, 1])
        for i, name in enumerate(self.names[1:], start=1):
            for metric, values in (("ece_change", ece), ("nll_change", nll)):
                yield self._row(name, metric, values[i] - values[0], f"minus {self.names[0]}, paired; {spelled}")

    def _row(self, name: str, metric: str, values: Float64, convention: str, interval: Any = None) -> dict[str, Any]:
        low, high = bounds(float(values[0]), values[1:], interval=interval or "percentile")
        return self._as_row(name, metric, float(values[0]), low, high, convention)

    def _share(self, name: str, metric: str, count: float) -> dict[str, Any]:
        share = count / self.steps
        ends = clopper_pearson(share * self.n, self.n)
        return self._as_row(name, metric, share, *ends, "clopper-pearson 95%")

    def _mean(self, name: str, metric: str, total: float, squares: float) -> dict[str, Any]:
        mean = total / self.steps
        half = 1.959964 * np.sqrt(max(squares / self.steps - mean**2, 0.0) / self.n)
        return self._as_row(name, metric, mean, mean - half, mean + half, "mean number of classes per set; normal 95%")

    def _as_row(self, name: str, metric: str, value: float, low: float, high: float, convention: str) -> dict[str, Any]:
        repeats = f"; {self.n} examples in {self.steps} steps" if self.steps > self.n else ""
        return {"calibrator": name, "metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": self.n,
                "convention": convention + repeats}  # fmt: skip

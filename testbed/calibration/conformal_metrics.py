"""Conformal sets as metrics of a grid: their coverage and their size under every condition.

The threshold comes from labelled source outputs (the calibration split under the calibrator's own fit condition) and
the sets are those of the target's probabilities under the same calibrator; see `conformal` for scores and guarantee.
The guarantee holds for data exchangeable with the source, so under shift and attack coverage is what is measured, not
what was asked for. The calibrator was fitted on the same split, which costs a flexible one (isotonic) some coverage;
a temperature does not show it.

With `gamma` above 0 the target is a stream in the order of its ids whose labels arrive at once, and the error rate
asked for moves after each (adaptive conformal inference, Gibbs & Candes 2021): coverage then holds over the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.calibration.conformal import AdaptiveAlpha, Conformal, Score, scores, threshold
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import clopper_pearson, size_interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.estimated_accuracy import Labelled
from testbed.metrics.inputs import probabilities
from testbed.parameters import Checked, CountOrNone, NonNegative, OpenShare, Share
from testbed.seeding import Rng
from testbed.types import Array, Float64, Paper


@dataclass(frozen=True)
class ConformalMetric(Checked):
    """Base: the sets of the target as a bool table.

    score       "lac", "aps" or "raps"; `lam` and `k_reg` are RAPS's
    alpha       error rate asked for, in (0, 1)
    randomised  randomise APS and RAPS, keyed by example: exact coverage instead of at least as much as asked
    gamma       step of adaptive conformal inference; 0: one threshold for all
    """

    score: Score = "aps"
    alpha: OpenShare = 0.1
    lam: NonNegative = 0.01
    k_reg: CountOrNone = 5
    randomised: bool = False
    gamma: Share = 0.0

    needs: ClassVar[str] = "source"
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = Conformal.reference

    def sets(self, probs: Any, labels: Any, source: Labelled, ids: Array) -> tuple[Array, Array, str]:
        """bool `[n, k]`, labels `[n]`, and how the sets were made; `labels` serve adaptive alpha only."""
        p, y = probabilities(probs, labels, "conformal sets")
        q, t = probabilities(source.probs, source.labels, "conformal sets")
        known = np.sort(self._scores(q, source.ids)[np.arange(len(t)), t])
        table = self._scores(p, ids)
        named = (
            f"{self.score} at {1 - self.alpha:.0%}, {'' if self.randomised else 'not '}randomised, {len(t)} labelled"
        )
        if self.gamma == 0:
            return table <= threshold(known, self.alpha) + 1e-12, y, named
        return self._adaptive(known, table, y, ids), y, f"{named}, adaptive gamma {self.gamma:g} in id order"

    def _scores(self, p: Float64, ids: Array) -> Float64:
        if not self.randomised or self.score == "lac":
            return scores(p, self.score, None, self.lam, self.k_reg)
        uniform = Rng("conformal", 1, 0, ids).uniform(name="u").astype(np.float64)
        return scores(p, self.score, uniform, self.lam, self.k_reg)

    def _adaptive(self, known: Float64, table: Float64, y: Array, ids: Array) -> Array:
        aci, found = AdaptiveAlpha(self.alpha, self.gamma), np.empty(table.shape, dtype=bool)
        for row in np.argsort(ids, kind="stable").tolist():
            found[row] = table[row] <= threshold(known, aci.alpha) + 1e-12
            aci.update(missed=not found[row, y[row]])
        return found


@dataclass(frozen=True)
class ConformalCoverage(ConformalMetric):
    """Share of examples whose label is in their conformal set, with Clopper and Pearson's interval.

    >>> p = np.array([[0.9, 0.1]] * 19)
    >>> source = Labelled(p, np.array([0] * 18 + [1]), np.arange(19))
    >>> ConformalCoverage("lac")(p[:4], [0, 0, 0, 1], draws=Draws(0, 4, 10), source=source, ids=np.arange(4)).value
    0.75
    """

    higher_is_better: ClassVar[bool] = True

    def __call__(self, probs: Any, labels: Any, *, draws: Draws, source: Labelled, ids: Array) -> Estimate:
        """The coverage of the sets of `probs` `[n, k]`."""
        sets, y, named = self.sets(probs, labels, source, ids)
        held = sets[np.arange(len(y)), y]
        low, high = clopper_pearson(float(held.sum()), len(held))
        return Estimate(float(held.mean()), low, high, f"{named}; clopper-pearson {LEVEL:.0%}", len(held))


@dataclass(frozen=True)
class ConformalSize(ConformalMetric):
    """Mean number of classes in a conformal set."""

    def __call__(self, probs: Any, labels: Any, *, draws: Draws, source: Labelled, ids: Array) -> Estimate:
        """The mean size of the sets of `probs` `[n, k]`."""
        sets, _, named = self.sets(probs, labels, source, ids)
        size = sets.sum(axis=1).astype(np.float64)
        low, high = size_interval(size, sets.shape[1])
        return Estimate(float(size.mean()), low, high, f"{named}; gamma {LEVEL:.0%}", len(size))

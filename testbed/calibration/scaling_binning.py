"""The scaling-binning calibrator, one class against the rest (Kumar, Liang & Ma 2019).

A Platt curve g is fitted for each class; the range of g is cut into bins of equal mass; the output is the mean of g,
not of the labels, in the bin. So the output takes few values, whose calibration error can be measured, at the variance
of the scaling method. As in the authors' package one split serves all three steps. Rows are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration import curves
from testbed.calibration.base import Calibrator, State
from testbed.calibration.platt import Platt, log_odds, normalised, sigmoid
from testbed.parameters import Count
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class ScalingBinning(Calibrator):
    """Platt scaling, then equal-mass bins of its output; state: slope, intercept `[k]`, edges, heights, offsets.

    >>> z = np.array([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, 1.0]])
    >>> ScalingBinning(bins=2).fit(z, np.array([0, 0, 1, 1])).probs(z[:1]).round(4).tolist()
    [[0.75, 0.25]]
    """

    bins: Count = 15

    reference: ClassVar[Paper] = Paper(
        "Verified Uncertainty Calibration", "Kumar, Liang and Ma", 2019, "NeurIPS", "1909.10155"
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        scaler = Platt()._fit(x, y, features=None, unlabelled=None)
        g = _scaled(x, scaler)

        def fit(scores: Float64, targets: Float64) -> tuple[Float64, Float64]:
            inner = curves.inner_edges(scores, self.bins, "mass")
            return inner, curves.means(scores, scores, inner)

        return scaler | curves.flat(list(curves.each_class(g, y, fit)))

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return normalised(curves.read(_scaled(x, state), state))


def _scaled(x: Float64, state: State) -> Float64:
    return sigmoid(log_odds(x) * state["slope"] + np.asarray(state["intercept"]))

"""Histogram binning, one class against the rest (Zadrozny & Elkan 2001).

Each class's probability is replaced by the share of calibration examples of that class in its bin; rows are
normalised, and a row of zeros becomes uniform. An empty bin keeps its middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.calibration import curves
from testbed.calibration.base import Calibrator, State
from testbed.calibration.curves import Binning
from testbed.calibration.platt import normalised
from testbed.parameters import Count
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class Histogram(Calibrator):
    """A step curve a class; state: edges, heights, offsets (`curves`).

    bins     number of bins
    binning  "width" equal width, "mass" equal mass with ties together, "quantile" edges at the scores' quantiles

    >>> import numpy as np
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> cal = Histogram(bins=2).fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> cal.probs(p[[0, 3]], given="probs").round(4).tolist()
    [[0.6667, 0.3333], [0.0, 1.0]]
    """

    bins: Count = 15
    binning: Binning = "width"

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Obtaining Calibrated Probability Estimates from Decision Trees and Naive Bayesian Classifiers",
        "Zadrozny and Elkan", 2001, "ICML",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        def fit(scores: Float64, targets: Float64) -> tuple[Float64, Float64]:
            inner = curves.inner_edges(scores, self.bins, self.binning)
            return inner, curves.means(scores, targets, inner)

        return curves.flat(list(curves.each_class(x, y, fit))) | {"converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return normalised(curves.read(x, state))

"""Multiclass isotonic regression that keeps the ranking, IRM (Zhang, Kailkhura & Han 2020, "Mix-n-Match").

One monotone curve for all classes: the n k pairs (p_ik, 1[y_i = k]) are regressed together by pool-adjacent-violators,
1e-9 p is added so that the curve strictly rises, and rows are normalised. The same strictly rising curve on every
column keeps the order of the classes, so no prediction changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.ensemble_temperature import EnsembleTemperature
from testbed.calibration.isotonic import monotone
from testbed.types import Float64, Ints, Outputs, Paper

_RISE: Final = 1e-9


@dataclass(frozen=True)
class Irm(Calibrator):
    """One strictly rising curve for all classes; state: knots and heights float64 `[m]`.

    >>> p = np.array([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    >>> cal = Irm().fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> cal.probs(np.array([[0.8, 0.2], [0.35, 0.65]]), given="probs").round(3).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """

    inputs: ClassVar = "probs"
    argmax_preserving: ClassVar[bool] = True
    reference: ClassVar[Paper] = EnsembleTemperature.reference

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        hot = np.zeros_like(x)
        hot[np.arange(len(x)), y] = 1
        knots, heights = monotone(x.ravel(), hot.ravel())
        return {"knots": knots, "heights": heights, "converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        q = np.interp(x, state["knots"], state["heights"]) + _RISE * x
        return np.asarray(q / q.sum(axis=1, keepdims=True))

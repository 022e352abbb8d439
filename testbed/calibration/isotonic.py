"""Isotonic regression, one class against the rest (Zadrozny & Elkan 2002).

For each class k the labels 1[y = k] are regressed on the softmax probability p_k by the pool-adjacent-violators
algorithm (equal scores are pooled first), read by linear interpolation between the fitted points and held constant
outside them; rows are then normalised, and a row of zeros becomes uniform.

A class's curve is exactly 0 where only other classes were seen below a score. Those zeros are kept: the estimate is
what the method gives, NLL then states how it treats zeros, and a log-loss that explodes under isotonic regression is
a finding, not an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.platt import normalised
from testbed.types import Array, Float64, Ints, Outputs, Paper

_TIE: Final = 1e-15


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """A monotone step curve a class, interpolated and normalised.

    State: `knots` and `heights` float64 `[m]` (the curves' corners, class after class), `offsets` int64 `[k + 1]`.

    >>> p = np.array([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    >>> cal = Isotonic().fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> cal.probs(np.array([[0.65, 0.35], [0.0, 1.0]]), given="probs").tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Transforming Classifier Scores into Accurate Multiclass Probability Estimates",
        "Zadrozny and Elkan",
        2002,
        "KDD",
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        curves = [monotone(np.ascontiguousarray(x[:, k]), (y == k).astype(np.float64)) for k in range(x.shape[1])]
        return {
            "knots": np.concatenate([knots for knots, _ in curves]),
            "heights": np.concatenate([heights for _, heights in curves]),
            "offsets": np.cumsum([0] + [len(knots) for knots, _ in curves]),
            "converged": True,
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        q = np.empty_like(x)
        for k, (start, end) in enumerate(zip(state["offsets"][:-1], state["offsets"][1:])):
            q[:, k] = np.interp(x[:, k], state["knots"][start:end], state["heights"][start:end])
        return normalised(q)


def monotone(scores: Float64, targets: Float64, weights: Array | None = None) -> tuple[Float64, Float64]:
    """Corners (scores, heights) of the non-decreasing curve with the least (weighted) squared error to `targets`.

    Scores within 1e-15 of their neighbour are equal and share one height; inner points of a flat stretch are dropped,
    which changes no interpolated value.

    >>> [part.tolist() for part in monotone(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.0, 1.0, 0.0, 0.0, 1.0]))]
    [[1.0, 2.0, 4.0, 5.0], [0.0, 0.3333333333333333, 0.3333333333333333, 1.0]]
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(scores, kind="stable")
    s, t = scores[order], targets[order]
    w = np.ones(len(s)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    first = np.flatnonzero(np.concatenate([[True], s[1:] - s[:-1] > _TIE]))
    mass = np.add.reduceat(w, first)
    heights = isotonic_regression(np.add.reduceat(w * t, first) / mass, weights=mass).x
    s = s[first]
    inner = np.zeros(len(s), dtype=bool)
    inner[1:-1] = (heights[1:-1] == heights[:-2]) & (heights[1:-1] == heights[2:])
    return s[~inner], heights[~inner]

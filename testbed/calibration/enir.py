"""Ensemble of near-isotonic regressions, ENIR, one class against the rest (Naeini & Cooper 2016).

Near-isotonic regression (Tibshirani, Hoefling & Tibshirani 2011) allows falls at a price,

    1/2 sum_i (y_i - f_i)^2 + lam sum_i max(f_i - f_{i+1}, 0),

and its solutions for all lam form a path: from the data (lam = 0) to isotonic regression, neighbours merging one by one
as lam grows. All solutions on the path are averaged with weights exp(-BIC / 2), BIC from the Bernoulli likelihood with
as many parameters as groups. Read by linear interpolation between scores; rows are normalised.

Equal scores are pooled first. A merge costs one pass over the groups, so a fit is quadratic in the number of label
changes along the scores: seconds at 10,000 examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.platt import normalised
from testbed.types import Float64, Ints, Outputs, Paper

_CLIP: Final = 1e-6
_NEGLIGIBLE: Final = 40.0


@dataclass(frozen=True)
class Enir(Calibrator):
    """A BIC-weighted average of near-isotonic curves a class; state: knots, heights `[m]`, offsets `[k + 1]`.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> cal = Enir().fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> cal.probs(p[[0, 3]], given="probs").round(2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Binary Classifier Calibration using an Ensemble of Near Isotonic Regression Models",
        "Naeini and Cooper",
        2016,
        "ICDM",
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        curves = [averaged(x[:, k], (y == k).astype(np.float64)) for k in range(x.shape[1])]
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


def averaged(scores: Float64, targets: Float64) -> tuple[Float64, Float64]:
    """Distinct scores and the averaged curve's heights at them."""
    knots, inverse = np.unique(scores, return_inverse=True)
    mass = np.bincount(inverse).astype(np.float64)
    hits = np.asarray(np.bincount(inverse, targets), dtype=np.float64)
    kept: list[tuple[float, Ints, Float64]] = []
    least = np.inf
    for sizes, heights in path(hits / mass, mass):
        bic = _bic(np.repeat(heights, sizes), mass, hits, len(heights))
        least = min(least, bic)
        kept = [model for model in kept if model[0] < least + _NEGLIGIBLE]
        if bic < least + _NEGLIGIBLE:
            kept.append((bic, sizes, heights))
    weights = np.exp([(least - bic) / 2 for bic, _, _ in kept])
    total = sum(w * np.repeat(heights, sizes) for w, (_, sizes, heights) in zip(weights, kept))
    return knots, np.asarray(total / weights.sum())


def path(values: Float64, mass: Float64) -> list[tuple[Ints, Float64]]:
    """The near-isotonic path: (group sizes, group heights) at each lam where groups merge, from lam = 0 on.

    >>> [heights.round(4).tolist() for _, heights in path(np.array([1.0, 0.0, 1.0]), np.ones(3))]
    [[1.0, 0.0, 1.0], [0.5, 1.0]]
    """
    sizes = np.ones(len(values), dtype=np.int64)
    heights, weight = values.astype(np.float64), mass.astype(np.float64)
    solutions: list[tuple[Ints, Float64]] = []
    while True:
        sizes, heights, weight = _merge(sizes, heights, weight)
        solutions.append((sizes, heights))
        falls = heights[:-1] > heights[1:]
        if not falls.any():
            return solutions
        slope = (np.concatenate([[False], falls]).astype(float) - np.concatenate([falls, [False]])) / weight
        closing = slope[:-1] - slope[1:]
        distance = heights[1:] - heights[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            time = np.where(closing * distance > 0, distance / closing, np.inf)
        step = time.min()
        heights = heights + step * slope
        touch = np.flatnonzero(time <= step * (1 + 1e-12))
        heights[touch + 1] = heights[touch]


def _merge(sizes: Ints, heights: Float64, weight: Float64) -> tuple[Ints, Float64, Float64]:
    """Neighbouring groups of equal height made one."""
    first = np.flatnonzero(np.concatenate([[True], np.abs(np.diff(heights)) > 1e-12]))
    mass = np.add.reduceat(weight, first)
    return np.add.reduceat(sizes, first), np.add.reduceat(heights * weight, first) / mass, mass


def _bic(fitted: Float64, mass: Float64, hits: Float64, groups: int) -> float:
    q = np.clip(fitted, _CLIP, 1 - _CLIP)
    likelihood = float(hits @ np.log(q) + (mass - hits) @ np.log1p(-q))
    return -2 * likelihood + groups * float(np.log(mass.sum()))

"""Inductive Venn-Abers prediction, one class against the rest (Vovk, Petej & Fedorova 2015).

A test score s is added to the calibration scores once with label 0 and once with label 1; isotonic regression of each
gives p0 and p1 at s. One of the two is perfectly calibrated whatever the distribution; merged for log loss they give

    p = p1 / (1 - p0 + p1),

which is never exactly 0 or 1. Rows are normalised.

Isotonic regression is the lower convex hull of cumulative sums, and adding a point shifts the part right of it. So all
possible test positions (at each distinct score and between them) are solved beforehand, each by the bridge between the
hull on its left and the hull on its right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.platt import normalised
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class VennAbers(Calibrator):
    """Merged Venn-Abers probabilities a class, normalised.

    State: `scores` float64 `[m]` and `lower`, `upper` (p0, p1) `[2 m + k]`, class after class, `offsets` `[k + 1]`.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> cal = VennAbers().fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> cal.probs(np.array([[0.85, 0.15]]), given="probs").round(4).tolist()
    [[0.6667, 0.3333]]
    """

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Large-scale Probabilistic Predictors with and without Guarantees of Validity",
        "Vovk, Petej and Fedorova", 2015, "NeurIPS", "1511.00213",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        curves = [brackets(x[:, k], (y == k).astype(np.float64)) for k in range(x.shape[1])]
        return {
            "scores": np.concatenate([scores for scores, _, _ in curves]),
            "lower": np.concatenate([lower for _, lower, _ in curves]),
            "upper": np.concatenate([upper for _, _, upper in curves]),
            "offsets": np.cumsum([0] + [len(scores) for scores, _, _ in curves]),
            "converged": True,
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        q = np.empty_like(x)
        for k, (start, end) in enumerate(zip(state["offsets"][:-1], state["offsets"][1:])):
            scores = state["scores"][start:end]
            below = np.searchsorted(scores, x[:, k], side="left")
            upto = np.searchsorted(scores, x[:, k], side="right")
            place = 2 * start + k + below + upto
            p0, p1 = state["lower"][place], state["upper"][place]
            q[:, k] = p1 / (1 - p0 + p1)
        return normalised(q)


def brackets(scores: Float64, targets: Float64) -> tuple[Float64, Float64, Float64]:
    """Distinct scores `[m]` and (p0, p1) at the 2 m + 1 positions: below the first, at it, between, at the next, ..."""
    distinct, inverse = np.unique(scores, return_inverse=True)
    x = np.concatenate([[0.0], np.cumsum(np.bincount(inverse))])
    y = np.concatenate([[0.0], np.cumsum(np.bincount(inverse, targets))])
    back, ahead = _links(x, y), _ahead(x, y)
    places = [(i // 2, (i + 1) // 2) for i in range(2 * len(distinct) + 1)]
    lower = np.array([_bridge(x, y, back, ahead, left, right, 0.0) for left, right in places])
    upper = np.array([_bridge(x, y, back, ahead, left, right, 1.0) for left, right in places])
    return distinct, lower, upper


def _links(x: Float64, y: Float64) -> Ints:
    """For each point the one before it on the lower hull of the points up to it (itself for the first)."""
    link = np.zeros(len(x), dtype=np.int64)
    stack = [0]
    for i in range(1, len(x)):
        while len(stack) > 1:
            a, b = stack[-2], stack[-1]
            if (y[b] - y[a]) * (x[i] - x[b]) < (y[i] - y[b]) * (x[b] - x[a]):
                break
            stack.pop()
        link[i] = stack[-1]
        stack.append(i)
    return link


def _ahead(x: Float64, y: Float64) -> Ints:
    """For each point the one after it on the lower hull of the points from it on (itself for the last)."""
    mirrored = _links(-x[::-1], y[::-1])
    return np.asarray(len(x) - 1 - mirrored[::-1])


def _bridge(x: Float64, y: Float64, back: Ints, ahead: Ints, left: int, right: int, label: float) -> float:
    """Slope of the hull over the added point: its group reaches from `left` to `right` shifted by (1, label)."""
    while True:
        slope = (y[right] + label - y[left]) / (x[right] + 1 - x[left])
        before, after = back[left], ahead[right]
        if before != left and (y[left] - y[before]) > slope * (x[left] - x[before]):
            left = before
        elif after != right and (y[after] - y[right]) < slope * (x[after] - x[right]):
            right = after
        else:
            return float(slope)

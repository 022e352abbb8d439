"""Temperature scaling: one number divides all logits (Guo et al. 2017, "On calibration of modern neural networks").

    p = softmax(z / T),   T = argmin of the mean NLL on the calibration split, T > 0

The mean NLL is convex in b = 1/T. With d = z - max(z) and the moments of d under softmax(b d),

    f'(b) = mean(E[d] - d_y),    f''(b) = mean(Var[d]) >= 0,

so f' grows in u = log b, and a Newton step on u inside a shrinking bracket finds its only zero: T > 0 by construction,
no learning rate, no starting point to choose. The state reports |d NLL / d log T| where it stopped.

Where the optimum is at infinity (every calibration example right: T -> 0; accuracy below chance: T -> infinity) T
stops at the bound 1e-3 or 1e3, or where the NLL is as good as 0, and the state says `at_bound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import check_rows, softmax
from testbed.types import Array, Float64, Ints, Outputs, Paper

LARGEST: Final = 1e3
_TOLERANCE: Final = 1e-12
_BLOCK_VALUES: Final = 2**16


@dataclass(frozen=True)
class Temperature(Calibrator):
    """softmax(z / T) with the T that minimises NLL; state: temperature, gradient, iterations, converged, at_bound.

    >>> z = np.log(np.array([[0.9, 0.1]] * 4))
    >>> cal = Temperature().fit(z, np.array([0, 0, 0, 1]))
    >>> cal.probs(z[:1]).round(6).tolist(), round(cal.state()["temperature"], 6)
    ([[0.75, 0.25]], 2.0)
    """

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "On Calibration of Modern Neural Networks", "Guo, Pleiss, Sun and Weinberger", 2017, "ICML", "1706.04599"
    )

    def logits(self, logits: Array) -> Float64:
        """z / T, float64 `[n k]`: what a detector reads, so that the order of its largest logits is not lost."""
        return check_rows(logits, "logits", self.inputs, self._name) / float(self._learned()["temperature"])

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        return solve(x, y)._asdict()

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x / state["temperature"])


class Solution(NamedTuple):
    """A fitted temperature and how it was found; `gradient` is |d mean NLL / d log T| at it."""

    temperature: float
    gradient: float
    iterations: int
    converged: bool
    at_bound: bool


def solve(logits: Array, labels: Ints, weights: Float64 | None = None) -> Solution:
    """The temperature that minimises the (weighted) mean NLL of softmax(logits / T), T in [1e-3, 1e3].

    `weights` float `[n]` >= 0, for importance-weighted fits. Where T stops at a bound, `at_bound` says so.

    >>> solve(np.log(np.array([[0.9, 0.1]] * 4)), np.array([0, 0, 0, 1])).temperature.__round__(6)
    2.0
    """
    d = np.array(logits, dtype=np.float64, order="C")
    d -= d.max(axis=1, keepdims=True)
    w = np.full(len(d), 1 / len(d)) if weights is None else weights / weights.sum()
    truth = float(w @ d[np.arange(len(d)), labels])
    low, high = -np.log(LARGEST), np.log(LARGEST)
    u, step = 0.0, 0
    while step < 100:
        step += 1
        mean, variance = _moments(d, np.exp(u), w)
        slope = mean - truth
        low, high = (low, u) if slope > 0 else (u, high)
        if abs(slope) * np.exp(u) < _TOLERANCE or high - low < 1e-15:
            break
        proposal = u - slope / (np.exp(u) * variance) if variance > 0 else -np.inf * slope
        u = float(proposal) if low < proposal < high else _inside(u, proposal, low, high)
    gradient = abs(slope) * float(np.exp(u))
    at_bound = bool(abs(u) > np.log(LARGEST) - 1e-9 or truth == 0)  # truth 0: all right, so the best T is 0
    return Solution(float(np.exp(-u)), gradient, step, bool(gradient < 1e-6) and not at_bound, at_bound)


def _inside(u: float, proposal: float, low: float, high: float) -> float:
    """A point inside the bracket for a step that left it: the bound itself once, then the middle."""
    bound = float(np.log(LARGEST))
    if proposal >= high:
        return high if high == bound and u < high - 3 else (u + high) / 2
    return low if low == -bound and u > low + 3 else (u + low) / 2


def _moments(d: Float64, b: float, w: Float64) -> tuple[float, float]:
    """Weighted mean over examples of E[d] and of Var[d] under softmax(b d); blocks of rows stay in cache."""
    rows = max(1, _BLOCK_VALUES // d.shape[1])
    mean = variance = 0.0
    buffer = np.empty((min(rows, len(d)), d.shape[1]))
    for start in range(0, len(d), rows):
        part, weight = d[start : start + rows], w[start : start + rows]
        e = np.multiply(part, b, out=buffer[: len(part)])
        np.exp(e, out=e)
        total = e.sum(axis=1)
        e *= part
        first = e.sum(axis=1) / total
        second = np.einsum("nk,nk->n", e, part) / total
        mean += float(weight @ first)
        variance += float(weight @ (second - first * first))
    return mean, variance

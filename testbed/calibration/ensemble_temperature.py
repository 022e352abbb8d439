"""Ensemble temperature scaling, ETS (Zhang, Kailkhura & Han 2020, "Mix-n-Match").

    p = w1 softmax(z / T) + w2 softmax(z) + w3 / k,   w in the simplex

As in the paper T is found first, then w, both by least squared error to the one-hot labels: T in [0.05, 5] by Brent's
method, w exactly, by trying every face of the simplex of a quadratic in three weights.

At chance the best mixture is the uniform prediction alone, which ties every row and so decides by the order of the
classes. The raw prediction keeps a share of 1e-6 there: the ranks stay, and the state says `at_bound`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.types import Float64, Ints, Outputs, Paper

_BOUNDS: Final = (0.05, 5.0)
_LEAST_SHARE: Final = 1e-6


@dataclass(frozen=True)
class EnsembleTemperature(Calibrator):
    """A mixture of the scaled, the raw and the uniform prediction; state: temperature, weights `[3]`, at_bound.

    >>> z = np.log(np.array([[0.9, 0.1]] * 4))
    >>> EnsembleTemperature().fit(z, np.array([0, 0, 0, 1])).probs(z[:1]).round(4).tolist()
    [[0.75, 0.25]]
    """

    version: ClassVar[int] = 2
    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep Learning",
        "Zhang, Kailkhura and Han", 2020, "ICML", "2003.07329",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        from scipy.optimize import minimize_scalar

        rows = np.arange(len(x))

        def squared(log_t: float) -> float:
            p = softmax(x / np.exp(log_t))
            return float((np.einsum("nk,nk->n", p, p) - 2 * p[rows, y]).mean())

        found = minimize_scalar(squared, bounds=np.log(_BOUNDS), method="bounded", options={"xatol": 1e-6})
        temperature = float(np.exp(found.x))
        members = (softmax(x / temperature), softmax(x), np.full_like(x, 1 / x.shape[1]))
        gram = np.array([[float((a * b).sum()) for b in members] for a in members]) / len(x)
        pull = np.array([float(a[rows, y].mean()) for a in members])
        scaled, raw, uniform = on_simplex(gram, pull)
        flat = max(0.0, _LEAST_SHARE - scaled - raw)
        return {
            "temperature": temperature,
            "weights": np.array([scaled, raw + flat, uniform - flat]),
            "converged": bool(found.success),
            "at_bound": bool(flat > 0 or (np.abs(np.log(_BOUNDS) - found.x).min() < 1e-4 and scaled > 0)),
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        scaled, raw, uniform = state["weights"]
        p = scaled * softmax(x / state["temperature"]) + raw * softmax(x) + uniform / x.shape[1]
        return np.asarray(p / p.sum(axis=1, keepdims=True))


def on_simplex(gram: Float64, pull: Float64) -> Float64:
    """The weights >= 0 with sum 1 that minimise w' gram w - 2 pull' w, by trying every face (few weights only).

    >>> on_simplex(np.eye(3), np.array([0.9, 0.1, -5.0])).round(6).tolist()
    [0.9, 0.1, 0.0]
    """
    m = len(pull)
    best, least = np.full(m, 1 / m), np.inf
    for size in range(m, 0, -1):
        for face in itertools.combinations(range(m), size):
            rows = list(face)
            system = np.ones((size + 1, size + 1))
            system[:size, :size] = gram[np.ix_(rows, rows)]
            system[size, size] = 0
            solution = np.linalg.lstsq(system, np.append(pull[rows], 1.0), rcond=1e-12)[0][:size]
            if solution.min() < 0 or abs(solution.sum() - 1) > 1e-6:
                continue
            w = np.zeros(m)
            w[rows] = solution / solution.sum()
            value = float(w @ gram @ w - 2 * pull @ w)
            if value < least - 1e-12:
                best, least = w, value
    return best

"""Beta calibration, one class against the rest (Kull, Silva Filho & Flach 2017).

    q_k = sigma(a ln p_k - b ln(1 - p_k) + c),   a, b >= 0

by maximum likelihood; where a or b comes out negative it is set to 0 and the rest is fitted again, as the paper does.
Rows are normalised. With two classes both columns are fitted, which agrees with the binary method because swapping the
classes swaps a and b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import log_probs
from testbed.calibration.platt import log_odds, normalised, sigmoid
from testbed.types import Float64, Ints, Outputs, Paper

_RIDGE: Final = 1e-9
_TOLERANCE: Final = 1e-8


@dataclass(frozen=True)
class Beta(Calibrator):
    """A beta-family curve a class, normalised; state: coefficients float64 `[k, 3]` (a, b, c), gradient, converged.

    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.5, 0.5], [0.5, 0.5]])
    >>> cal = Beta().fit(p, np.array([0, 1, 1, 1, 0, 1]), given="probs")
    >>> cal.state()["coefficients"].shape
    (2, 3)
    """

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Beta Calibration: A Well-Founded and Easily Implemented Improvement on Logistic Calibration"
        " for Binary Classifiers",
        "Kull, Silva Filho and Flach", 2017, "AISTATS",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        inside, outside = _logs(x)
        fits = [_curve(inside[:, k], outside[:, k], (y == k).astype(np.float64)) for k in range(x.shape[1])]
        size = max(gradient for _, gradient in fits)
        return {"coefficients": np.array([c for c, _ in fits]), "gradient": size, "converged": size < 1e-4}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        inside, outside = _logs(x)
        a, b, c = state["coefficients"].T
        return normalised(sigmoid(a * inside + b * outside + c))


def _logs(x: Float64) -> tuple[Float64, Float64]:
    """ln p and -ln(1 - p) of the softmax, without cancellation."""
    inside = log_probs(x)
    return inside, log_odds(x) - inside


def _curve(inside: Float64, outside: Float64, targets: Float64) -> tuple[Float64, float]:
    """(a, b, c) of one class and the largest gradient component over the free ones."""
    design = np.stack([inside, outside, np.ones_like(inside)], axis=1)
    free = np.array([True, True, True])
    while True:
        theta, gradient = _logistic(design[:, free], targets)
        negative = np.flatnonzero(free[:2] & (np.pad(theta, (0, 3 - len(theta)))[np.cumsum(free)[:2] - 1] < 0))
        if len(negative) == 0:
            out = np.zeros(3)
            out[free] = theta
            return out, gradient
        free[negative[0]] = False


def _logistic(design: Float64, targets: Float64) -> tuple[Float64, float]:
    """Logistic regression by damped Newton on standardised columns, with a ridge of 1e-9 that bounds separable fits."""
    scale = np.maximum(np.abs(design).max(axis=0), 1e-12)
    d = design / scale
    theta = np.zeros(d.shape[1])

    def loss(t: Float64) -> float:
        u = d @ t
        return float((np.logaddexp(0.0, u) - targets * u).mean() + _RIDGE / 2 * (t @ t))

    value, gradient = loss(theta), np.full(len(theta), np.inf)
    for _ in range(100):
        q = sigmoid(d @ theta)
        gradient = d.T @ (q - targets) / len(d) + _RIDGE * theta
        if np.abs(gradient).max() < _TOLERANCE:
            break
        hessian = (d * (q * (1 - q))[:, None]).T @ d / len(d) + _RIDGE * np.eye(len(theta))
        direction, length = np.linalg.solve(hessian, gradient), 1.0
        while (trial := loss(theta - length * direction)) > value and length > 1e-6:
            length /= 2
        theta, value = theta - length * direction, trial
    return theta / scale, float(np.abs(gradient).max())

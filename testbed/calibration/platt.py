"""Platt scaling, one class against the rest (Platt 1999, "Probabilistic outputs for support vector machines").

For each class k a logistic curve q_k = sigma(a_k s_k + b_k) is fitted by maximum likelihood to Platt's smoothed targets
(n+ + 1)/(n+ + 2) for the n+ examples of the class and 1/(n- + 2) for the others, and rows are normalised:
p_k = q_k / sum_j q_j (Zadrozny & Elkan 2002). The score s_k is the log odds of the softmax,
log p_k - log(1 - p_k), which does not change when a constant is added to a row of logits; `score="logit"` takes z_k
itself, as libraries do that calibrate decision values.

Newton's method with the exact 2 x 2 Hessian (Lin, Lin & Weng 2007); the smoothed targets keep the optimum finite,
also for a class without examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NamedTuple

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import log_probs
from testbed.types import Float64, Ints, Outputs, Paper

_TOLERANCE: Final = 1e-10


@dataclass(frozen=True)
class Platt(Calibrator):
    """One logistic curve a class, normalised; state: slope and intercept float64 `[k]`, gradient, converged.

    >>> z = np.array([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, 1.0]])
    >>> Platt().fit(z, np.array([0, 0, 1, 1])).probs(z[:1]).round(4).tolist()
    [[0.75, 0.25]]
    """

    score: Literal["log_odds", "logit"] = "log_odds"

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods",
        "Platt",
        1999,
        "Advances in Large Margin Classifiers",
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        curves = [curve(s, smoothed(y == k)) for k, s in enumerate(self._scores(x).T)]
        return {
            "slope": np.array([c.slope for c in curves]),
            "intercept": np.array([c.intercept for c in curves]),
            "gradient": max(c.gradient for c in curves),
            "iterations": max(c.iterations for c in curves),
            "converged": all(c.converged for c in curves),
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        q = sigmoid(self._scores(x) * state["slope"] + state["intercept"])
        return normalised(q)

    def _scores(self, x: Float64) -> Float64:
        return x if self.score == "logit" else log_odds(x)


class Curve(NamedTuple):
    """A fitted logistic curve sigma(slope s + intercept); `gradient` is the mean loss's, largest component."""

    slope: float
    intercept: float
    gradient: float
    iterations: int
    converged: bool


def log_odds(logits: Float64) -> Float64:
    """log p_k - log(1 - p_k) of the softmax of each row, float64 `[n, k]`, without cancellation.

    >>> log_odds(np.log(np.array([[0.2, 0.3, 0.5]]))).round(4).tolist()
    [[-1.3863, -0.8473, 0.0]]
    """
    log_p = log_probs(logits)
    best = np.argmax(log_p, axis=1)
    rows = np.arange(len(log_p))
    others = np.exp(log_p)
    others[rows, best] = 0.0
    rest = np.log(np.maximum(others.sum(axis=1), np.finfo(np.float64).tiny))
    complement = np.log1p(-np.minimum(np.exp(log_p), 0.75))
    complement[rows, best] = np.where(log_p[rows, best] > np.log(0.75), rest, complement[rows, best])
    return log_p - complement


def smoothed(positive: np.ndarray) -> Float64:
    """Platt's targets: (n+ + 1)/(n+ + 2) where `positive`, 1/(n- + 2) elsewhere.

    >>> smoothed(np.array([True, False, False])).round(4).tolist()
    [0.6667, 0.25, 0.25]
    """
    n = int(positive.sum())
    return np.where(positive, (n + 1) / (n + 2), 1 / (len(positive) - n + 2))


def curve(scores: Float64, targets: Float64) -> Curve:
    """The logistic curve of `scores` `[n]` with the least cross-entropy to `targets` `[n]` in (0, 1)."""
    scale = float(scores.std()) or 1.0
    shift = float(scores.mean())
    s = (scores - shift) / scale
    theta = np.array([0.0, float(np.log(targets.mean() / (1 - targets.mean())))])
    loss, gradient, hessian = _derivatives(theta, s, targets)
    step = 0
    while step < 100:
        step += 1
        if np.abs(gradient).max() < _TOLERANCE:
            break
        direction = np.linalg.solve(hessian + 1e-14 * np.eye(2), gradient)
        length = 1.0
        while length > 1e-8:
            trial = _derivatives(theta - length * direction, s, targets)
            if trial[0] <= loss + 1e-15:
                break
            length /= 2
        theta, (loss, gradient, hessian) = theta - length * direction, trial
    slope = theta[0] / scale
    size = float(np.abs([gradient[0] * scale + gradient[1] * shift, gradient[1]]).max())
    return Curve(float(slope), float(theta[1] - slope * shift), size, step, size < 1e-6)


def _derivatives(theta: Float64, s: Float64, targets: Float64) -> tuple[float, Float64, Float64]:
    """Mean cross-entropy of the curve, its gradient `[2]` and Hessian `[2, 2]` in (slope, intercept)."""
    u = theta[0] * s + theta[1]
    q = sigmoid(u)
    loss = float((np.logaddexp(0.0, u) - targets * u).mean())
    residual = q - targets
    weight = q * (1 - q)
    cross = float(weight @ s) / len(s)
    hessian = np.array([[float(weight @ (s * s)) / len(s), cross], [cross, float(weight.mean())]])
    return loss, np.array([float(residual @ s) / len(s), float(residual.mean())]), hessian


def sigmoid(u: Float64) -> Float64:
    """1 / (1 + exp(-u)) without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, small) / (1.0 + small)


def normalised(q: Float64) -> Float64:
    """Rows of `q` >= 0 divided by their sums; a row of zeros becomes uniform.

    >>> normalised(np.array([[1.0, 3.0], [0.0, 0.0]])).tolist()
    [[0.25, 0.75], [0.5, 0.5]]
    """
    total = q.sum(axis=1, keepdims=True)
    return np.where(total > 0, q / np.where(total > 0, total, 1.0), 1 / q.shape[1])

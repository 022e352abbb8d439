"""Beta calibration (Kull, Silva Filho & Flach 2017), for several classes in one of two forms:

    one_vs_rest  q_k = sigma(u_k), rows normalised; each class is fitted alone against the rest
    joint        q = softmax(u), all classes fitted together; the form that netcal fits

    u_k = a_k ln p_k - b_k ln(1 - p_k) + c_k,   a, b >= 0,   by maximum likelihood

In `one_vs_rest`, where a or b comes out negative it is set to 0 and the rest is fitted again, as the paper does; with
two classes both columns are fitted, which agrees with the binary method because swapping the classes swaps a and b.
`joint` is solved by L-BFGS-B with a and b bounded at 0. It has the lower NLL on a large calibration split and the
higher one on a small split (of a few hundred examples of ten classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import log_probs, softmax
from testbed.calibration.platt import log_odds, normalised, sigmoid
from testbed.types import Float64, Ints, Outputs, Paper

_RIDGE: Final = 1e-9
_TOLERANCE: Final = 1e-8


@dataclass(frozen=True)
class Beta(Calibrator):
    """A beta-family curve for each class; state: coefficients float64 `[k, 3]` (a, b, c), gradient, converged.

    form  "one_vs_rest" or "joint"

    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.5, 0.5], [0.5, 0.5]])
    >>> cal = Beta().fit(p, np.array([0, 1, 1, 1, 0, 1]), given="probs")
    >>> cal.state()["coefficients"].shape
    (2, 3)
    """

    form: Literal["one_vs_rest", "joint"] = "one_vs_rest"

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Beta Calibration: A Well-Founded and Easily Implemented Improvement on Logistic Calibration"
        " for Binary Classifiers",
        "Kull, Silva Filho and Flach", 2017, "AISTATS",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        inside, outside = _logs(x)
        if self.form == "joint":
            return _joint(inside, outside, y)
        fits = [_curve(inside[:, k], outside[:, k], (y == k).astype(np.float64)) for k in range(x.shape[1])]
        size = max(gradient for _, gradient in fits)
        return {"coefficients": np.array([c for c, _ in fits]), "gradient": size, "converged": size < 1e-4}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        inside, outside = _logs(x)
        a, b, c = state["coefficients"].T
        u = a * inside + b * outside + c
        return softmax(u) if self.form == "joint" else normalised(sigmoid(u))


def _joint(inside: Float64, outside: Float64, y: Ints) -> State:
    """The state of the joint form: the coefficients of least mean NLL of softmax(u), from a = 1, b = c = 0."""
    from scipy.optimize import minimize

    n, k = inside.shape
    rows = np.arange(n)

    def objective(theta: Float64) -> tuple[float, Float64]:
        a, b, c = theta.reshape(3, k)
        p = softmax(u := a * inside + b * outside + c)
        u -= u.max(axis=1, keepdims=True)
        value = float((np.log(np.exp(u).sum(axis=1)) - u[rows, y]).mean()) + _RIDGE / 2 * float(theta @ theta)
        p[rows, y] -= 1
        slopes = [np.einsum("nk,nk->k", p, inside), np.einsum("nk,nk->k", p, outside), p.sum(axis=0)]
        return value, np.concatenate(slopes) / n + _RIDGE * theta

    start = np.concatenate([np.ones(k), np.zeros(2 * k)])
    bounds = [(0.0, None)] * (2 * k) + [(None, None)] * k
    options = {"ftol": 1e-15, "gtol": 1e-7, "maxiter": 2000, "maxfun": 4000}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    theta, gradient = np.asarray(found.x), objective(np.asarray(found.x))[1]
    held = (theta <= 0) & (np.arange(3 * k) < 2 * k)
    size = float(np.where(held, np.maximum(-gradient, 0.0), np.abs(gradient)).max())
    return {"coefficients": theta.reshape(3, k).T.copy(), "gradient": size, "converged": size < 1e-4}


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

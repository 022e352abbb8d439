"""Gaussian-process calibration (Wenger, Kjellstroem & Triebel 2020, "Non-parametric calibration for classification").

One latent function f, shared by all classes, is applied to each log-probability, and a softmax to the results:

    p = softmax(f(u_1), ..., f(u_k)),   u = log softmax(z),   f(u) = u + g(u),   g ~ GP(0, s^2 exp(-(u - v)^2 / 2 l^2))

The prior mean u leaves the model as it is. g is held at `points` inducing inputs (quantiles of u), linear between them
and constant outside, and found as the posterior mode by Newton's method: the objective is convex. Scale s and length l
are those of a small grid with the largest Laplace evidence on a sample. The paper's posterior is variational and its
predictions average over it; the mode is taken here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import log_probs, softmax
from testbed.parameters import Count
from testbed.types import Float64, Ints, Outputs, Paper

_SCALES: Final = (0.3, 1.0, 3.0)
_LENGTHS: Final = (0.1, 0.3, 1.0)
_SAMPLE: Final = 2_000


@dataclass(frozen=True)
class GaussianProcess(Calibrator):
    """A latent curve shared by the classes; state: inputs and values `[points]`, scale, length, gradient, converged.

    >>> rng = np.random.default_rng(0)
    >>> z = 3 * rng.normal(size=(300, 3))
    >>> cal = GaussianProcess().fit(z, z.argmax(1) * (rng.random(300) < 0.7))
    >>> cal.state()["converged"]
    True
    """

    points: Count = 16

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Non-Parametric Calibration for Classification",
        "Wenger, Kjellstroem and Triebel", 2020, "AISTATS", "1906.04933",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        u = log_probs(x)
        inputs = np.unique(np.quantile(u, np.linspace(0, 1, self.points)))
        inputs = inputs if len(inputs) > 1 else np.array([inputs[0] - 1, inputs[0]])
        span = float(inputs[-1] - inputs[0])
        order = np.lexsort((*u.T, y))[:: max(1, len(u) // _SAMPLE)]
        grid = [(s, length * span) for s in _SCALES for length in _LENGTHS]
        scale, length = max(grid, key=lambda g: _mode(u[order], y[order], inputs, *g).evidence)
        mode = _mode(u, y, inputs, scale, length)
        return {
            "inputs": inputs,
            "values": mode.values,
            "scale": float(scale),
            "length": float(length),
            "gradient": mode.gradient,
            "converged": mode.gradient < 1e-6,
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        u = log_probs(x)
        return softmax(u + np.interp(u, state["inputs"], state["values"]))


class _Mode(NamedTuple):
    values: Float64
    gradient: float
    evidence: float


def _mode(u: Float64, y: Ints, inputs: Float64, scale: float, length: float) -> _Mode:
    """Posterior mode at the inducing inputs, the largest gradient component (of the mean), and the Laplace evidence."""
    m = len(inputs)
    prior = scale**2 * np.exp(-((inputs[:, None] - inputs) ** 2) / (2 * length**2)) + 1e-6 * scale**2 * np.eye(m)
    precision: Float64 = np.asarray(np.linalg.inv(prior), dtype=np.float64)
    left = np.clip(np.searchsorted(inputs, u, side="right") - 1, 0, m - 2)
    part = np.clip((u - inputs[left]) / (inputs[left + 1] - inputs[left]), 0.0, 1.0)
    values = np.zeros(m)
    loss, p = _loss(u, y, inputs, values, precision)
    size = np.inf
    for _ in range(50):
        gradient, hessian = _derivatives(p, y, left, part, m)
        gradient = gradient + precision @ values
        size = float(np.abs(gradient).max()) / len(y)
        if size < 1e-9:
            break
        direction, length_of_step = np.linalg.solve(hessian + precision, gradient), 1.0
        while length_of_step > 1e-8:
            trial = values - length_of_step * direction
            new_loss, new_p = _loss(u, y, inputs, trial, precision)
            if new_loss <= loss + 1e-12 * abs(loss):
                break
            length_of_step /= 2
        values, loss, p = trial, new_loss, new_p
    _, hessian = _derivatives(p, y, left, part, m)
    evidence = -loss - 0.5 * float(np.linalg.slogdet(np.eye(m) + prior @ hessian)[1])
    return _Mode(values, size, evidence)


def _loss(u: Float64, y: Ints, inputs: Float64, values: Float64, precision: Float64) -> tuple[float, Float64]:
    """Negative log posterior (summed, up to a constant) and the probabilities."""
    logs = log_probs(u + np.interp(u, inputs, values))
    return -float(logs[np.arange(len(y)), y].sum()) + 0.5 * float(values @ precision @ values), np.exp(logs)


def _derivatives(p: Float64, y: Ints, left: Ints, part: Float64, m: int) -> tuple[Float64, Float64]:
    """Gradient `[m]` and Hessian `[m, m]` of the summed NLL in the values at the inducing inputs."""
    n, k = p.shape
    rows = np.repeat(np.arange(n), k)
    near, far = left.ravel(), left.ravel() + 1
    weight = p.ravel()
    low, high = weight * (1 - part.ravel()), weight * part.ravel()
    size = n * m
    mean = np.bincount(rows * m + near, low, size) + np.bincount(rows * m + far, high, size)
    mean = mean.reshape(n, m)
    at = left[np.arange(n), y]
    share = part[np.arange(n), y]
    truth = np.bincount(at, 1 - share, m) + np.bincount(at + 1, share, m)
    hessian = np.zeros((m, m))
    np.add.at(hessian, (np.arange(m), np.arange(m)), np.bincount(near, low * (1 - part.ravel()), m))
    np.add.at(hessian, (np.arange(m), np.arange(m)), np.bincount(far, high * part.ravel(), m))
    cross = np.bincount(near, low * part.ravel(), m)[: m - 1]
    hessian[np.arange(m - 1), np.arange(1, m)] += cross
    hessian[np.arange(1, m), np.arange(m - 1)] += cross
    return np.asarray(mean.sum(axis=0) - truth), np.asarray(hessian - mean.T @ mean)

"""Structured vector and matrix scaling, SVS and SMS (Berta, Holzmueller, Jordan & Bach 2026).

First temperature scaling, smoothed by Laplace's rule with one uniform pseudo-example,

    q = n / (n + 1) softmax(z / T) + 1 / (n + 1) * 1 / k,     u = log q,

then a correction that a ridge holds near the identity, the stronger the more parameters there are per example:

    SVS  p = softmax((1 + v) * u + b)           penalty  k/n (|v|^2 + |b|^2)
    SMS  p = softmax((I + diag v + M) u + b)    penalty  k/n (|v|^2 + |b|^2) + k(k-1)/n |M|^2,  M off-diagonal

beside the mean NLL. With little data both fall back to temperature scaling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.calibration.solver import Ridge, diagonal, full
from testbed.calibration.temperature import solve
from testbed.parameters import NonNegative
from testbed.types import Float64, Ints, Outputs, Paper

_BERTA = Paper(
    "Structured Matrix Scaling for Multi-Class Calibration", "Berta, Holzmueller, Jordan and Bach", 2026, "AISTATS"
)


@dataclass(frozen=True)
class Svs(Calibrator):
    """Structured vector scaling; state: temperature, smoothing, weight and bias `[k]`, gradient, iterations, converged.

    ridge  multiplies the paper's penalty

    >>> z = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> Svs().fit(z, np.array([0, 0, 1, 1, 0])).probs(z[[0, 3]])[:, 0].round(3).tolist()
    [0.643, 0.465]
    """

    ridge: NonNegative = 1.0

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = _BERTA

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        n, k = x.shape
        start = _start(x, y)
        strength = self.ridge * k / n
        return diagonal(_smoothed_logs(x, start), y, Ridge(strength, strength, 1.0))._asdict() | start

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(_smoothed_logs(x, state) * state["weight"] + state["bias"])


@dataclass(frozen=True)
class Sms(Calibrator):
    """Structured matrix scaling; state: temperature, smoothing, weight `[k, k]`, bias `[k]`, gradient, converged.

    ridge  multiplies the paper's penalty

    >>> z = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> Sms().fit(z, np.array([0, 0, 1, 1, 0])).probs(z[[0, 3]])[:, 0].round(3).tolist()
    [0.647, 0.469]
    """

    ridge: NonNegative = 1.0

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = _BERTA

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        n, k = x.shape
        start = _start(x, y)
        strength = np.full((k, k), self.ridge * k * (k - 1) / n)
        strength[np.diag_indices(k)] = self.ridge * k / n
        fitted = full(_smoothed_logs(x, start), y, Ridge(strength, self.ridge * k / n, np.eye(k)))
        return fitted._asdict() | start

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(_smoothed_logs(x, state) @ state["weight"].T + state["bias"])


def _start(x: Float64, y: Ints) -> State:
    found = solve(x, y)
    return {"temperature": found.temperature, "smoothing": 1 / (len(x) + 1), "at_bound": found.at_bound}


def _smoothed_logs(x: Float64, state: State) -> Float64:
    share = state["smoothing"]
    q = softmax(x / state["temperature"])
    return np.asarray(np.log((1 - share) * q + share / x.shape[1]))

"""A temperature of each example's own: PTS from its sorted logits, adaptive TS from its features.

    p = softmax(z / T(u)),   log T(u) = v' h2 + c,   h2 = softplus(W2 h1 + b2),   h1 = softplus(W1 u + b1)

    PTS       u = the ten largest logits, sorted; least squared error (Tomani, Cremers & Buettner 2022)
    adaptive  u = principal components of the features; least NLL (after Joy et al. 2023, whose u is a VAE's latent)

Two hidden layers of five, as in PTS. The network predicts log T, so T > 0, and starts at constant temperature scaling
(v = 0). Training is deterministic: full-batch L-BFGS with exact gradients, started from the fixed `seed`, with a small
ridge on all weights but c (`ridge` / n times half their squares), on the examples sorted, so that their order cannot
matter. The problem is not convex: `converged` means a stationary point, never worse than where it started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.calibration.platt import sigmoid
from testbed.calibration.temperature import LARGEST, solve
from testbed.parameters import Count, NonNegative, Seed
from testbed.types import Float64, Ints, Outputs, Paper

Loss = Literal["squared", "nll"]
_HIDDEN: Final = 5
_TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class ParameterisedTemperature(Calibrator):
    """T from the `top` largest logits; state: network (flat), centre, scale, gradient, iterations, converged.

    >>> rng = np.random.default_rng(0)
    >>> z = 3 * rng.normal(size=(300, 3))
    >>> cal = ParameterisedTemperature().fit(z, z.argmax(1) * (rng.random(300) < 0.7))
    >>> cal.state()["converged"]
    True
    """

    top: Count = 10
    ridge: NonNegative = 3.0
    seed: Seed = 0

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Parameterized Temperature Scaling for Boosting the Expressive Power in Post-Hoc Uncertainty Calibration",
        "Tomani, Cremers and Buettner", 2022, "ECCV", "2102.12182",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        order = np.lexsort((y, *x.T))
        return train(x[order], y[order], self._describe(x[order]), "squared", self.ridge, self.seed)

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x / temperatures(self._describe(x), state)[:, None])

    def _describe(self, x: Float64) -> Float64:
        return np.sort(x, axis=1)[:, ::-1][:, : self.top]


@dataclass(frozen=True)
class AdaptiveTemperature(Calibrator):
    """T from `components` principal components of the features; state as PTS, and axes `[d, components]`.

    >>> rng = np.random.default_rng(0)
    >>> z, f = 3 * rng.normal(size=(300, 3)), rng.normal(size=(300, 4))
    >>> cal = AdaptiveTemperature(components=2).fit(z, z.argmax(1) * (f[:, 0] < 0), features=f)
    >>> cal.state()["converged"]
    True
    """

    components: Count = 8
    ridge: NonNegative = 3.0
    seed: Seed = 0

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("features",)
    reference: ClassVar[Paper] = Paper(
        "Sample-dependent Adaptive Temperature Scaling for Improved Calibration",
        "Joy, Pinto, Lim, Torr and Dokania", 2023, "AAAI", "2207.06211",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert features is not None
        order = np.lexsort((y, *x.T, *features.T))
        x, y, features = x[order], y[order], features[order]
        middle = features.mean(axis=0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(features.T, bias=True)))
        axes = vectors[:, np.argsort(values)[::-1][: self.components]]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        state = train(x, y, (features - middle) @ axes, "nll", self.ridge, self.seed)
        return state | {"middle": middle, "axes": axes}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        assert features is not None
        return softmax(x / temperatures((features - state["middle"]) @ state["axes"], state)[:, None])


def train(x: Float64, y: Ints, u: Float64, loss: Loss, ridge: float, seed: int) -> State:
    """The network that lowers `loss` of softmax(x / T(u)); x `[n, k]`, y `[n]`, u `[n, d]`."""
    from scipy.optimize import minimize

    centre, scale = u.mean(axis=0), np.maximum(u.std(axis=0), 1e-9)
    v = (u - centre) / scale
    d = x - x.max(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(_HIDDEN, v.shape[1] + 1)) / np.sqrt(v.shape[1] + 1)
    second = rng.normal(size=(_HIDDEN, _HIDDEN + 1)) / np.sqrt(_HIDDEN + 1)
    alone = solve(x, y)
    constant = float(np.log(alone.temperature))
    start = np.concatenate([first.ravel(), second.ravel(), np.zeros(_HIDDEN), [constant]])
    shrunk = np.append(np.full(len(start) - 1, ridge / len(y)), 0.0)

    def objective(theta: Float64) -> tuple[float, Float64]:
        log_t, hidden = _forward(theta, v)
        value, slope = _loss(d, y, log_t, loss)
        gradient = _backward(theta, v, hidden, slope / len(y))
        return value + float(shrunk @ (theta * theta)) / 2, gradient + shrunk * theta

    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-16, "gtol": _TOLERANCE / 10}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    size = float(np.abs(objective(found.x)[1]).max())
    return {
        "network": np.asarray(found.x),
        "centre": centre,
        "scale": scale,
        "gradient": size,
        "iterations": int(found.nit),
        "converged": size < _TOLERANCE,
        "at_bound": alone.at_bound,
    }


def temperatures(u: Float64, state: State) -> Float64:
    """T of each row of u, float64 `[n]`, in [1e-3, 1e3]."""
    log_t, _ = _forward(state["network"], (u - state["centre"]) / state["scale"])
    return np.asarray(np.exp(np.clip(log_t, -np.log(LARGEST), np.log(LARGEST))))


def _unpack(theta: Float64, width: int) -> tuple[Float64, Float64, Float64, float]:
    split = _HIDDEN * (width + 1)
    first = theta[:split].reshape(_HIDDEN, width + 1)
    second = theta[split : split + _HIDDEN * (_HIDDEN + 1)].reshape(_HIDDEN, _HIDDEN + 1)
    return first, second, theta[-_HIDDEN - 1 : -1], float(theta[-1])


def _forward(theta: Float64, v: Float64) -> tuple[Float64, tuple[Float64, ...]]:
    """log T `[n]` and what the backward pass needs: both layers' inputs to softplus and outputs."""
    first, second, last, constant = _unpack(theta, v.shape[1])
    a1 = v @ first[:, :-1].T + first[:, -1]
    h1 = np.logaddexp(0.0, a1)
    a2 = h1 @ second[:, :-1].T + second[:, -1]
    h2 = np.logaddexp(0.0, a2)
    return np.asarray(h2 @ last + constant), (a1, h1, a2, h2)


def _backward(theta: Float64, v: Float64, hidden: tuple[Float64, ...], slope: Float64) -> Float64:
    """Gradient of sum slope_i log T_i in theta, flat."""
    _, second, last, _ = _unpack(theta, v.shape[1])
    a1, h1, a2, h2 = hidden
    back2 = slope[:, None] * last * sigmoid(a2)
    back1 = back2 @ second[:, :-1] * sigmoid(a1)
    return np.concatenate(
        [
            np.hstack([back1.T @ v, back1.sum(axis=0)[:, None]]).ravel(),
            np.hstack([back2.T @ h1, back2.sum(axis=0)[:, None]]).ravel(),
            h2.T @ slope,
            [slope.sum()],
        ]
    )


def _loss(d: Float64, y: Ints, log_t: Float64, loss: Loss) -> tuple[float, Float64]:
    """Mean loss of softmax(d exp(-log_t)) and the derivative of each example's loss in its log_t `[n]`."""
    b = np.exp(-log_t)
    rows = np.arange(len(y))
    p = softmax(d * b[:, None])
    mean = np.einsum("nk,nk->n", p, d)
    if loss == "nll":
        logs = d[rows, y] * b - np.log(np.exp(d * b[:, None]).sum(axis=1))
        return -float(logs.mean()), -b * (mean - d[rows, y])
    values = np.einsum("nk,nk->n", p, p) - 2 * p[rows, y] + 1
    residual = p.copy()
    residual[rows, y] -= 1
    return float(values.mean()), -b * 2 * np.einsum("nk,nk->n", residual * p, d - mean[:, None])

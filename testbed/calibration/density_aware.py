"""Density-aware calibration, DAC (Tomani et al. 2023, "Beyond in-domain scenarios").

    p = softmax(z / S(x)),   S(x) = w r(x) + w0,   w, w0 >= 0,

r(x) the distance of x's features to their k-th nearest neighbour among the calibration features, in units of its mean
there: far from the data the model is less sure. w and w0 minimise the NLL (L-BFGS-B). The paper sums over the features
of several layers and takes neighbours in the training set; here there is one layer, the penultimate one, and the bank
is the calibration split itself, each example's own distance leaving itself out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.calibration.temperature import solve
from testbed.parameters import Count
from testbed.types import Array, Float64, Ints, Outputs, Paper

_SMALLEST: Final = 1e-3
_BLOCK_VALUES: Final = 2**22


@dataclass(frozen=True)
class DensityAware(Calibrator):
    """T grows with the distance to the calibration features.

    State: weights `[2]` (w, w0), bank float32 `[n, d]`, unit (the mean distance), gradient, iterations, converged.

    k  which neighbour; fewer examples than that: the farthest

    >>> rng = np.random.default_rng(0)
    >>> z, f = 3 * rng.normal(size=(200, 3)), rng.normal(size=(200, 4))
    >>> cal = DensityAware().fit(z, z.argmax(1) * (rng.random(200) < 0.7), features=f)
    >>> near, far = (cal.probs(z[:1], features=f[:1] * s).max() for s in (1, 100))
    >>> bool(far <= near)
    True
    """

    k: Count = 10

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("features",)
    reference: ClassVar[Paper] = Paper(
        "Beyond In-Domain Scenarios: Robust Density-Aware Calibration",
        "Tomani, Waseda, Shen and Cremers", 2023, "ICML", "2302.05118",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert features is not None
        bank = features.astype(np.float32)
        distance = kth_distance(bank, bank, self.k + 1)
        unit = float(distance.mean()) or 1.0
        return _weights(x, y, distance / unit) | {"bank": bank, "unit": unit}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        assert features is not None
        r = kth_distance(features.astype(np.float32), state["bank"], self.k) / state["unit"]
        w, w0 = state["weights"]
        return softmax(x / np.clip(w * r + w0, _SMALLEST, 1e6)[:, None])


def kth_distance(queries: Array, bank: Array, k: int) -> Float64:
    """Euclidean distance of each query `[n, d]` to its k-th nearest row of `bank` `[m, d]` (the farthest if m < k).

    >>> kth_distance(np.zeros((1, 1)), np.array([[1.0], [3.0], [2.0]]), 2).tolist()
    [2.0]
    """
    k = min(k, len(bank))
    square = np.einsum("md,md->m", bank, bank)
    out = np.empty(len(queries))
    rows = max(1, _BLOCK_VALUES // len(bank))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        table = np.einsum("nd,nd->n", part, part)[:, None] + square - 2 * part @ bank.T
        out[start : start + rows] = np.sqrt(np.maximum(np.partition(table, k - 1, axis=1)[:, k - 1], 0.0))
    return out


def _weights(x: Float64, y: Ints, r: Float64) -> State:
    """The NLL-optimal (w, w0) >= 0, from w = 0 and w0 = the temperature."""
    from scipy.optimize import minimize

    d = x - x.max(axis=1, keepdims=True)
    rows = np.arange(len(y))
    design = np.stack([r, np.ones_like(r)], axis=1)

    def objective(w: Float64) -> tuple[float, Float64]:
        s = np.maximum(design @ w, _SMALLEST)
        e = np.exp(d / s[:, None])
        total = e.sum(axis=1)
        slope = -(np.einsum("nk,nk->n", e, d) / total - d[rows, y]) / (s * s)
        value = float((np.log(total) - d[rows, y] / s).mean())
        return value, design.T @ np.where(design @ w > _SMALLEST, slope, 0.0) / len(y)

    first = solve(x, y)
    start = np.array([0.0, first.temperature])
    options = {"ftol": 1e-15, "gtol": 1e-8, "maxiter": 500}
    found = minimize(
        objective, start, jac=True, bounds=[(0, None), (_SMALLEST, None)], method="L-BFGS-B", options=options
    )
    w = np.asarray(found.x)
    gradient = objective(w)[1]
    free = np.where(w > np.array([0.0, _SMALLEST]), np.abs(gradient), np.maximum(-gradient, 0.0))
    return {
        "weights": w,
        "gradient": float(free.max()),
        "iterations": int(found.nit),
        "converged": bool(free.max() < 1e-4),
        "at_bound": first.at_bound,
    }

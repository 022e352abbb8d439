"""Newton's method for softmax(x W' + b) with a ridge: the one solver of vector, matrix, Dirichlet, SVS and SMS scaling.

    minimise  L(W, b) = mean NLL of softmax(x W' + b) + sum_ij R_ij (W_ij - C_ij)^2 + r sum_j b_j^2

which is convex. The start is temperature scaling, W = I / T. Steps solve the Newton system with exact curvature:
directly where W is diagonal and k at most 200 (2k unknowns), by conjugate gradients with more classes and where W is
full (k^2 + k unknowns; there the Hessian is multiplied in float32, while loss and gradient are float64). A step is
halved until the loss falls.

Converged means: the largest component of the gradient of L is at most the tolerance. Where L has no minimum (classes
perfectly separable and no ridge) the iterate after `_STEPS` steps is returned with `converged` False, or one at which
the gradient has become small because the loss is as good as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np

from testbed.calibration.temperature import solve
from testbed.types import Array, Float64, Ints

_STEPS: Final = 60
_SEPARABLE: Final = 1e-3
_PRODUCTS: Final = 100
_DIRECT_CLASSES: Final = 200
_PRECONDITION_ROWS: Final = 5_000
_BLOCK_VALUES: Final = 2**17


class Linear(NamedTuple):
    """A fitted map x -> x W' + b. `weight` is `[k]` where W is diagonal, else `[k, k]`; `bias` is `[k]`.

    `gradient` is the largest component of the objective's gradient at it; `at_bound`: the objective is as good as 0,
    so the classes are separable and the weights would grow without end.
    """

    weight: Float64
    bias: Float64
    gradient: float
    iterations: int
    converged: bool
    at_bound: bool


class _Report(NamedTuple):
    gradient: float
    iterations: int
    converged: bool
    at_bound: bool


class Ridge(NamedTuple):
    """Penalty: `weight` (scalar, or in the shape of W) times (W - centre)^2, plus `bias` times b^2."""

    weight: Float64 | float = 0.0
    bias: float = 0.0
    centre: Float64 | float = 0.0


NO_RIDGE: Final = Ridge()


def diagonal(x: Float64, y: Ints, ridge: Ridge = NO_RIDGE, tolerance: float = 1e-6) -> Linear:
    """The best softmax(w * x + b), w and b float64 `[k]`, by Newton with the exact 2k x 2k Hessian.

    >>> z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> fit = diagonal(z, np.array([0, 0, 1, 1, 0]))
    >>> fit.converged, bool(fit.gradient < 1e-6)
    (True, True)
    """
    k = x.shape[1]
    theta = np.concatenate([np.full(k, 1 / solve(x, y).temperature), np.zeros(k)])
    strength = np.concatenate([np.broadcast_to(ridge.weight, k), np.full(k, ridge.bias)])
    centre = np.concatenate([np.broadcast_to(ridge.centre, k), np.zeros(k)])
    theta, report = _newton(_Diagonal(x, y, strength, centre), theta, tolerance)
    return Linear(theta[:k], theta[k:], *report)


def full(x: Float64, y: Ints, ridge: Ridge = NO_RIDGE, tolerance: float = 2e-5) -> Linear:
    """The best softmax(x W' + b), W float64 `[k, k]`, by Newton with conjugate gradients.

    >>> z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> fit = full(z, np.array([0, 0, 1, 1, 0]), Ridge(0.1, 0.1, np.eye(2)))
    >>> fit.converged, fit.weight.shape
    (True, (2, 2))
    """
    k = x.shape[1]
    theta = np.hstack([np.eye(k) / solve(x, y).temperature, np.zeros((k, 1))]).ravel()
    strength = np.hstack([np.broadcast_to(ridge.weight, (k, k)), np.full((k, 1), ridge.bias)]).ravel()
    centre = np.hstack([np.broadcast_to(ridge.centre, (k, k)), np.zeros((k, 1))]).ravel()
    theta, report = _newton(_Full(x, y, strength, centre), theta, tolerance)
    table = theta.reshape(k, k + 1)
    return Linear(table[:, :k].copy(), table[:, k].copy(), *report)


def shifted(x: Float64, y: Ints, ridge: float = 1e-9, tolerance: float = 1e-6) -> Linear:
    """The best softmax(s x + b) with one scale s and b float64 `[k]`: bias-corrected temperature scaling, BCTS.

    `weight` is `[1]`. The ridge on b bounds the offset of a class without examples.

    >>> z = np.log(np.array([[0.9, 0.1]] * 4))
    >>> softmaxed = np.exp(z[0] * (fit := shifted(z, np.array([0, 0, 0, 1]))).weight + fit.bias)
    >>> (softmaxed / softmaxed.sum()).round(4).tolist()
    [0.75, 0.25]
    """
    k = x.shape[1]
    theta = np.append(1 / solve(x, y).temperature, np.zeros(k))
    strength = np.append(0.0, np.full(k, ridge))
    theta, report = _newton(_Shifted(x, y, strength, np.zeros(k + 1)), theta, tolerance)
    return Linear(theta[:1], theta[1:], *report)


class _Problem:
    """Loss, gradient and Newton step of one parametrisation; `theta` is flat."""

    def __init__(self, x: Float64, y: Ints, strength: Float64, centre: Float64) -> None:
        self.x, self.y, self.strength, self.centre = x, y, strength, centre
        self.p = np.empty_like(x)

    def scores(self, theta: Float64, rows: slice) -> Float64:
        raise NotImplementedError

    def pull(self, residual: Float64) -> Float64:
        """The gradient of the summed scores weighted by `residual`, flat."""
        raise NotImplementedError

    def step(self, gradient: Float64, wanted: float) -> Float64:
        """Newton direction, solved to the relative accuracy `wanted`, with `p` as `evaluate` left it."""
        raise NotImplementedError

    def evaluate(self, theta: Float64) -> tuple[float, Float64]:
        """Loss and gradient; leaves the probabilities in `p`."""
        loss, n = 0.0, len(self.x)
        for rows in _blocks(self.x):
            s, y = self.scores(theta, rows), self.y[rows]
            s -= s.max(axis=1, keepdims=True)
            at_label = s[np.arange(len(s)), y]
            np.exp(s, out=s)
            total = s.sum(axis=1, keepdims=True)
            loss += float(np.log(total).sum() - at_label.sum())
            np.divide(s, total, out=self.p[rows])
        every = np.arange(n)
        self.p[every, self.y] -= 1
        gradient = self.pull(self.p) / n
        self.p[every, self.y] += 1
        away = theta - self.centre
        return loss / n + float(self.strength @ (away * away)), gradient + 2 * self.strength * away


class _Diagonal(_Problem):
    def scores(self, theta: Float64, rows: slice) -> Float64:
        k = self.x.shape[1]
        return self.x[rows] * theta[:k] + theta[k:]

    def pull(self, residual: Float64) -> Float64:
        return np.concatenate([np.einsum("nk,nk->k", residual, self.x), residual.sum(axis=0)])

    def step(self, gradient: Float64, wanted: float) -> Float64:
        n, k = self.x.shape
        if k > _DIRECT_CLASSES:
            return _conjugate_gradients(self._curve, self._preconditioner(), gradient, wanted)
        hessian = np.zeros((2 * k, 2 * k))
        second, first, zeroth = np.zeros(k), np.zeros(k), np.zeros(k)
        for rows in _blocks(self.x):
            p, x = self.p[rows], self.x[rows]
            px = p * x
            both = np.hstack([px, p])
            hessian -= both.T @ both
            second += np.einsum("nk,nk->k", px, x)
            first += px.sum(axis=0)
            zeroth += p.sum(axis=0)
        i = np.arange(k)
        hessian[i, i] += second
        hessian[i, i + k] += first
        hessian[i + k, i] += first
        hessian[i + k, i + k] += zeroth
        hessian /= n
        hessian[np.diag_indices(2 * k)] += 2 * self.strength + 1e-12
        return np.asarray(np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0])

    def _curve(self, v: Float64) -> Float64:
        """Hessian times v: mean of (diag p - p p') (x v_w + v_b), times x and times 1, plus the ridge's 2 R v."""
        n, k = self.x.shape
        out = np.zeros_like(v)
        for rows in _blocks(self.x):
            x, p = self.x[rows], self.p[rows]
            u = x * v[:k]
            u += v[k:]
            u -= np.einsum("nk,nk->n", u, p)[:, None]
            u *= p
            out[:k] += np.einsum("nk,nk->k", u, x)
            out[k:] += u.sum(axis=0)
        return np.asarray(out / n + (2 * self.strength + 1e-12) * v)

    def _preconditioner(self) -> Callable[[Float64], Float64]:
        """The inverse of each class's own 2 x 2 block, p (1 - p) (x, 1) (x, 1)' and the ridge."""
        n, k = self.x.shape
        second, first, zeroth = np.zeros(k), np.zeros(k), np.zeros(k)
        for rows in _blocks(self.x):
            spread, x = self.p[rows] * (1 - self.p[rows]), self.x[rows]
            second += np.einsum("nk,nk,nk->k", spread, x, x)
            first += np.einsum("nk,nk->k", spread, x)
            zeroth += spread.sum(axis=0)
        a, b, c = second / n + 2 * self.strength[:k], first / n, zeroth / n + 2 * self.strength[k:]
        a, c = a + 1e-10, c + 1e-10
        determinant = a * c - b * b

        def precondition(g: Float64) -> Float64:
            w, o = g[:k], g[k:]
            return np.concatenate([(c * w - b * o) / determinant, (a * o - b * w) / determinant])

        return precondition


class _Shifted(_Problem):
    def scores(self, theta: Float64, rows: slice) -> Float64:
        return np.asarray(self.x[rows] * theta[0] + theta[1:])

    def pull(self, residual: Float64) -> Float64:
        return np.append(np.einsum("nk,nk->", residual, self.x), residual.sum(axis=0))

    def step(self, gradient: Float64, wanted: float) -> Float64:
        px = self.p * self.x
        mean = px.sum(axis=1)
        hessian = np.empty((len(gradient), len(gradient)))
        hessian[0, 0] = np.einsum("nk,nk->", px, self.x) - mean @ mean
        hessian[0, 1:] = hessian[1:, 0] = px.sum(axis=0) - self.p.T @ mean
        hessian[1:, 1:] = np.diag(self.p.sum(axis=0)) - self.p.T @ self.p
        hessian /= len(self.x)
        hessian[np.diag_indices(len(gradient))] += 2 * self.strength + 1e-12
        return np.asarray(np.linalg.lstsq(hessian, gradient, rcond=1e-13)[0])


class _Full(_Problem):
    def __init__(self, x: Float64, y: Ints, strength: Float64, centre: Float64) -> None:
        super().__init__(x, y, strength, centre)
        self.x_single = x.astype(np.float32)
        self.p_single = np.empty_like(self.x_single)
        some = x[:: max(1, len(x) // _PRECONDITION_ROWS)]
        wide = np.hstack([some, np.ones((len(some), 1))])
        self.moments, self.axes = np.linalg.eigh(wide.T @ wide / len(wide))

    def scores(self, theta: Float64, rows: slice) -> Float64:
        table = theta.reshape(self.x.shape[1], -1)
        return np.asarray(self.x[rows] @ table[:, :-1].T + table[:, -1])

    def pull(self, residual: Float64) -> Float64:
        return np.hstack([residual.T @ self.x, residual.sum(axis=0)[:, None]]).ravel()

    def step(self, gradient: Float64, wanted: float) -> Float64:
        self.p_single[...] = self.p
        spread = np.maximum((self.p * (1 - self.p)).mean(axis=0), 1e-8)
        inverse = 1 / (np.outer(spread, np.maximum(self.moments, 1e-10)) + 2 * self.strength.mean())

        def precondition(g: Float64) -> Float64:
            """Inverse of the Kronecker product of mean p (1 - p) by class and the second moments of (x, 1)."""
            return np.asarray(((g.reshape(inverse.shape) @ self.axes) * inverse) @ self.axes.T).ravel()

        return _conjugate_gradients(self._curve, precondition, gradient, wanted)

    def _curve(self, v: Float64) -> Float64:
        """Hessian times v: mean of (diag p - p p') (x V' + c) (x, 1)', plus the ridge's 2 R v."""
        table = v.reshape(self.x.shape[1], -1).astype(np.float32)
        out = np.zeros_like(v)
        for rows in _blocks(self.x):
            x, p = self.x_single[rows], self.p_single[rows]
            u = x @ table[:, :-1].T
            u += table[:, -1]
            u -= np.einsum("nk,nk->n", u, p)[:, None]
            u *= p
            out += np.hstack([u.T @ x, u.sum(axis=0)[:, None]]).ravel()
        return out / len(self.x) + 2 * self.strength * v


def _conjugate_gradients(
    multiply: Callable[[Float64], Float64],
    precondition: Callable[[Float64], Float64],
    right: Float64,
    wanted: float,
) -> Float64:
    """Preconditioned conjugate gradients for H s = right until max |residual| <= wanted max |right|."""
    s, residual = np.zeros_like(right), right.copy()
    z = precondition(residual)
    direction, rho = z.copy(), float(residual @ z)
    limit = wanted * float(np.abs(right).max())
    for _ in range(_PRODUCTS):
        product = multiply(direction)
        curvature = float(direction @ product)
        if curvature <= 0:
            break
        alpha = rho / curvature
        s += alpha * direction
        residual -= alpha * product
        if np.abs(residual).max() < limit:
            break
        z = precondition(residual)
        rho, before = float(residual @ z), rho
        direction = z + (rho / before) * direction
    return s


def _newton(problem: _Problem, theta: Float64, tolerance: float) -> tuple[Float64, _Report]:
    """Damped Newton from `theta`: the last iterate, and what `Linear` says of it from `gradient` on."""
    loss, gradient = problem.evaluate(theta)
    step = 0
    while step < _STEPS and (size := float(np.abs(gradient).max())) > tolerance:
        step += 1
        direction = problem.step(gradient, max(min(0.3, size**0.5), 0.5 * tolerance / size))
        slope, length = float(direction @ gradient), 1.0
        while length > 1e-6:
            trial = theta - length * direction
            new_loss, new_gradient = problem.evaluate(trial)
            if new_loss <= loss - 1e-4 * length * slope + 1e-13:
                break
            length /= 2
        else:
            break
        theta, loss, gradient = trial, new_loss, new_gradient
    size = float(np.abs(gradient).max())
    at_bound = loss < _SEPARABLE
    return theta, _Report(size, step, size <= tolerance and not at_bound, at_bound)


def _blocks(x: Array) -> Iterator[slice]:
    """Slices of rows small enough to stay in cache."""
    rows = max(1, _BLOCK_VALUES // x.shape[1])
    return (slice(start, start + rows) for start in range(0, len(x), rows))

"""Calibrators that learn on: `partial_fit` takes labelled examples as they arrive, late or in batches, in their order.

WindowedTemperature  temperature scaling of the last `window` labelled examples, solved anew at each batch
OnlinePlatt          sigma(a s + b) of the confidence's log odds s, moved by one online Newton step a label (Hazan,
                     Agarwal & Kale 2007), then optionally calibeaten or hedged (Gupta & Ramdas 2023, "Online Platt
                     scaling with calibeating"):
    calibeating  in each bin of the Platt output the answer is the mean label seen there (Foster & Hart 2023)
    hedging      in each bin Foster's (1999) randomised forecaster, calibrated against any sequence of labels

Memory does not grow with the stream. A batch is learned one example after another, so cutting it up changes nothing,
except that WindowedTemperature solves at the end of each batch and that hedging's draws are keyed by batch: score a
batch with `probs` before its labels are learned, and what was announced is what is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.curves import with_top
from testbed.calibration.inputs import Given, check_fit, log_probs, softmax
from testbed.calibration.platt import log_odds, sigmoid
from testbed.calibration.temperature import Temperature, solve
from testbed.parameters import Count, Positive, Seed
from testbed.types import Array, Float64, Ints, Outputs, Paper

Forecast = Literal["platt", "calibeating", "hedging"]


@dataclass(frozen=True)
class OnlineCalibrator(Calibrator):
    """A calibrator with `partial_fit`; a subclass writes `_learn`."""

    online: ClassVar[bool] = True

    def partial_fit(self, logits: Array, labels: Array, *, given: Given = "logits") -> Self:
        """Learn from the next labelled examples, `logits` `[n, k]` and `labels` `[n]`, in the order of the stream."""
        if self._state is None:
            return self.fit(logits, labels, given=given)
        x, y = check_fit(logits, labels, given, self.inputs, self._name, quiet=True)
        state = self._learned()
        object.__setattr__(self, "_state", state | self._learn(x, y, state) | {"n": state["n"] + len(x)})
        return self

    def _learn(self, x: Float64, y: Ints, state: State) -> State:
        raise NotImplementedError


@dataclass(frozen=True)
class WindowedTemperature(OnlineCalibrator):
    """Temperature of the last `window` labelled examples; state: as `temperature`, and the window itself.

    >>> z = np.log(np.array([[0.9, 0.1]] * 4))
    >>> cal = WindowedTemperature(window=4).fit(z, np.array([0, 0, 0, 0]) * 0 + [0, 1, 1, 0])
    >>> cal.partial_fit(z, np.array([0, 0, 0, 1])).probs(z[:1]).round(6).tolist()
    [[0.75, 0.25]]
    """

    window: Count = 1000

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Temperature.reference

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        recent, labels = x[-self.window :].copy(), y[-self.window :].copy()
        return solve(recent, labels)._asdict() | {"recent": recent, "labels": labels}

    def _learn(self, x: Float64, y: Ints, state: State) -> State:
        joined = np.concatenate([state["recent"], x]), np.concatenate([state["labels"], y])
        return self._fit(*joined, features=None, unlabelled=None)

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x / state["temperature"])


@dataclass(frozen=True)
class OnlinePlatt(OnlineCalibrator):
    """Online Platt scaling of the confidence; the other classes share the rest in their old proportions.

    forecast  "platt", "calibeating" or "hedging"
    bins      bins of the Platt output, for calibeating and hedging
    gamma     of the Newton step (larger = smaller steps); `radius` bounds |(a, b)|
    seed      of the hedging draws, keyed by how many labels have been seen and the row
    State: weights (a, b), curvature `[2, 2]`, counts and hits of the bins, n. Starts at a = 1, b = 0, the model's own.

    >>> rng = np.random.default_rng(0)
    >>> z = np.log(np.array([[0.9, 0.1]] * 2000))
    >>> cal = OnlinePlatt().fit(z, (rng.random(2000) < 0.4).astype(int))
    >>> cal.probs(z[:1]).round(1).tolist()
    [[0.6, 0.4]]
    """

    forecast: Forecast = "calibeating"
    bins: Count = 10
    gamma: Positive = 0.1
    radius: Positive = 100.0
    seed: Seed = 0

    reference: ClassVar[Paper] = Paper(
        "Online Platt Scaling with Calibeating", "Gupta and Ramdas", 2023, "ICML", "2305.00070"
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        width = self.bins if self.forecast == "hedging" else 1
        return self._learn(
            x,
            y,
            {
                "weights": np.array([1.0, 0.0]),
                "curvature": np.eye(2) / (self.gamma * self.radius) ** 2,
                "counts": np.zeros((self.bins, width)),
                "hits": np.zeros((self.bins, width)),
                "n": 0,
            },
        ) | {"converged": True}

    def _learn(self, x: Float64, y: Ints, state: State) -> State:
        weights, curvature = state["weights"].copy(), state["curvature"].copy()
        counts, hits = state["counts"].copy(), state["hits"].copy()
        scores, right = _score(x), x.argmax(axis=1) == y
        draws = self._draws(len(x), state["n"])
        for s, r, draw in zip(scores.tolist(), right.tolist(), draws.tolist()):
            q = float(sigmoid(np.array(weights[0] * s + weights[1])))
            row = min(int(q * self.bins), self.bins - 1)
            column = _foster(counts[row], hits[row], draw) if self.forecast == "hedging" else 0
            counts[row, column] += 1
            hits[row, column] += r
            gradient = (q - r) * np.array([s, 1.0])
            curvature += np.outer(gradient, gradient)
            weights = weights - np.linalg.solve(curvature, gradient) / self.gamma
            weights *= min(1.0, self.radius / max(float(np.linalg.norm(weights)), 1e-300))
        return {"weights": weights, "curvature": curvature, "counts": counts, "hits": hits}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        q = sigmoid(state["weights"][0] * _score(x) + state["weights"][1])
        if self.forecast != "platt":
            row = np.minimum((q * self.bins).astype(np.int64), self.bins - 1)
            q = self._hedged(row, state, len(x)) if self.forecast == "hedging" else _beaten(row, q, state)
        return with_top(softmax(x), q)

    def _hedged(self, row: Ints, state: State, n: int) -> Float64:
        draws = self._draws(n, state["n"])
        columns = [_foster(state["counts"][b], state["hits"][b], u) for b, u in zip(row, draws)]
        return np.asarray((np.array(columns, dtype=np.float64).reshape(n) + 0.5) / self.bins)

    def _draws(self, n: int, seen: int) -> Float64:
        return np.random.Generator(np.random.Philox(key=[self.seed, seen])).random(n)


def _score(x: Float64) -> Float64:
    """Log odds of the confidence, cut to +-30."""
    best = x.argmax(axis=1)
    return np.asarray(np.clip(log_odds(log_probs(x))[np.arange(len(x)), best], -30.0, 30.0))


def _beaten(row: Ints, q: Float64, state: State) -> Float64:
    """Mean label of each row's bin; the Platt output where nothing was seen."""
    counts, hits = state["counts"][row, 0], state["hits"][row, 0]
    return np.where(counts > 0, hits / np.maximum(counts, 1), q)


def _foster(counts: Float64, hits: Float64, draw: float) -> int:
    """Foster's forecaster on m equal bins: the bin to announce, given how often each was announced and was right.

    A bin that is right (its mean label lies in it, or it was never announced) is announced; else two neighbours, the
    left one too low and the right one too high, share the announcement in the odds that balance their errors.
    """
    m = len(counts)
    mean = np.where(counts > 0, hits / np.maximum(counts, 1), (np.arange(m) + 0.5) / m)
    deficit = np.arange(m) / m - mean
    excess = mean - (np.arange(m) + 1) / m
    sound = np.flatnonzero((deficit <= 0) & (excess <= 0))
    if len(sound):
        return int(sound[0])
    left = int(np.flatnonzero((excess[:-1] > 0) & (deficit[1:] > 0))[0])
    share = deficit[left + 1] / (deficit[left + 1] + excess[left])
    return left if draw < share else left + 1

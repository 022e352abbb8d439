"""Temperatures for an unlabelled target set: the one at which mean confidence equals an estimate of its accuracy.

    TransCal   accuracy by importance weighting of the labelled source, with two control variates (Wang et al. 2020)
    ATC, DoC   accuracy from confidences of the temperature-scaled source and target (Garg et al. 2022; Guillory et
               al. 2021)

TransCal weights source examples by the odds of a logistic regression that tells target features from source features;
the weighted error is corrected by the weights' own mean (its expectation is 1) and by the confidence. The mean
confidence of softmax(z / T) falls in T, so bisection in log T finds the temperature; where the estimate lies outside
(1/k, 1) T stops at a bound and the state says `at_bound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.calibration.platt import sigmoid
from testbed.calibration.temperature import LARGEST, solve
from testbed.metrics.unlabelled import average_thresholded_confidence, difference_of_confidences
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class EstimatedTemperature(Calibrator):
    """T at which the target's mean confidence is its ATC or DoC accuracy.

    State: temperature, accuracy (the estimate), source_temperature, gradient (|confidence - accuracy|), converged.

    >>> z = np.log(np.array([[0.9, 0.1]] * 4))
    >>> cal = EstimatedTemperature("doc").fit(z, np.array([0, 0, 0, 1]), unlabelled=z)
    >>> cal.probs(z[:1]).round(4).tolist()
    [[0.75, 0.25]]
    """

    estimator: Literal["atc", "doc"] = "atc"

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("unlabelled",)
    reference: ClassVar[Paper] = Paper(
        "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance",
        "Garg, Balakrishnan, Lipton, Neyshabur and Sedghi", 2022, "ICLR", "2201.04234",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert unlabelled is not None
        found = solve(x, y)
        source = found.temperature
        estimate = average_thresholded_confidence if self.estimator == "atc" else difference_of_confidences
        accuracy = estimate(softmax(x / source), y, softmax(unlabelled.logits / source))
        state = matched(np.asarray(unlabelled.logits, np.float64), accuracy)
        return state | {"source_temperature": source, "at_bound": state["at_bound"] or found.at_bound}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x / state["temperature"])


@dataclass(frozen=True)
class TransCal(Calibrator):
    """T at which the target's mean confidence is its importance-weighted accuracy; state: temperature, accuracy.

    >>> rng = np.random.default_rng(0)
    >>> z, f = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    >>> cal = TransCal().fit(z, z.argmax(1) * (rng.random(200) < 0.6), features=f, unlabelled=Outputs(z, f))
    >>> bool(abs(cal.probs(z, features=f).max(1).mean() - cal.state()["accuracy"]) < 1e-6)
    True
    """

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("features", "unlabelled")
    reference: ClassVar[Paper] = Paper(
        "Transferable Calibration with Lower Bias and Variance in Domain Adaptation",
        "Wang, Long, Wang and Jordan", 2020, "NeurIPS", "2007.08259",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert features is not None
        assert unlabelled is not None
        weights = density_ratio(features, np.asarray(unlabelled.features, np.float64))
        found = solve(x, y)
        p = softmax(x / found.temperature)
        error = weights * (p.argmax(axis=1) != y)
        error = _controlled(error, weights, 1.0)
        confidence = p.max(axis=1)
        error = _controlled(error, confidence, float(confidence.mean()))
        accuracy = float(np.clip(1 - error.mean(), 0.0, 1.0))
        state = matched(np.asarray(unlabelled.logits, np.float64), accuracy)
        return state | {"at_bound": state["at_bound"] or found.at_bound}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x / state["temperature"])


def matched(logits: Float64, accuracy: float) -> State:
    """The temperature at which mean max softmax(logits / T) is `accuracy`, by bisection in log T.

    >>> round(matched(np.log(np.array([[0.9, 0.1]])), 0.75)["temperature"], 6)
    2.0
    """
    low, high = -np.log(LARGEST), np.log(LARGEST)
    for _ in range(60):
        middle = (low + high) / 2
        if softmax(logits / np.exp(middle)).max(axis=1).mean() > accuracy:
            low = middle
        else:
            high = middle
    log_t = (low + high) / 2
    temperature = float(np.exp(log_t))
    gap = abs(float(softmax(logits / temperature).max(axis=1).mean()) - accuracy)
    at_bound = bool(abs(log_t) > np.log(LARGEST) - 1e-9)
    converged = bool(gap < 1e-6) and not at_bound
    return {"temperature": temperature, "accuracy": accuracy, "gradient": gap} | {
        "converged": converged,
        "at_bound": at_bound,
    }


def density_ratio(source: Float64, target: Float64, ridge: float = 1e-3) -> Float64:
    """Target density over source density at each source row, mean about 1, by ridge logistic regression.

    >>> density_ratio(np.zeros((3, 1)), np.zeros((5, 1))).round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    both = np.concatenate([source, target])
    scale = np.maximum(both.std(axis=0), 1e-12)
    x = np.hstack([(both - both.mean(axis=0)) / scale, np.ones((len(both), 1))])
    t = np.concatenate([np.zeros(len(source)), np.ones(len(target))])
    strength = np.append(np.full(source.shape[1], ridge), 0.0)
    theta = np.append(np.zeros(source.shape[1]), np.log(len(target) / len(source)))
    for _ in range(50):
        q = sigmoid(x @ theta)
        gradient = x.T @ (q - t) / len(t) + strength * theta
        if np.abs(gradient).max() < 1e-10:
            break
        hessian = (x * (q * (1 - q))[:, None]).T @ x / len(t) + np.diag(strength + 1e-12)
        theta = theta - np.linalg.solve(hessian, gradient)
    return np.asarray(np.exp(np.clip(x[: len(source)] @ theta, -20, 20)) * len(source) / len(target))


def _controlled(values: Float64, control: Float64, expectation: float) -> Float64:
    """`values` less their regression on a control variate of known expectation."""
    variance = float(control.var())
    slope = float(((values - values.mean()) * (control - control.mean())).mean()) / variance if variance > 0 else 0.0
    return values - slope * (control - expectation)

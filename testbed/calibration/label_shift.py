"""Label-shift correction: the target's class shares change, p(x | y) does not.

    BBSE  w = C^-1 m: C[i, j] = share of source with prediction i and label j, m = shares of the target's predictions
          (Lipton, Wang & Smola 2018), cut at 0
    EM    shares of the target that maximise its likelihood, from calibrated source probabilities
          (Saerens, Latinne & Decaestecker 2002), after temperature scaling with a bias a class, BCTS, without which it
          goes wrong (Alexandari, Kundaje & Shrikumar 2020)

Both then give p_k proportional to w_k q_k, with w_k = target share / source share and q the calibrated source
probabilities. They need label shift to hold; nothing in the unlabelled data says whether it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.calibration.solver import shifted
from testbed.calibration.temperature import solve
from testbed.types import Float64, Ints, Outputs, Paper

_TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Bbse(Calibrator):
    """Temperature scaling, then black-box shift weights; state: temperature, weights `[k]`, condition, converged.

    `condition` is that of the confusion matrix; weights are 1 where it is singular (`converged` False).

    >>> z = np.log(np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10))
    >>> y = np.array([0] * 9 + [1] + [1] * 9 + [0])
    >>> Bbse().fit(z, y, unlabelled=z[5:]).state()["weights"].round(3).tolist()
    [0.583, 1.417]
    """

    needs: ClassVar[tuple[str, ...]] = ("unlabelled",)
    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Detecting and Correcting for Label Shift with Black Box Predictors",
        "Lipton, Wang and Smola", 2018, "ICML", "1802.03916",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert unlabelled is not None
        k = x.shape[1]
        joint = np.zeros((k, k))
        np.add.at(joint, (x.argmax(axis=1), y), 1 / len(y))
        target = np.bincount(unlabelled.logits.argmax(axis=1), minlength=k) / len(unlabelled.logits)
        seen = np.bincount(y, minlength=k) > 0
        condition = float(np.linalg.cond(joint[np.ix_(seen, seen)]))
        weights = np.ones(k)
        sound = condition < 1e8
        if sound:
            weights[seen] = np.maximum(np.linalg.lstsq(joint[:, seen], target, rcond=None)[0], 0.0)
        found = solve(x, y)
        return {
            "temperature": found.temperature,
            "weights": weights,
            "condition": min(condition, 1e300),
            "converged": sound,
            "at_bound": found.at_bound,
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return reweighted(softmax(x / state["temperature"]), state["weights"])


@dataclass(frozen=True)
class LabelShiftEm(Calibrator):
    """BCTS, then maximum-likelihood class shares; state: scale, bias `[k]`, weights `[k]`, gradient, converged.

    >>> z = np.log(np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 10))
    >>> y = np.array([0] * 9 + [1] + [1] * 9 + [0])
    >>> LabelShiftEm().fit(z, y, unlabelled=z[5:]).state()["weights"].round(3).tolist()
    [0.583, 1.417]
    """

    needs: ClassVar[tuple[str, ...]] = ("unlabelled",)
    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation",
        "Alexandari, Kundaje and Shrikumar", 2020, "ICML", "1901.06852",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert unlabelled is not None
        found = shifted(x, y)
        source = np.bincount(y, minlength=x.shape[1]) / len(y)
        q = softmax(unlabelled.logits * found.weight[0] + found.bias)
        shares, steps, moved = source.copy(), 0, np.inf
        while moved > _TOLERANCE and steps < 2000:
            steps += 1
            fresh = reweighted(q, _ratio(shares, source)).mean(axis=0)
            shares, moved = fresh, float(np.abs(fresh - shares).max())
        return {
            "scale": float(found.weight[0]),
            "bias": found.bias,
            "weights": _ratio(shares, source),
            "gradient": found.gradient,
            "iterations": steps,
            "converged": bool(found.converged and moved <= _TOLERANCE),
            "at_bound": found.at_bound,
        }

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return reweighted(softmax(x * state["scale"] + state["bias"]), state["weights"])


def reweighted(q: Float64, weights: Float64) -> Float64:
    """w_k q_k, rows normalised; a row whose every weighted entry is 0 stays as it was.

    >>> reweighted(np.array([[0.5, 0.5]]), np.array([1.0, 3.0])).tolist()
    [[0.25, 0.75]]
    """
    p = q * weights
    total = p.sum(axis=1, keepdims=True)
    return np.where(total > 0, p / np.where(total > 0, total, 1.0), q)


def _ratio(shares: Float64, source: Float64) -> Float64:
    """Target over source shares; 1 for a class the source does not have."""
    return np.where(source > 0, shares / np.where(source > 0, source, 1.0), 1.0)

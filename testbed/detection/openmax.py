"""OpenMax (Bendale & Boult, CVPR 2016): extreme-value revision of the top logits, with an "unknown" class.

Fit, on correctly classified training examples: the mean logit vector of each class, and a Weibull law of the `tail`
largest Euclidean distances to it, shifted by 10,000 minus the smallest of them as the original library does. Score an
example with logits f: for the i-th largest logit (i = 1..alpha) w_c = CDF_c(distance) (alpha + 1 - i) / alpha, else
w_c = 0; v_c = f_c (1 - w_c) and v_0 = sum_c f_c w_c. The paper's p(unknown) = exp(v_0) / (exp(v_0) + sum_c exp(v_c));
the score is its log-odds v_0 - logsumexp_c(v), which ranks the same and does not saturate.

A class without two different distances has no Weibull law: its CDF steps from 0 to 1 at the largest distance seen. A
class without a correct example counts as unknown wherever it is predicted. Both draw a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from testbed.detection.base import Detector, State, caution, check_labels, require
from testbed.detection.numeric import float64, logsumexp
from testbed.errors import DataError
from testbed.parameters import Count
from testbed.types import Float64, Outputs, Paper

_SHIFT: Final = 10_000.0


@dataclass(frozen=True)
class OpenMax(Detector):
    """Log-odds of the unknown class; consumes logits, fitted on labelled training outputs.

    alpha  how many of the largest logits are revised (all where there are fewer classes)
    tail   how many of the largest distances of a class make its Weibull law
    """

    alpha: Count = 3
    tail: Count = 20

    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "Towards Open Set Deep Networks", "Abhijit Bendale, Terrance E. Boult", 2016, "CVPR", "1511.06233"
    )

    def __post_init__(self) -> None:
        require(self.alpha >= 1, "openmax.alpha", "at least 1", self.alpha)
        require(self.tail >= 2, "openmax.tail", "at least 2", self.tail)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """Per class: mean logits `[k k]`, and location, shape and scale of the Weibull law, NaN where there is none."""
        labels, f = check_labels(outputs, "openmax"), float64(outputs.logits)
        k = f.shape[1]
        centres, law = np.full((k, k), np.nan), np.full((k, 3), np.nan)
        right = f.argmax(axis=1) == labels
        for c in range(k):
            rows = f[right & (labels == c)]
            if len(rows) == 0:
                caution(f"openmax: no training example of class {c} is classified correctly; it counts as unknown")
                continue
            centres[c] = rows.mean(axis=0)
            largest = np.sort(np.linalg.norm(rows - centres[c], axis=1))[-self.tail :]
            law[c, 0] = largest[0]
            if largest[-1] > largest[0]:
                law[c, 1:] = fit_weibull(largest - largest[0] + _SHIFT)
            else:
                caution(f"openmax: the distances of class {c} do not differ, so it has no Weibull law")
        return {"centres": centres, "law": law}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """v_0 - logsumexp_c(v_c)."""
        f = float64(outputs.logits)
        k = len(state["centres"])
        if f.shape[1] != k:
            raise DataError(f"openmax was fitted on {k} classes, and these logits have {f.shape[1]}")
        alpha = min(self.alpha, k)
        leading = np.argsort(-f, axis=1, kind="stable")[:, :alpha]
        distances = np.linalg.norm(f[:, None, :] - state["centres"][leading], axis=2)
        cdf = _cdf(distances, state["law"][leading])
        weights = np.zeros_like(f)
        np.put_along_axis(weights, leading, cdf * (alpha - np.arange(alpha)) / alpha, axis=1)
        odds: Float64 = (f * weights).sum(axis=1) - logsumexp(f * (1.0 - weights))
        return odds


def fit_weibull(values: Float64) -> tuple[float, float]:
    """Maximum-likelihood (shape, scale) of a two-parameter Weibull law of positive values that are not all equal.

    The shape c solves sum x^c log x / sum x^c - 1/c = mean log x, whose left side grows in c: bisection in c, to the
    last bit, with logarithms centred on their largest.

    >>> shape, scale = fit_weibull(np.array([1.0, 2.0, 3.0]))
    >>> round(shape, 4), round(scale, 4)
    (2.7386, 2.2586)
    """
    logs = np.log(values)
    gaps = logs - logs.max()

    def excess(shape: float) -> float:
        powers = np.exp(shape * gaps)
        return float(powers @ gaps / powers.sum() - 1.0 / shape - gaps.mean())

    low = high = 1.0 / float(gaps.std())
    while excess(low) > 0:
        low /= 2
    while excess(high) < 0:
        high *= 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    scale = logs.max() + np.log(np.exp(low * gaps).mean()) / low
    return low, float(np.exp(scale))


def _cdf(distances: Float64, law: Float64) -> Float64:
    location, shape, scale = law[..., 0], law[..., 1], law[..., 2]
    shifted = np.maximum(distances - location + _SHIFT, 0.0)
    with np.errstate(over="ignore"):  # a distance far in the tail: the power overflows and the CDF is 1
        smooth = -np.expm1(-np.exp(shape * np.log(np.maximum(shifted, 1e-300) / scale)))
    step = np.where(np.isnan(location), 1.0, (distances > location).astype(np.float64))
    return np.where(np.isnan(shape), step, smooth)

"""Vector scaling with bias (Guo et al. 2017): softmax(w * z + b), one scale and one offset a class, least NLL.

Solved by Newton from the temperature-scaled start; the state reports the largest component of the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import check_rows, softmax
from testbed.calibration.solver import Ridge, diagonal
from testbed.calibration.temperature import Temperature
from testbed.parameters import NonNegative
from testbed.types import Array, Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class Vector(Calibrator):
    """softmax(w * z + b); state: weight and bias float64 `[k]`, gradient, iterations, converged.

    ridge  strength of sum (w - 1)^2 + sum b^2 beside the mean NLL; 0 as in the paper

    >>> import numpy as np
    >>> z = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> Vector().fit(z, np.array([0, 0, 1, 1, 0])).probs(z[[0, 3]])[:, 0].round(4).tolist()
    [0.6667, 0.5]
    """

    ridge: NonNegative = 0.0

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Temperature.reference

    def logits(self, logits: Array) -> Float64:
        """w * z + b, float64 `[n k]`: what a detector reads instead of the network's logits."""
        state = self._learned()
        scaled: Float64 = check_rows(logits, "logits", self.inputs, self._name) * state["weight"] + state["bias"]
        return scaled

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        return diagonal(x, y, Ridge(self.ridge, self.ridge, 1.0))._asdict()

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x * state["weight"] + state["bias"])

"""Matrix scaling (Guo et al. 2017): softmax(W z + b) with the least NLL.

k^2 + k parameters and no penalty: with many classes it overfits the calibration split badly (the paper's own finding),
and where the classes become separable there is no optimum; `converged` says so. `ridge` keeps it in hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import check_rows, softmax
from testbed.calibration.solver import Ridge, full
from testbed.calibration.temperature import Temperature
from testbed.parameters import NonNegative
from testbed.types import Array, Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class Matrix(Calibrator):
    """softmax(W z + b); state: weight float64 `[k, k]`, bias `[k]`, gradient, iterations, converged.

    ridge  strength of sum (W - I)^2 + sum b^2 beside the mean NLL; 0 as in the paper

    >>> z = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> Matrix().fit(z, np.array([0, 0, 1, 1, 0])).probs(z[[0, 3]])[:, 0].round(3).tolist()
    [0.667, 0.5]
    """

    ridge: NonNegative = 0.0

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Temperature.reference

    def logits(self, logits: Array) -> Float64:
        """W z + b, float64 `[n k]`: what a detector reads instead of the network's logits."""
        state = self._learned()
        scaled: Float64 = check_rows(logits, "logits", self.inputs, self._name) @ state["weight"].T + state["bias"]
        return scaled

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        return full(x, y, Ridge(self.ridge, self.ridge, np.eye(x.shape[1])))._asdict()

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x @ state["weight"].T + state["bias"])

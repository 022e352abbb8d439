"""No calibration: the model's own softmax, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.types import Float64, Ints, Outputs


@dataclass(frozen=True)
class Uncalibrated(Calibrator):
    """softmax(z): what every other calibrator is compared with.

    >>> import numpy as np
    >>> Uncalibrated().fit(np.zeros((2, 2)), np.array([0, 1])).probs(np.array([[0.0, np.log(3.0)]])).round(6).tolist()
    [[0.25, 0.75]]
    """

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        return {"converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x)

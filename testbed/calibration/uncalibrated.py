"""No calibration: the model's own softmax, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import Given, softmax
from testbed.types import Array, Float64, Ints, Outputs


@dataclass(frozen=True)
class Uncalibrated(Calibrator):
    """softmax(z): what every other calibrator is compared with. There is nothing to learn, so it needs no fit.

    >>> import numpy as np
    >>> Uncalibrated().probs(np.array([[0.0, np.log(3.0)]])).round(6).tolist()
    [[0.25, 0.75]]
    """

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def probs(self, logits: Array, *, features: Array | None = None, given: Given = "logits") -> Float64:
        """float64 `[n, k]`: softmax of `logits` `[n, k]`, fitted or not."""
        fitted = self if self._state is not None else self.restore({"classes": np.shape(logits)[-1]})
        return super(Uncalibrated, fitted).probs(logits, features=features, given=given)

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        return {"converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x)

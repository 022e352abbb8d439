"""Maximum softmax probability after temperature scaling (Guo et al., ICML 2017).

T minimises the negative log-likelihood on the calibration split, found to convergence by the same solver as the
calibrator `temperature`. Score: 1 - max_c softmax(f / T)_c, computed as `msp` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.calibration.temperature import solve
from testbed.detection.base import Detector, State, check_labels
from testbed.detection.numeric import complement_of_max, float64
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class TempScale(Detector):
    """1 - max softmax(f / T), T fitted on the labelled calibration split; consumes logits.

    >>> import numpy as np
    >>> calibration = Outputs(logits=np.log([[0.9, 0.1]] * 4), labels=np.array([0, 0, 0, 1]))
    >>> round(float(TempScale().fit(calibration).score(calibration)[0]), 6)
    0.25
    """

    fitted_on = "calibration"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "On Calibration of Modern Neural Networks", "Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Q. Weinberger",
        2017, "ICML", "1706.04599",
    )  # fmt: skip

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The temperature."""
        return {"temperature": float(solve(outputs.logits, check_labels(outputs, "tempscale")).temperature)}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """1 - max_c p_c at the fitted temperature."""
        return complement_of_max(float64(outputs.logits) / state["temperature"])

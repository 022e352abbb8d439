"""Maximum softmax probability (Hendrycks & Gimpel, ICLR 2017).

Score: 1 - max_c p_c. It is computed as the sum of the other probabilities, so that confident examples keep their
order where max p itself rounds to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.detection.base import Detector, State
from testbed.detection.numeric import complement_of_max
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class MSP(Detector):
    """1 - max softmax probability, in (0, 1); consumes logits, nothing to fit.

    >>> import numpy as np
    >>> MSP().score(Outputs(logits=np.log([[0.9, 0.1], [0.5, 0.5]]))).round(6).tolist()
    [0.1, 0.5]
    """

    reference: ClassVar[Paper] = Paper(
        "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks",
        "Dan Hendrycks, Kevin Gimpel", 2017, "ICLR", "1610.02136",
    )  # fmt: skip

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """1 - max_c p_c."""
        return complement_of_max(outputs.logits)

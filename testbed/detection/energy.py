"""Free energy of the logits (Liu et al., NeurIPS 2020).

Score: E(x) = -T log sum_c exp(f_c / T), eq. 4 of the paper; low for in-distribution examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.detection.base import Detector, State, require
from testbed.detection.numeric import float64, logsumexp
from testbed.parameters import Positive
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class Energy(Detector):
    """-T logsumexp(f / T); consumes logits, nothing to fit.

    temperature  T > 0; the paper's default is 1

    >>> import numpy as np
    >>> Energy().score(Outputs(logits=np.zeros((1, 4)))).round(6).tolist()
    [-1.386294]
    """

    temperature: Positive = 1.0

    reference: ClassVar[Paper] = Paper(
        "Energy-based Out-of-distribution Detection",
        "Weitang Liu, Xiaoyun Wang, John D. Owens, Yixuan Li",
        2020,
        "NeurIPS",
        "2010.03759",
    )

    def __post_init__(self) -> None:
        require(self.temperature > 0, "energy.temperature", "a positive number", self.temperature)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """E(x) of each row."""
        return -self.temperature * logsumexp(float64(outputs.logits) / self.temperature)

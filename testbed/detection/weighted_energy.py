"""Weighted energy (VOS: Du et al., ICLR 2022): the free energy with a learned weight a class.

Score: -log sum_c relu(w_c) exp(f_c). The weights come with the trained model (VOS learns them), so they are a
parameter here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require
from testbed.detection.numeric import float64, logsumexp
from testbed.errors import DataError
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class WeightedEnergy(Detector):
    """-log sum_c relu(w_c) exp(f_c); consumes logits, nothing to fit.

    weights  one number a class, as learned with the model; negative ones count as 0

    >>> WeightedEnergy(weights=(2.0, 2.0)).score(Outputs(logits=np.zeros((1, 2)))).round(6).tolist()
    [-1.386294]
    """

    weights: tuple[float, ...]

    reference: ClassVar[Paper] = Paper(
        "VOS: Learning What You Don't Know by Virtual Outlier Synthesis",
        "Xuefeng Du, Zhaoning Wang, Mu Cai, Yixuan Li", 2022, "ICLR", "2202.01197",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(
            max(self.weights, default=0.0) > 0, "weighted_energy.weights", "a positive weight among them", self.weights
        )

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The weighted free energy of each row."""
        weights = np.asarray(self.weights, dtype=np.float64)
        if len(weights) != outputs.logits.shape[1]:
            raise DataError(
                f"weighted_energy has {len(weights)} weights, and these logits have {outputs.logits.shape[1]} classes"
            )
        used = weights > 0
        return -logsumexp(float64(outputs.logits)[:, used] + np.log(weights[used]))

"""DICE: directed sparsification (Sun & Li, ECCV 2022): energy with only the weights that matter on training data.

Contribution of weight (c, j): the mean training activation of feature j times W_cj. Weights whose contribution is not
above the given percentile of all contributions are set to 0. Score: -logsumexp(W_masked z + b).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.head import head_energy
from testbed.detection.numeric import float64
from testbed.parameters import Percentile
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class DICE(Detector):
    """Energy of a sparsified head; consumes features and head, fitted on training outputs.

    percentile  share of weights dropped, in 0..100; OpenOOD's default is 90
    """

    percentile: Percentile = 90.0

    consumes = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "DICE: Leveraging Sparsification for Out-of-Distribution Detection", "Yiyou Sun, Yixuan Li",
        2022, "ECCV", "2111.09805",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(0 <= self.percentile <= 100, "dice.percentile", "a number in 0..100", self.percentile)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The masked weight, float64 `[k d]`."""
        weight = float64(np.asarray(outputs.head_weight))
        contribution = float64(np.asarray(outputs.features)).mean(axis=0) * weight
        return {"masked": np.where(contribution > np.percentile(contribution, self.percentile), weight, 0.0)}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Energy under the masked head."""
        z = np.asarray(outputs.features)
        same_width(z, state["masked"].shape[1], "dice")
        return head_energy(z, replace(outputs, head_weight=state["masked"]))

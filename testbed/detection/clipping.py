"""Energy after clipping the features: ReAct (Sun et al., NeurIPS 2021) and VRA (Xu et al., NeurIPS 2023).

    react   energy of W min(z, hi) + b
    vra     energy of W clip(z, lo, hi) + b

Thresholds are percentiles of ALL training activations taken together (one number, linear interpolation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.head import head_energy
from testbed.parameters import Percentile
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class ReAct(Detector):
    """Energy of features cut at a percentile; consumes features and head, fitted on training outputs.

    percentile  in 0..100; the paper's default is 90
    """

    percentile: Percentile = 90.0

    consumes = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "ReAct: Out-of-distribution Detection With Rectified Activations", "Yiyou Sun, Chuan Guo, Yixuan Li",
        2021, "NeurIPS", "2111.12797",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(0 <= self.percentile <= 100, "react.percentile", "a number in 0..100", self.percentile)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The threshold."""
        return {"high": float(np.percentile(np.asarray(outputs.features), self.percentile))}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Energy of the cut features."""
        z = np.asarray(outputs.features, dtype=np.float64)
        same_width(z, np.asarray(outputs.head_weight).shape[1], "react")
        return head_energy(np.minimum(z, state["high"]), outputs)


@dataclass(frozen=True)
class VRA(Detector):
    """Energy of features clipped from both sides; consumes features and head, fitted on training outputs.

    high, low  percentiles in 0..100 of the training activations; OpenOOD's defaults are 90 and 10
    """

    high: Percentile = 90.0
    low: Percentile = 10.0

    consumes = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "VRA: Variational Rectified Activation for Out-of-distribution Detection",
        "Mingyu Xu, Zheng Lian, Bin Liu, Jianhua Tao", 2023, "NeurIPS", "2302.11716",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(
            0 <= self.low <= self.high <= 100, "vra.low, vra.high", "0 <= low <= high <= 100", (self.low, self.high)
        )

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The two thresholds."""
        low, high = np.percentile(np.asarray(outputs.features), [self.low, self.high])
        return {"low": float(low), "high": float(high)}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Energy of the clipped features."""
        z = np.asarray(outputs.features, dtype=np.float64)
        same_width(z, np.asarray(outputs.head_weight).shape[1], "vra")
        return head_energy(np.clip(z, state["low"], state["high"]), outputs)

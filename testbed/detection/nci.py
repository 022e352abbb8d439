"""NCI: out-of-distribution through the lens of neural collapse (Liu & Qin, CVPR 2025).

With neural collapse, centred ID features align with the weight of their class. Score:
-( w_y . (z - mu) / ||z - mu|| + alpha ||z||_1 ), y the predicted class, mu the training mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.head import head_logits
from testbed.detection.numeric import float64
from testbed.parameters import NonNegative
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class NCI(Detector):
    """Proximity to the class weight and feature norm, negated; consumes features and head, fitted on training outputs.

    alpha  weight of the L1 norm; OpenOOD's default is 1e-4
    """

    alpha: NonNegative = 1e-4

    consumes = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "Detecting Out-of-Distribution Through the Lens of Neural Collapse", "Litian Liu, Yao Qin",
        2025, "CVPR", "2311.01479",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.alpha >= 0, "nci.alpha", "a number >= 0", self.alpha)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The training mean `[d]`."""
        return {"mean": float64(np.asarray(outputs.features)).mean(axis=0)}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Minus the NCI score."""
        z = float64(np.asarray(outputs.features))
        same_width(z, len(state["mean"]), "nci")
        own = float64(np.asarray(outputs.head_weight))[head_logits(z, outputs).argmax(axis=1)]
        centred = z - state["mean"]
        length = np.maximum(np.linalg.norm(centred, axis=1), 1e-12)
        proximity = np.einsum("nd,nd->n", centred, own) / length
        collapse: Float64 = proximity + self.alpha * np.abs(z).sum(axis=1)
        return -collapse

"""fDBD: distance to the decision boundaries (Liu & Qin, ICML 2024).

The distance of z to the boundary between the predicted class y and class c is (f_y - f_c) / ||w_y - w_c||. Score: minus
the mean of it over all c != y, divided by ||z - mu|| (mu the training mean) or by ||z||. Classes with equal weights
have no boundary and do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.head import head_logits
from testbed.detection.numeric import float64
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class FDBD(Detector):
    """Regularised mean boundary distance, negated; consumes features and head, fitted on training outputs.

    origin  "mean": distances are divided by ||z - mu||, the paper's choice; "zero": by ||z||
    """

    origin: Literal["mean", "zero"] = "mean"

    consumes = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "Fast Decision Boundary based Out-of-Distribution Detector", "Litian Liu, Yao Qin", 2024, "ICML", "2312.11536"
    )

    def __post_init__(self) -> None:
        require(self.origin in ("mean", "zero"), "fdbd.origin", "'mean' or 'zero'", self.origin)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The training mean `[d]` and the norms ||w_a - w_b|| `[k k]`."""
        weight = float64(np.asarray(outputs.head_weight))
        gram = np.stack([np.linalg.norm(weight - row, axis=1) for row in weight])
        return {"mean": float64(np.asarray(outputs.features)).mean(axis=0), "norms": gram}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Minus the mean distance over boundaries, in units of the distance to the origin."""
        z = float64(np.asarray(outputs.features))
        same_width(z, len(state["mean"]), "fdbd")
        f = head_logits(z, outputs)
        predicted = f.argmax(axis=1)
        norms = state["norms"][predicted]
        gaps = np.where(norms > 0, (f.max(axis=1, keepdims=True) - f) / np.where(norms > 0, norms, 1.0), 0.0)
        length = np.linalg.norm(z - state["mean"] if self.origin == "mean" else z, axis=1)
        distance: Float64 = gaps.sum(axis=1) / (f.shape[1] - 1) / np.maximum(length, 1e-12)
        return -distance

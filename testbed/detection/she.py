"""Simplified Hopfield energy (Zhang et al., ICLR 2023): inner product with the pattern of the predicted class.

The pattern S_c is the mean training feature of class c over its CORRECTLY classified examples. Score: -z . S_y for the
predicted class y. A class without a correct example uses the mean of all its examples; one without any example has
the zero pattern, so its predictions score 0. Both draw a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, caution, check_labels, same_width
from testbed.detection.numeric import float64
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class SHE(Detector):
    """-z . S_y; consumes logits (the prediction) and features, fitted on labelled training outputs."""

    consumes = ("logits", "features")
    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with Modern Hopfield Energy",
        "Jinsong Zhang, Qiang Fu, Xu Chen, Lun Du, Zelin Li, Gang Wang, Xiaoguang Liu, Shi Han, Dongmei Zhang",
        2023, "ICLR",
    )  # fmt: skip

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The patterns, float64 `[k d]`."""
        z, labels = float64(np.asarray(outputs.features)), check_labels(outputs, "she")
        right = outputs.logits.argmax(axis=1) == labels
        patterns = np.zeros((outputs.logits.shape[1], z.shape[1]))
        for c in range(len(patterns)):
            own = labels == c
            chosen = own & right if (own & right).any() else own
            if chosen is own:
                caution(f"she: no training example of class {c} is classified correctly; {own.sum()} others are used")
            if chosen.any():
                patterns[c] = z[chosen].mean(axis=0)
        return {"patterns": patterns}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """-z . S_y."""
        z = float64(np.asarray(outputs.features))
        same_width(z, state["patterns"].shape[1], "she")
        energy: Float64 = np.einsum("nd,nd->n", z, state["patterns"][outputs.logits.argmax(axis=1)])
        return -energy

"""Neural relation graph (Kim et al., NeurIPS 2023): how strongly an example is tied to the training set.

Edge to training example i: k_i = relu(<z/|z|, z_i/|z_i|>) <p, p_i>, with p the softmax predictions. Score: minus the
sum of k_i^power over the edges above the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.collect import Related
from testbed.detection.numeric import softmax
from testbed.detection.similarity import Need, answers
from testbed.parameters import Positive, ShareBelowOne
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class Relation(Detector):
    """Minus the sum of relations; consumes logits and features, fitted on training outputs without labels.

    power      exponent of an edge; published sweep 1, 2, 4, 6, 8
    threshold  edges not above it are cut; 0.03
    """

    power: Positive = 1.0
    threshold: ShareBelowOne = 0.03

    consumes = ("logits", "features")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "Neural Relation Graph: A Unified Framework for Identifying Label Noise and Outlier Data",
        "Jang-Hyun Kim, Sangdoo Yun, Hyun Oh Song", 2023, "NeurIPS", "2301.12321",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.power > 0, "relation.power", "a positive number", self.power)
        require(0 <= self.threshold < 1, "relation.threshold", "a number in [0, 1)", self.threshold)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The bank `[N d]` and its predictions `[N k]`."""
        return {"bank": np.asarray(outputs.features), "probs": softmax(outputs.logits)}

    def need(self, outputs: Outputs) -> Need:
        """The relation sums, for a pass that others share."""
        state = self._fitted()
        related = Related(softmax(outputs.logits), state["probs"], self.power, self.threshold)
        return Need(state["bank"], np.asarray(outputs.features), related)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Minus the sum."""
        features = np.asarray(outputs.features)
        same_width(features, state["bank"].shape[1], "relation")
        related = Related(softmax(outputs.logits), state["probs"], self.power, self.threshold)
        return -answers([Need(state["bank"], features, related)])[0]

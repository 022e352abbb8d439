"""NNGuide: nearest-neighbour guidance (Park et al., ICCV 2023).

Confidence E(x) = logsumexp(f), guided by how well unit features agree with confident training ones: score
-E(x) mean of the k largest E_i <z/|z|, z_i/|z_i|> over a bank. The bank is a random share of the training set, drawn
per example id, so that it does not depend on order; the share is raised where it would hold fewer than k rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.collect import Guided
from testbed.detection.numeric import logsumexp
from testbed.detection.sampling import random_rows
from testbed.detection.similarity import Need, answers
from testbed.errors import DataError
from testbed.parameters import Count, PositiveShare, Seed
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class NNGuide(Detector):
    """-energy x guidance; consumes logits and features, fitted on training outputs without labels.

    k      neighbours that guide; OpenOOD's default is 100
    share  of the training set that makes the bank, in (0, 1]; OpenOOD's default is 0.01
    seed   of the draw of the bank
    """

    k: Count = 100
    share: PositiveShare = 0.01
    seed: Seed = 0

    consumes = ("logits", "features")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "Nearest Neighbor Guidance for Out-of-Distribution Detection",
        "Jaewoo Park, Yoon Gyo Jung, Andrew Beng Jin Teoh",
        2023, "ICCV", "2309.14888",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.k >= 1, "nnguide.k", "at least 1", self.k)
        require(0 < self.share <= 1, "nnguide.share", "a number in (0, 1]", self.share)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The bank `[m d]` and its energies `[m]`."""
        if len(outputs) < self.k:
            raise DataError(
                f"nnguide: k = {self.k} neighbours asked for, the training set has {len(outputs)} rows; lower k"
            )
        count = max(self.k, round(self.share * len(outputs)))
        bank = outputs.take(random_rows("nnguide", self.seed, outputs, count))
        return {"bank": np.asarray(bank.features), "energies": logsumexp(bank.logits)}

    def need(self, outputs: Outputs) -> Need:
        """The guided mean, for a pass that others share."""
        state = self._fitted()
        return Need(state["bank"], np.asarray(outputs.features), Guided(state["energies"], self.k))

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Minus energy times guidance."""
        features = np.asarray(outputs.features)
        same_width(features, state["bank"].shape[1], "nnguide")
        guidance = answers([Need(state["bank"], features, Guided(state["energies"], self.k))])[0]
        return -guidance * logsumexp(outputs.logits)

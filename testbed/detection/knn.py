"""Distance to the k-th nearest training feature (Sun et al., ICML 2022).

Features are scaled to unit length; the score is the Euclidean distance ||z/|z| - z_(k)/|z_(k)||| to the k-th nearest
of the bank, in [0, 2]. The search is exact: in float32 by blocks, then re-ranked in float64 with proof that no nearer
neighbour was missed (`testbed.detection.similarity`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.collect import Nearest
from testbed.detection.similarity import Need, answers
from testbed.errors import DataError
from testbed.parameters import Count
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class KNN(Detector):
    """Distance to the k-th nearest of the bank on the unit sphere; consumes features, fitted on training outputs.

    k  which neighbour, 1 = the nearest; the paper uses 50 for CIFAR-10, 200 for CIFAR-100, 1000 for ImageNet

    >>> bank = Outputs(logits=np.zeros((2, 2)), features=np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> KNN(k=1).fit(bank).score(Outputs(logits=np.zeros((1, 2)), features=np.array([[0.0, -3.0]]))).round(6).tolist()
    [1.414214]
    """

    k: Count = 50

    consumes = ("features",)
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "Out-of-Distribution Detection with Deep Nearest Neighbors",
        "Yiyou Sun, Yifei Ming, Xiaojin Zhu, Yixuan Li",
        2022,
        "ICML",
        "2204.06507",
    )

    def __post_init__(self) -> None:
        require(self.k >= 1, "knn.k", "at least 1", self.k)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The bank `[N d]`, as it came."""
        bank = np.asarray(outputs.features)
        if len(bank) < self.k:
            raise DataError(
                f"knn: k = {self.k} neighbours asked for, the bank has {len(bank)} rows; lower k or fit on more"
            )
        return {"bank": bank}

    def need(self, outputs: Outputs) -> Need:
        """The k nearest of the bank, for a pass that others share."""
        return Need(self._fitted()["bank"], np.asarray(outputs.features), Nearest(self.k))

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The k-th smallest distance."""
        features = np.asarray(outputs.features)
        same_width(features, state["bank"].shape[1], "knn")
        distances = answers([Need(state["bank"], features, Nearest(self.k))])[0]
        return distances[:, -1].copy()

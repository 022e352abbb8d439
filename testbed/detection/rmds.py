"""Relative Mahalanobis distance (Ren et al., 2021): the class distance less the distance to one Gaussian of all data.

Score: min_c d_c - d_0, d_c the squared Mahalanobis distance to class c under the tied covariance, d_0 that to the
grand mean under the covariance of all training features. Can be negative. Otherwise as `mahalanobis`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.gaussian import squared_distances, whiten, within_covariance
from testbed.detection.mahalanobis import means_of_present
from testbed.detection.numeric import float64
from testbed.parameters import ShareBelowOne
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class RMDS(Detector):
    """min_c d_c - d_0; consumes features, fitted on labelled training outputs.

    rcond  directions with at most this share of the largest variance are left out
    """

    rcond: ShareBelowOne = 1e-10

    consumes = ("features",)
    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection",
        "Jie Ren, Stanislav Fort, Jeremiah Liu, Abhijit Guha Roy, Shreyas Padhy, Balaji Lakshminarayanan",
        2021, arxiv="2106.09022",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(0 <= self.rcond < 1, "rmds.rcond", "a number in [0, 1)", self.rcond)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """Means and whitenings of the tied and of the global Gaussian."""
        z = float64(np.asarray(outputs.features))
        means, index = means_of_present(outputs, "rmds")
        grand = z.mean(axis=0, keepdims=True)
        return {
            "means": means,
            "whitening": whiten(within_covariance(z, means, index), self.rcond, "rmds").matrix,
            "grand_mean": grand,
            "grand_whitening": whiten(within_covariance(z, grand, np.zeros_like(index)), self.rcond, "rmds").matrix,
        }

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The relative distance."""
        z = np.asarray(outputs.features)
        same_width(z, state["means"].shape[1], "rmds")
        own = squared_distances(z, state["means"], state["whitening"]).min(axis=1)
        relative: Float64 = own - squared_distances(z, state["grand_mean"], state["grand_whitening"])[:, 0]
        return relative

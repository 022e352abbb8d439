"""Mahalanobis distance to the nearest class mean (Lee et al., NeurIPS 2018), on penultimate features.

One Gaussian a class with a tied covariance (divided by n, the maximum-likelihood estimate). Score: the smallest
squared distance min_c (z - mu_c)' S^-1 (z - mu_c), without the paper's input step and layer ensemble. Float64
throughout; a singular covariance is handled as `testbed.detection.gaussian` says. Classes without a training example
have no mean and are left out, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, caution, check_labels, require, same_width
from testbed.detection.gaussian import squared_distances, whiten, within_covariance
from testbed.detection.numeric import class_means, float64
from testbed.parameters import ShareBelowOne
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class Mahalanobis(Detector):
    """min_c of the squared Mahalanobis distance, >= 0; consumes features, fitted on labelled training outputs.

    rcond  directions with at most this share of the largest variance are left out

    >>> z = np.array([[0.0], [2.0], [10.0], [12.0]])
    >>> fitted = Mahalanobis().fit(Outputs(logits=np.zeros((4, 2)), features=z, labels=np.array([0, 0, 1, 1])))
    >>> fitted.score(Outputs(logits=np.zeros((2, 2)), features=np.array([[1.0], [6.0]]))).round(9).tolist()
    [0.0, 25.0]
    """

    rcond: ShareBelowOne = 1e-10

    consumes = ("features",)
    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        "Kimin Lee, Kibok Lee, Honglak Lee, Jinwoo Shin", 2018, "NeurIPS", "1807.03888",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(0 <= self.rcond < 1, "mahalanobis.rcond", "a number in [0, 1)", self.rcond)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """Class means `[c d]` and the whitening `[d r]` of the tied covariance."""
        means, index = means_of_present(outputs, "mahalanobis")
        tied = within_covariance(float64(np.asarray(outputs.features)), means, index)
        return {"means": means, "whitening": whiten(tied, self.rcond, "mahalanobis").matrix}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The smallest squared distance."""
        features = np.asarray(outputs.features)
        same_width(features, state["means"].shape[1], "mahalanobis")
        nearest: Float64 = squared_distances(features, state["means"], state["whitening"]).min(axis=1)
        return nearest


def means_of_present(outputs: Outputs, name: str) -> tuple[Float64, Ints]:
    """Means `[c d]` of the classes that occur and each row's position among them; warns about classes that do not."""
    labels = check_labels(outputs, name)
    present, means = class_means(np.asarray(outputs.features), labels)
    if len(present) < outputs.logits.shape[1]:
        missing = sorted(set(range(outputs.logits.shape[1])) - set(present.tolist()))
        caution(
            f"{name}: no training example of class {', '.join(map(str, missing[:10]))}; it is left out of the distances"
        )
    return means, np.searchsorted(present, labels).astype(np.int64)

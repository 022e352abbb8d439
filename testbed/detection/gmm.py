"""Class-conditional Gaussian mixture: one full covariance a class, weighted by class frequency.

Score: -log sum_c pi_c N(z; mu_c, S_c + reg I). A generative baseline without a paper of its own; the reference is the
generative classifier view of Lee et al. (NeurIPS 2018), there with a tied covariance.

Where `reg` is lost to rounding beside the variance of the features, the directions without variance are left out of
that class with a warning, as `testbed.detection.gaussian` says; its density is one over the directions that are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.gaussian import squared_distances, whiten, within_covariance
from testbed.detection.mahalanobis import means_of_present
from testbed.detection.numeric import float64, logsumexp
from testbed.errors import DataError
from testbed.parameters import NonNegative
from testbed.types import Float64, Outputs, Paper

#: The covariances of all classes may take this much memory.
MOST_BYTES: Final = 4 * 2**30
_ROUNDING: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class GMM(Detector):
    """Negative log-likelihood under the mixture; consumes features, fitted on labelled training outputs.

    reg  added to the diagonal of each class covariance; it keeps a class of few examples invertible
    """

    reg: NonNegative = 1e-6

    consumes = ("features",)
    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Paper(
        "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        "Kimin Lee, Kibok Lee, Honglak Lee, Jinwoo Shin", 2018, "NeurIPS", "1807.03888",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.reg > 0, "gmm.reg", "a positive number", self.reg)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """Per class: mean `[c d]`, whitening `[c d d]` (columns of 0 for directions left out), log weight `[c]`.

        The log weight is log(pi_c) - (log det + r log 2 pi) / 2 over the r directions that are left.
        """
        z = float64(np.asarray(outputs.features))
        means, index = means_of_present(outputs, "gmm")
        d = z.shape[1]
        if len(means) * d * d * 8 > MOST_BYTES:
            size = len(means) * d * d * 8 / 2**30
            raise DataError(f"gmm: {len(means)} covariances of {d} x {d} take {size:.0f} GiB; use rmds or mahalanobis")
        whitenings, constants = np.zeros((len(means), d, d)), np.empty(len(means))
        for c in range(len(means)):
            rows = z[index == c]
            spread = within_covariance(rows, means, np.full(len(rows), c)) + self.reg * np.eye(d)
            found = whiten(spread, d * _ROUNDING, "gmm")
            left = found.matrix.shape[1]
            whitenings[c, :, :left] = found.matrix
            constants[c] = math.log(len(rows) / len(z)) - 0.5 * (found.log_det + left * math.log(2 * math.pi))
        return {"means": means, "whitenings": whitenings, "constants": constants}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """-log p(z)."""
        z = np.asarray(outputs.features)
        same_width(z, state["means"].shape[1], "gmm")
        pairs = zip(state["means"], state["whitenings"], strict=True)
        squares = np.stack([squared_distances(z, mean[None], white)[:, 0] for mean, white in pairs], axis=1)
        return -logsumexp(state["constants"] - 0.5 * squares)

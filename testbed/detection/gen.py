"""Generalised entropy (Liu, Lochman & Zach, CVPR 2023).

Score: sum over the `top` largest probabilities of p^gamma (1 - p)^gamma, eq. 4 of the paper. 1 - p is computed from
the other probabilities and powers are taken of logarithms, so nothing is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require
from testbed.detection.numeric import complement_of_max, log_softmax
from testbed.parameters import Count, Positive
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class GEN(Detector):
    """sum_{top} (p (1 - p))^gamma; consumes logits, nothing to fit.

    gamma  exponent in (0, 1]; the paper recommends 0.1 (published sweeps go up to 10)
    top    how many of the largest probabilities enter; the paper's M = 100, all where there are fewer classes

    >>> GEN(gamma=1.0).score(Outputs(logits=np.zeros((1, 2)))).round(6).tolist()
    [0.5]
    """

    gamma: Positive = 0.1
    top: Count = 100

    reference: ClassVar[Paper] = Paper(
        "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection",
        "Xixi Liu, Yaroslava Lochman, Christopher Zach", 2023, "CVPR",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.gamma > 0, "gen.gamma", "a positive number", self.gamma)
        require(self.top >= 1, "gen.top", "at least 1", self.top)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The truncated generalised entropy of each row."""
        log_p = -np.sort(-log_softmax(outputs.logits), axis=1)[:, : self.top]
        with np.errstate(divide="ignore"):  # one class, or a gap beyond exp's range: 1 - p is 0 and so is the term
            log_rest = np.log1p(-np.exp(np.minimum(log_p, -1e-300)))
            log_rest[:, 0] = np.log(complement_of_max(outputs.logits))
        entropy: Float64 = np.exp(self.gamma * (log_p + log_rest)).sum(axis=1)
        return entropy

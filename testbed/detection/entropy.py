"""Entropy of the predictive distribution. Score: H(p) = -sum_c p_c log p_c in nats, in [0, log k].

The divergence from the uniform distribution, log k - H, ranks the other way round (Hendrycks & Gimpel, ICLR 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.detection.base import Detector, State
from testbed.detection.numeric import float64
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class Entropy(Detector):
    """-sum p log p; consumes logits, nothing to fit.

    >>> import numpy as np
    >>> Entropy().score(Outputs(logits=np.zeros((1, 4)))).round(6).tolist()
    [1.386294]
    """

    reference: ClassVar[Paper] = Paper(
        "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks",
        "Dan Hendrycks, Kevin Gimpel", 2017, "ICLR", "1610.02136",
    )  # fmt: skip

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """H(p) = log sum exp(g) - sum p g with g = f - max f: a sum of terms >= 0, so small entropies keep digits."""
        import numpy as np

        ordered = np.sort(float64(outputs.logits), axis=1)
        gaps = ordered[:, -1:] - ordered[:, :-1]
        weights = np.exp(-gaps)
        rest = weights.sum(axis=1)
        entropy: Float64 = np.log1p(rest) + (weights * gaps).sum(axis=1) / (1.0 + rest)
        return entropy

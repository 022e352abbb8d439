"""Gradient-norm detectors on the last layer, in closed form: no backward pass.

For a loss whose gradient in the logits is g, the gradient in the head's weight is g z' and in its bias g. Both losses
here have g_c = k p_c - 1, which vanishes for a uniform prediction.

    gradnorm          L1 norm of the weight's gradient of sum_c -log p_c: ||z||_1 sum_c |k p_c - 1|
                      (Huang, Geng & Li, NeurIPS 2021; temperature T: p = softmax(f / T), and 1 / T in front)
    grad_uncertainty  squared L2 norm of weight and bias gradient of BCE(p, 1): sum_c (k p_c - 1)^2 (||z||^2 + 1)
                      (Lee & AlRegib, ICIP 2020)

Both norms are larger for confident examples, so the scores are their negatives.

grad_uncertainty is the loss of the paper (binary cross-entropy against all ones) on the last layer. pytorch-ood
0.4.0 differentiates torch's binary cross-entropy, whose backward pass bounds 1 / p at 1e12: its norm is smaller where a
class has p < 1e-12. It also takes all parameters unless told otherwise, and the paper trains a classifier on the norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require
from testbed.detection.numeric import float64, softmax
from testbed.parameters import Positive
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class GradNorm(Detector):
    """-||z||_1 sum_c |k p_c - 1| / T; consumes logits and features, nothing to fit.

    temperature  T > 0; the paper's default is 1
    """

    temperature: Positive = 1.0

    consumes = ("logits", "features")
    reference: ClassVar[Paper] = Paper(
        "On the Importance of Gradients for Detecting Distributional Shifts in the Wild",
        "Rui Huang, Andrew Geng, Yixuan Li", 2021, "NeurIPS", "2110.00218",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.temperature > 0, "gradnorm.temperature", "a positive number", self.temperature)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Minus the L1 norm of the weight's gradient."""
        p = softmax(float64(outputs.logits) / self.temperature)
        slope = np.abs(p.shape[1] * p - 1.0).sum(axis=1) / self.temperature
        norm: Float64 = slope * np.abs(float64(np.asarray(outputs.features))).sum(axis=1)
        return -norm


@dataclass(frozen=True)
class GradUncertainty(Detector):
    """-sum_c (k p_c - 1)^2 (||z||^2 + 1); consumes logits and features, nothing to fit."""

    consumes = ("logits", "features")
    reference: ClassVar[Paper] = Paper(
        "Gradients as a Measure of Uncertainty in Neural Networks",
        "Jinsol Lee, Ghassan AlRegib",
        2020,
        "ICIP",
        "2008.08030",
    )

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Minus the squared L2 norm of the last layer's gradient."""
        p = softmax(outputs.logits)
        z = float64(np.asarray(outputs.features))
        norm: Float64 = np.square(p.shape[1] * p - 1.0).sum(axis=1) * (np.einsum("nd,nd->n", z, z) + 1.0)
        return -norm

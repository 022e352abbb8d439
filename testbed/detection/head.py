"""The head applied to changed features or with changed weights, and the energy of what comes out."""

from __future__ import annotations

import numpy as np

from testbed.detection.numeric import float64, logsumexp
from testbed.types import Array, Float64, Outputs


def head_logits(features: Array, outputs: Outputs) -> Float64:
    """features @ W' + b, float64 `[n k]`, with the head of `outputs`."""
    weight, bias = float64(np.asarray(outputs.head_weight)), float64(np.asarray(outputs.head_bias))
    return float64(features) @ weight.T + bias


def head_energy(features: Array, outputs: Outputs) -> Float64:
    """-logsumexp(features @ W' + b) `[n]`, larger = more OOD."""
    return -logsumexp(head_logits(features, outputs))

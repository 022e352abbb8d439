"""The ledger of one attacked set: what happened to each example, judged by the runner's own forward passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.types import LEDGER, Array


@dataclass(frozen=True)
class AttackResult:
    """An attacked set. Arrays are `[n]` numpy with the dtypes of `testbed.types.LEDGER`.

    x                  float32 tensor `[n ...]`, on the device of the input
    success            misclassified (or, for a targeted attack, given the target); true for examples wrong before
    distance           of x from the attack's own input, in its norm (linf where it has none)
    gradients, queries counted by the victim's wrapper, verification not included
    first_step         0 wrong before the attack, -1 never fooled, else the model evaluation that first fooled it
    stage              which part of a cascade that was, in its order; 0 for an attack of one part, -1 never fooled
    margin             z_y - largest other z after the attack; negative = fooled
    loss               cross-entropy after it
    confidence_before, confidence_after   largest softmax probability
    flags              bits of testbed.types
    audit              name -> number: by-products that tell how far to trust the figures (see testbed_attacks.audit)
    """

    x: Any
    success: Array
    distance: Array
    gradients: Array
    queries: Array
    first_step: Array
    stage: Array
    margin: Array
    loss: Array
    confidence_before: Array
    confidence_after: Array
    flags: Array
    audit: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.success)

    @property
    def robust_accuracy(self) -> float:
        """Share of examples that no iterate of the attack fooled; NaN for an empty set."""
        return float(1.0 - self.success.mean()) if len(self) else float("nan")

    def ledger(self) -> dict[str, Array]:
        """The ledger's columns by name, in order."""
        return {name: getattr(self, name) for name in LEDGER}


def columns(**values: Any) -> dict[str, Array]:
    """Ledger columns from tensors or arrays, each in its dtype.

    >>> columns(success=[True], queries=[2.6])["queries"]
    array([3])
    """
    arrays = {
        name: np.asarray(value.detach().cpu() if hasattr(value, "detach") else value) for name, value in values.items()
    }
    rounded = {
        name: np.rint(a) if LEDGER[name].startswith("int") and a.dtype.kind == "f" else a for name, a in arrays.items()
    }
    return {name: array.astype(LEDGER[name]) for name, array in rounded.items()}

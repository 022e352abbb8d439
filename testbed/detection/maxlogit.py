"""Maximum logit (Hendrycks et al., ICML 2022). Score: -max_c f_c, unbounded and not squashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from testbed.detection.base import Detector, State
from testbed.detection.numeric import float64
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class MaxLogit(Detector):
    """-max_c f_c; consumes logits, nothing to fit.

    >>> import numpy as np
    >>> MaxLogit().score(Outputs(logits=np.array([[1.0, 3.0]]))).tolist()
    [-3.0]
    """

    reference: ClassVar[Paper] = Paper(
        "Scaling Out-of-Distribution Detection for Real-World Settings",
        "Dan Hendrycks, Steven Basart, Mantas Mazeika, Andy Zou, Joe Kwon, Mohammadreza Mostajabi, Jacob Steinhardt, "
        "Dawn Song", 2022, "ICML", "1911.11132",
    )  # fmt: skip

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """-max_c f_c of each row."""
        highest: Float64 = float64(outputs.logits).max(axis=1)
        return -highest

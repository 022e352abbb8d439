"""pNML regret of a single layer (Bibas, Feder & Hassner, NeurIPS 2021).

Features are scaled to unit length (rows x of X on the training set, z to score), p = softmax of the head on z.

    q = z' (X'X)^+ z,   kappa = q / (1 + q),
    regret = log sum_c  p_c / (p_c + (1 - p_c) p_c^kappa),   score = regret / log k, in [0, 1]

The sum exceeds 1 by little for confident examples; the excess is summed by itself, so that it keeps its digits.
Directions of X'X at most `rcond` times the largest are left out, with a warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.gaussian import whiten
from testbed.detection.head import head_logits
from testbed.detection.numeric import complement_of_max, log_softmax, unit_rows
from testbed.parameters import ShareBelowOne
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class PNML(Detector):
    """Normalised pNML regret; consumes features and head, fitted on training outputs without labels.

    rcond  cut-off of the pseudo-inverse of X'X
    """

    rcond: ShareBelowOne = 1e-10

    consumes = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "Single Layer Predictive Normalized Maximum Likelihood for Out-of-Distribution Detection",
        "Koby Bibas, Meir Feder, Tal Hassner", 2021, "NeurIPS", "2110.09246",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(0 <= self.rcond < 1, "pnml.rcond", "a number in [0, 1)", self.rcond)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """A square root of (X'X)^+, float64 `[d r]`."""
        x = unit_rows(np.asarray(outputs.features))
        return {"root": whiten(x.T @ x, self.rcond, "pnml").matrix}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """regret / log k."""
        z = unit_rows(np.asarray(outputs.features))
        same_width(z, len(state["root"]), "pnml")
        f = head_logits(z, outputs)
        reach = np.square(z @ state["root"]).sum(axis=1)
        kappa = reach / (1.0 + reach)
        log_p = log_softmax(f)
        top = log_p.argmax(axis=1)[:, None]
        rest = -np.expm1(log_p)
        np.put_along_axis(rest, top, complement_of_max(f)[:, None], axis=1)
        with np.errstate(over="ignore"):  # p so small that its term is 0: the odds against it overflow to infinity
            odds = rest * np.exp((kappa - 1.0)[:, None] * log_p)
        terms = 1.0 / (1.0 + odds)
        own = np.take_along_axis(odds, top, axis=1)[:, 0]
        np.put_along_axis(terms, top, 0.0, axis=1)
        others = terms.sum(axis=1)
        regret: Float64 = np.log1p(others - own / (1.0 + own))
        return regret / math.log(f.shape[1])

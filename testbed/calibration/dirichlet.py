"""Dirichlet calibration with off-diagonal and intercept regularisation, ODIR (Kull et al. 2019).

    p = softmax(W log q + b),  q = softmax(z)
    minimise  mean NLL + lam / (k (k - 1)) sum_{i != j} W_ij^2 + mu / k sum_j b_j^2

The divisors are the paper's; dirichletcal leaves them out unless told (`reg_norm`): `normalised=False` does the same.
log q is the log-softmax of the logits, so nothing is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import log_probs, softmax
from testbed.calibration.solver import Ridge, full
from testbed.parameters import NonNegative
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class Dirichlet(Calibrator):
    """softmax(W log q + b) under ODIR; state: weight `[k, k]`, bias `[k]`, gradient, iterations, converged.

    lam, mu     strengths of the off-diagonal and of the intercept penalty (the paper tunes both; mu None: mu = lam)
    normalised  divide them by k(k - 1) and k

    >>> z = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]))
    >>> Dirichlet(lam=0.0).fit(z, np.array([0, 0, 1, 1, 0])).probs(z[[0, 3]])[:, 0].round(3).tolist()
    [0.667, 0.5]
    """

    lam: NonNegative = 0.01
    mu: NonNegative | None = None
    normalised: bool = True

    differentiable: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Beyond Temperature Scaling: Obtaining Well-Calibrated Multiclass Probabilities with Dirichlet Calibration",
        "Kull, Perello-Nieto, Kangsepp, Silva Filho, Song and Flach",
        2019,
        "NeurIPS",
        "1910.12656",
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        k = x.shape[1]
        mu = self.lam if self.mu is None else self.mu
        pairs, classes = (k * (k - 1), k) if self.normalised else (1, 1)
        off_diagonal = self.lam / pairs * (1 - np.eye(k))
        return full(log_probs(x), y, Ridge(off_diagonal, mu / classes))._asdict()

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(log_probs(x) @ state["weight"].T + state["bias"])

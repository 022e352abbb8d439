"""Pseudo-target calibration (Hu et al. 2024, "Pseudo-calibration: improving predictive uncertainty estimation in UDA").

Pairs of target examples are mixed, lam = 0.65 of the first; the mixture's pseudo-label is the first's prediction. Such
mixtures err about as the model errs on the target, so their temperature serves the target. Here the mixture is taken of
the features before the last linear layer, which mixes the logits, so no forward pass is needed; the paper mixes images.

Each example is mixed with one of another predicted class (pairs of one class err too rarely), chosen by a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration.base import Calibrator, State
from testbed.calibration.inputs import softmax
from testbed.calibration.temperature import solve
from testbed.parameters import Seed, Share
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class PseudoTarget(Calibrator):
    """Temperature of mixed target predictions; the labels given to `fit` are not used. State as `temperature`.

    lam   share of the first example
    seed  of the pairing

    >>> z = np.random.default_rng(0).normal(size=(200, 3)) * 4
    >>> cal = PseudoTarget().fit(z, z.argmax(1), unlabelled=z)
    >>> cal.state()["converged"]
    True
    """

    lam: Share = 0.65
    seed: Seed = 0

    argmax_preserving: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("unlabelled",)
    reference: ClassVar[Paper] = Paper(
        "Pseudo-Calibration: Improving Predictive Uncertainty Estimation in Unsupervised Domain Adaptation",
        "Hu, Liang, Wang and Foo", 2024, "ICML", "2307.07489",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        assert unlabelled is not None
        z = np.asarray(unlabelled.logits, np.float64)
        predicted = z.argmax(axis=1)
        partner = np.random.default_rng(self.seed).permutation(len(z))
        other = predicted != predicted[partner]
        if not other.any():
            return {"temperature": 1.0, "pairs": 0, "gradient": 0.0, "converged": False}
        mixed = self.lam * z[other] + (1 - self.lam) * z[partner[other]]
        return solve(mixed, predicted[other])._asdict() | {"pairs": int(other.sum())}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return softmax(x / state["temperature"])

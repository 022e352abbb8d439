"""Bayesian binning into quantiles, BBQ, one class against the rest (Naeini, Cooper & Hauskrecht 2015).

Equal-mass binnings with B bins, B from n^(1/3) / 10 to 10 n^(1/3), are averaged with weights proportional to their
marginal likelihood under beta priors of strength 2 / B in each bin, centred on the bin's middle m_b:

    P(D | B) = prod_b  G(a0) / G(n_b + a0) * G(h_b + a) / G(a) * G(n_b - h_b + c) / G(c),
    a0 = 2 / B,  a = a0 m_b,  c = a0 (1 - m_b),   estimate in b = (h_b + a) / (n_b + a0),

G the gamma function, n_b the examples and h_b those of the class. Rows are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration import curves
from testbed.calibration.base import Calibrator, State
from testbed.calibration.platt import normalised
from testbed.parameters import Positive
from testbed.types import Float64, Ints, Outputs, Paper

_PRIOR: Final = 2.0


@dataclass(frozen=True)
class Bbq(Calibrator):
    """An average of binnings a class; state: edges, heights, offsets (`curves`).

    spread  the number of bins runs from n^(1/3) / spread to spread n^(1/3)

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> cal = Bbq().fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> bool(cal.probs(p[:1], given="probs")[0, 0] > 0.5)
    True
    """

    spread: Positive = 10.0

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Obtaining Well Calibrated Probabilities Using Bayesian Binning", "Naeini, Cooper and Hauskrecht", 2015, "AAAI"
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        root = len(x) ** (1 / 3)
        most = max(1, min(len(x), int(self.spread * root)))
        counts = range(min(most, max(1, int(root / self.spread))), most + 1)
        return curves.flat(list(curves.each_class(x, y, lambda s, t: averaged(s, t, counts)))) | {"converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return normalised(curves.read(x, state))


def averaged(scores: Float64, targets: Float64, counts: range) -> tuple[Float64, Float64]:
    """The step curve (inner edges, heights) that averages the binnings with these numbers of bins."""
    models = [_model(scores, targets, curves.inner_edges(scores, b, "mass")) for b in counts]
    evidence = np.array([m[2] for m in models])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    kept = [(inner, heights, w) for (inner, heights, _), w in zip(models, weights) if w > 1e-12]
    edges = np.unique(np.concatenate([inner for inner, _, _ in kept]))
    starts = np.concatenate([[-np.inf], edges])
    total = sum(w * heights[curves.place(starts, inner)] for inner, heights, w in kept)
    return edges, np.asarray(total / sum(w for _, _, w in kept))


def _model(scores: Float64, targets: Float64, inner: Float64) -> tuple[Float64, Float64, float]:
    """Inner edges, posterior means and log marginal likelihood of one binning."""
    from scipy.special import gammaln

    index, b = curves.place(scores, inner), len(inner) + 1
    n = np.bincount(index, minlength=b).astype(np.float64)
    h = np.bincount(index, targets, b)
    bounds = np.concatenate([[0.0], inner, [1.0]])
    middle = np.clip((bounds[1:] + bounds[:-1]) / 2, 1e-6, 1 - 1e-6)
    strength = _PRIOR / b
    a, c = strength * middle, strength * (1 - middle)
    evidence = gammaln(strength) - gammaln(n + strength) + gammaln(h + a) - gammaln(a) + gammaln(n - h + c) - gammaln(c)
    return inner, (h + a) / (n + strength), float(evidence.sum())

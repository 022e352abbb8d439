"""Top-label histogram binning (Gupta & Ramdas 2022, "Top-label calibration and multiclass-to-binary reductions").

For each predicted class apart, the confidence max p is cut into floor(n_c / points) bins of equal mass (at least one),
and becomes the share of right predictions in its bin. The other classes share the rest in their old proportions. Only
the confidence is calibrated, and only it has a guarantee. A class never predicted keeps its confidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.calibration import curves
from testbed.calibration.base import Calibrator, State
from testbed.parameters import Count
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class TopLabel(Calibrator):
    """Bins of the confidence for each predicted class; state: edges, heights, offsets, predicted (bool `[k]`).

    points  examples a bin

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]])
    >>> cal = TopLabel().fit(p, np.array([0, 0, 1, 1]), given="probs")
    >>> cal.probs(p[:1], given="probs").round(4).tolist()
    [[0.6667, 0.3333]]
    """

    points: Count = 50

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Top-label Calibration and Multiclass-to-binary Reductions", "Gupta and Ramdas", 2022, "ICLR", "2107.08353"
    )

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        best, top = x.argmax(axis=1), x.max(axis=1)
        fitted = []
        for k in range(x.shape[1]):
            scores, hits = top[best == k], (y[best == k] == k).astype(np.float64)
            inner = np.empty(0)
            if len(scores):
                inner = curves.inner_edges(scores, max(1, len(scores) // self.points), "mass")
            fitted.append((inner, curves.means(scores, hits, inner)))
        predicted = np.bincount(best, minlength=x.shape[1]) > 0
        return curves.flat(fitted) | {"predicted": predicted, "converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        best, top = x.argmax(axis=1), x.max(axis=1)
        read = curves.read(np.repeat(top[:, None], x.shape[1], axis=1), state)[np.arange(len(x)), best]
        return curves.with_top(x, np.where(state["predicted"][best], read, top))

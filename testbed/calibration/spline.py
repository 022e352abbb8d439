"""Spline calibration of the confidence (Gupta et al. 2021, "Calibration of neural networks using splines").

With confidences s sorted and t the share of examples below, the cumulative gap

    h(t) = 1/n sum over the lowest t n examples of (correct - s)

is fitted by a natural cubic spline with few knots (least squares). The accuracy at percentile t is then
s(t) + h'(t): the calibrated confidence, read at a test confidence by interpolation and cut to [0, 1]. The other classes
share the rest in their old proportions. The same cumulative gap's largest |h| is the KS calibration error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from testbed.calibration import curves
from testbed.calibration.base import Calibrator, State
from testbed.parameters import Count
from testbed.types import Float64, Ints, Outputs, Paper

_TABLE: Final = 1024


@dataclass(frozen=True)
class Spline(Calibrator):
    """Natural cubic spline of the cumulative gap; state: confidences and accuracies float64 `[m]`, a table.

    knots  evenly spaced in percentile, 6 in the paper

    >>> rng = np.random.default_rng(0)
    >>> top = rng.uniform(0.6, 1.0, 4000)
    >>> y = (rng.random(4000) > top - 0.2).astype(int)
    >>> cal = Spline().fit(np.stack([top, 1 - top], 1), y, given="probs")
    >>> cal.probs(np.array([[0.8, 0.2]]), given="probs").round(1).tolist()
    [[0.6, 0.4]]
    """

    knots: Count = 6

    inputs: ClassVar = "probs"
    reference: ClassVar[Paper] = Paper(
        "Calibration of Neural Networks using Splines",
        "Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu and Hartley", 2021, "ICLR", "2006.12800",
    )  # fmt: skip

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        from scipy.interpolate import CubicSpline

        top = x.max(axis=1)
        order = np.lexsort((x.argmax(axis=1) == y, top))
        s, n = top[order], len(top)
        t = (np.arange(n) + 1) / n
        gap = np.cumsum((x.argmax(axis=1) == y)[order] - s) / n
        places = np.linspace(0, 1, max(self.knots, 2))
        basis = CubicSpline(places, np.eye(len(places)), bc_type="natural")
        heights = np.linalg.lstsq(np.vstack([basis(0.0), basis(t)]), np.concatenate([[0.0], gap]), rcond=None)[0]
        at = np.unique(np.linspace(0, n - 1, min(n, _TABLE)).astype(np.int64))
        accuracies = np.clip(s[at] + basis(t[at], 1) @ heights, 0.0, 1.0)
        distinct, inverse, count = np.unique(s[at], return_inverse=True, return_counts=True)
        pooled = np.bincount(inverse, accuracies) / count
        return {"confidences": distinct, "accuracies": pooled, "converged": True}

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        return curves.with_top(x, np.interp(x.max(axis=1), state["confidences"], state["accuracies"]))

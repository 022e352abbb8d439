"""Failures of both kinds judged at once: wrong predictions on ID examples, and any prediction on an OOD one.

FD-Shifts (Jaeger et al., ICLR 2023) argues that a confidence has one task, to tell failures from successes, and that
OOD examples are failures as wrong predictions are. The detector's score, negated, is the confidence. The area measures
are those of `testbed.metrics.failure`; OSCR is that of `testbed.metrics.openset`. All take

    id_scores `[n]`, ood_scores `[m]`   larger = more OOD
    correct   `[n]`                     whether each ID example is classified correctly
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.metrics import delong
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.estimate import Estimate
from testbed.metrics.failure import AUGRC, AURC, EAURC
from testbed.metrics.ood import checked, infinite
from testbed.metrics.openset import failure_view, oscr
from testbed.parameters import Checked
from testbed.types import Array, Paper

_FD_SHIFTS = Paper(
    "A Call to Reflect on Evaluation Practices for Failure Detection in Image Classification",
    "Paul F. Jaeger, Carsten T. Luth, Lukas Klein, Till J. Bungert", 2023, "ICLR", "2211.15259",
)  # fmt: skip


@dataclass(frozen=True)
class _Unified(Checked):
    """What the three share: ID and OOD as one set, failures as said above."""

    needs = "failures"
    higher_is_better = False
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = _FD_SHIFTS
    measure: ClassVar[Any]

    def __call__(self, id_scores: Array, ood_scores: Array, correct: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]` and correct `[n]` -> the measure over all n + m."""
        view = failure_view(id_scores, correct, ood_scores)
        estimate: Estimate = self.measure()(view.confidence, view.correct, draws=None)
        words = f"failures: wrong ID and all OOD; {estimate.convention}{infinite(id_scores, ood_scores)}"
        return replace(estimate, convention=words)


@dataclass(frozen=True)
class AURCWithOOD(_Unified):
    """AURC with OOD examples as failures.

    >>> right = np.array([True, True])
    >>> AURCWithOOD()(np.array([0.0, 1.0]), np.array([2.0, 3.0]), right, draws=None).value.__round__(6)
    0.208333
    """

    measure = AURC


@dataclass(frozen=True)
class EAURCWithOOD(_Unified):
    """E-AURC with OOD examples as failures."""

    measure = EAURC


@dataclass(frozen=True)
class AUGRCWithOOD(_Unified):
    """AUGRC with OOD examples as failures."""

    measure = AUGRC


@dataclass(frozen=True)
class OSCR(Checked):
    """Open-set classification rate: the chance that a random ID example is right and below a random OOD score.

    >>> print(OSCR()(np.array([0.1, 0.2]), np.array([0.3, 0.15]), np.array([True, False]), draws=None))
    0.5 [0.01266, 1] (n=4; wrong ID counts as rejected; ties half; delong-gamma 95%)
    """

    interval: Literal["delong"] = "delong"

    needs = "failures"
    higher_is_better = True
    version: ClassVar[int] = 2
    reference: ClassVar[Paper] = Paper(
        "Reducing Network Agnostophobia", "Akshay Raj Dhamija, Manuel Gunther, Terrance E. Boult",
        2018, "NeurIPS", "1811.04110",
    )  # fmt: skip

    def __call__(self, id_scores: Array, ood_scores: Array, correct: Array, *, draws: Draws | None) -> Estimate:
        """Scores `[n]`, `[m]` and correct `[n]` -> the rate."""
        first, second = checked(id_scores, "ID"), checked(ood_scores, "OOD")
        value, right = oscr(first, second, correct), np.asarray(correct, dtype=bool)
        inner = right * delong.components(first, second).id
        outer = delong.components(first[right], second).ood * right.mean() if right.any() else np.zeros(len(second))
        spread = sum(float(v.var(ddof=1)) / len(v) if len(v) > 1 else np.nan for v in (inner, outer))
        low, high = delong.bounds(value, spread, min(len(first), len(second)))
        words = f"wrong ID counts as rejected; ties half{infinite(first, second)}; delong-gamma {LEVEL:.0%}"
        return Estimate(value, low, high, words, len(first) + len(second))

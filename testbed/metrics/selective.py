"""Coverage at risk: the largest share of examples that can be answered, most certain first, at a bounded error rate.

(Geifman & El-Yaniv 2017, "Selective classification for deep neural networks".) Answering starts with the most certain
examples and takes in ties together; the coverage is the largest share answered with selective risk at most `risk`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.errors import UsageError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.estimate import Estimate
from testbed.metrics.failure import arrange
from testbed.types import Array, Float64, Ints, Paper


def coverage_at_risk(confidence: Array, correct: Array, risk: float = 0.05) -> float:
    """Largest coverage in [0, 1] at which at most `risk` of the answered examples are wrong; 0 if there is none.

    >>> coverage_at_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]), risk=0.3)
    1.0
    >>> coverage_at_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]), risk=0.2)
    0.5
    """
    ends, wrong, _ = _sorted(confidence, correct, risk)
    return float(_coverage(np.ones((1, len(wrong))), ends, wrong, risk)[0])


@dataclass(frozen=True)
class CoverageAtRisk:
    """Coverage at a bounded selective risk, with a bootstrap interval."""

    risk: float = 0.05

    needs: ClassVar[str] = "confidence"
    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Selective Classification for Deep Neural Networks", "Geifman and El-Yaniv", 2017, "NeurIPS", "1705.08500"
    )

    def __call__(self, confidence: Array, correct: Array, *, draws: Draws) -> Estimate:
        """Confidence `[n]`, larger = more certain, and correct `[n]` -> the coverage."""
        ends, wrong, order = _sorted(confidence, correct, self.risk)
        value = float(_coverage(np.ones((1, len(wrong))), ends, wrong, self.risk)[0])
        replicates = np.concatenate(list(self._drawn(draws, ends, wrong, order)))
        return draws.estimate(value, replicates, f"coverage at risk {self.risk:g}, ties together")

    def _drawn(self, draws: Draws, ends: Ints, wrong: Float64, order: Ints) -> Iterator[Float64]:
        for block in draws.blocks():
            yield _coverage(block[:, order].astype(np.float64), ends, wrong, self.risk)


def _sorted(confidence: Array, correct: Array, risk: float) -> tuple[Ints, Float64, Ints]:
    """Last position of each run of equal confidences, and errors, by falling confidence; and that order."""
    if not 0 <= risk < 1:
        raise UsageError(f"coverage_at_risk: risk is an error rate in [0, 1), got {risk:g}")
    found = arrange(confidence, correct)
    score = np.asarray(confidence, dtype=np.float64)[found.order]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return ends, found.wrong, np.asarray(found.order)


def _coverage(counts: Float64, ends: Ints, wrong: Float64, risk: float) -> Float64:
    """Coverage of each resample: rows of counts in sorted order `[r, n]`."""
    answered = np.cumsum(counts, axis=1)[:, ends]
    errors = np.cumsum(counts * wrong, axis=1)[:, ends]
    allowed = errors <= risk * answered + 1e-9
    return np.asarray(np.where(allowed, answered, 0.0).max(axis=1) / counts.sum(axis=1))

"""What a calibrator announced for some examples, judged by labels: what all measures are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from testbed.calibration.conformal import Score, scores, threshold
from testbed.calibration.inputs import FLOOR
from testbed.types import Array, Float64, Ints


@dataclass(frozen=True)
class Judged:
    """A row an example: confidence, right, loss (nats), label in the set (split, adaptive), size of the set (both)."""

    confidence: Float64
    correct: Float64
    loss: Float64
    held: Float64
    held_adaptive: Float64
    size: Float64
    size_adaptive: Float64

    def __len__(self) -> int:
        return len(self.confidence)

    def take(self, rows: slice) -> Judged:
        """The examples at these positions."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Announced:
    """Probabilities `[n, k]`, and conformal scores of every class with the two thresholds in force."""

    probs: Float64
    scores: Float64
    split: float
    adaptive: float

    def judge(self, labels: Ints) -> Judged:
        """What these labels `[n]` say of it."""
        rows = np.arange(len(labels))
        at_label = self.scores[rows, labels]
        within, within_adaptive = (self.scores <= limit + 1e-12 for limit in (self.split, self.adaptive))
        return Judged(
            confidence=self.probs.max(axis=1),
            correct=(self.probs.argmax(axis=1) == labels).astype(np.float64),
            loss=-np.log(np.maximum(self.probs[rows, labels], FLOOR)),
            held=(at_label <= self.split + 1e-12).astype(np.float64),
            held_adaptive=(at_label <= self.adaptive + 1e-12).astype(np.float64),
            size=within.sum(axis=1).astype(np.float64),
            size_adaptive=within_adaptive.sum(axis=1).astype(np.float64),
        )


@dataclass(frozen=True)
class Sets:
    """Split-conformal sets with thresholds from calibration probabilities, asked for any error rate.

    >>> sets = Sets.fitted(np.array([[0.9, 0.1]] * 19), np.array([0] * 18 + [1]), "lac", 0.1)
    >>> sets.announce(np.array([[0.95, 0.05]]), 0.1).judge(np.array([0])).size.tolist()
    [1.0]
    """

    at_label: Array
    score: Score
    alpha: float

    @classmethod
    def fitted(cls, probs: Float64, labels: Ints, score: Score, alpha: float) -> Sets:
        """From probabilities `[n, k]` and labels `[n]` of the calibration split."""
        return cls(np.sort(scores(probs, score)[np.arange(len(labels)), labels]), score, alpha)

    def announce(self, probs: Float64, adaptive_alpha: float) -> Announced:
        """The sets at the target error rate and at the adaptive one."""
        split, adaptive = (threshold(self.at_label, alpha) for alpha in (self.alpha, adaptive_alpha))
        return Announced(probs, scores(probs, self.score), split, adaptive)

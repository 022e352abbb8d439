"""Stability over perturbation sequences as metric plug-ins: flip probability, top-5 distance, and their means.

One number of one sequence has its interval over the films, which are what was drawn; frames of one film are not
independent. It is the gamma interval of a mean in [0, 1] (flips) or [0, 15] (five places lost at once), see `bounded`.
mFP is a plain mean over sequences; mFR and mT5D divide each sequence by a baseline's, which here is a model of the same
grid (the published baseline is AlexNet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from testbed.metrics.aggregates import HENDRYCKS, Aggregate, Measures, mean_of
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import mean_interval
from testbed.metrics.corruption import SEQUENCES, flips_by_sequence, top5_by_sequence
from testbed.metrics.estimate import Estimate
from testbed.metrics.resampled import Measured
from testbed.parameters import Checked, Count
from testbed.types import Float64, Paper

Films = Literal["all", "cifar", "imagenet"]


@dataclass(frozen=True)
class FrameMetric(Checked):
    """Base: a number of each film, averaged. `difficulty` k compares frames k apart (not of noise sequences)."""

    difficulty: Count = 1

    needs: ClassVar[str] = "frames"
    version: ClassVar[int] = 2
    largest: ClassVar[float] = 1.0
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[Paper] = HENDRYCKS

    def __call__(self, scores: Any, noise: bool, *, draws: Draws) -> Estimate:
        """The estimate; scores are logits or probabilities `[films frames k]`, `draws` of the films."""
        films = self.films(np.asarray(scores, np.float64), noise)
        low, high = mean_interval(films, top=self.largest)
        return Estimate(float(films.mean()), low, high, f"{self._named(scores, noise)}; gamma {LEVEL:.0%}", len(films))

    def measure(self, scores: Any, noise: bool, draws: Draws) -> Measured:
        """Value, replicates under `draws`, convention."""
        films = self.films(np.asarray(scores, np.float64), noise)
        return Measured(float(films.mean()), draws.means(films), self._named(scores, noise))

    def _named(self, scores: Any, noise: bool) -> str:
        against = "the first frame" if noise else f"the frame {self.difficulty} before"
        return f"{np.shape(scores)[1]} frames, each against {against}"

    def films(self, scores: Float64, noise: bool) -> Float64:
        """The number of each film, float64 `[films]`."""
        raise NotImplementedError


@dataclass(frozen=True)
class FlipProbability(FrameMetric):
    """How often the decision changes between frames.

    >>> scores = np.eye(3)[[[1, 1, 2, 2, 1]]]
    >>> FlipProbability()(scores, False, draws=Draws(0, 1, 10)).value
    0.5
    """

    def films(self, scores: Float64, noise: bool) -> Float64:
        return flips_by_sequence(scores.argmax(axis=2), noise=noise, difficulty=1 if noise else self.difficulty)


@dataclass(frozen=True)
class Top5Distance(FrameMetric):
    """How far the five most likely classes move in rank between frames."""

    largest: ClassVar[float] = 15.0

    def films(self, scores: Float64, noise: bool) -> Float64:
        return top5_by_sequence(scores, noise=noise, difficulty=1 if noise else self.difficulty)


@dataclass(frozen=True)
class MeanFlipProbability(Aggregate):
    """mFP: plain mean of the flip probabilities of all sequences, or of the ten that are published."""

    which: Films = "all"

    over: ClassVar[Literal["shifts", "sequences"]] = "sequences"

    @property
    def measured(self) -> str:
        return "flip_probability"

    def names(self) -> tuple[str, ...] | None:
        """The sequences averaged over; None for all."""
        return None if self.which == "all" else tuple(f"{name}_sequence" for name in SEQUENCES[self.which])

    def lacks(self, conditions: Mapping[str, Sequence[float | None]]) -> str:
        missing = [name for name in self.names() or () if name not in conditions]
        return f"it needs {', '.join(missing)} among the conditions" if missing else super().lacks(conditions)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        means = own.means(self.names())
        return mean_of(means), f"{self.measured}, mean over {len(means)} sequences"


@dataclass(frozen=True)
class MeanFlipRate(MeanFlipProbability):
    """mFR: mean over sequences of the flip probability by that of the model `baseline`."""

    baseline: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        return (self.baseline,)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        base = others[0].means(self.names())
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = {name: value / base[name] for name, value in own.means(self.names()).items()}
        return mean_of(ratios), f"{self.measured}, mean over {len(ratios)} sequences of its ratio to {self.baseline}"


@dataclass(frozen=True)
class MeanTop5Distance(MeanFlipRate):
    """Mean top-5 distance over sequences; with a `baseline` mT5D, the mean ratio to that model's."""

    @property
    def measured(self) -> str:
        return "top5_distance"

    @property
    def others(self) -> tuple[str, ...]:
        return (self.baseline,) if self.baseline else ()

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        return super().combine(own, others) if others else MeanFlipProbability.combine(self, own, others)

"""Estimates of accuracy without labels as metrics of a grid, each with its error against the labels that a grid has.

The estimators are those of `unlabelled` (AC, DoC, ATC, GDE). Each is the mean of one number an example of the target,
given what is learned from labelled source outputs (the calibration split): so the error, estimate minus accuracy, is a
mean of differences on the same examples, and its interval is paired. Resamples of the source are drawn too (DoC's
offset, ATC's threshold), independently of the target's. Intervals are gamma ones (`bounded`) with the variance of the
replicates, so that they have a width where all examples agree or are right.

An estimate that lies more than `tolerance` outside the 95 % interval of the accuracy measured is flagged
`estimate-failed`: under concept change they all fail, and nothing in the unlabelled data shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import gamma_interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.unlabelled import Score, failed, scores
from testbed.parameters import Checked, Share
from testbed.types import Array, Float64, Paper

_ATC = Paper(
    "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance",
    "Garg, Balakrishnan, Lipton, Neyshabur and Sedghi", 2022, "ICLR", "2201.04234",
)  # fmt: skip
_DOC = Paper(
    "Predicting with Confidence on Unseen Distributions",
    "Guillory, Shankar, Ebrahimi, Darrell and Schmidt", 2021, "ICCV", "2107.03315",
)  # fmt: skip
_AC = Paper(
    "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks",
    "Hendrycks and Gimpel", 2017, "ICLR", "1610.02136",
)  # fmt: skip
_GDE = Paper(
    "Assessing Generalization of SGD via Disagreement", "Jiang, Nagarajan, Baek and Kolter", 2022, "ICLR", "2106.13799"
)


class Labelled(NamedTuple):
    """Labelled outputs that a metric learns from: probabilities float64 `[m, k]`, labels and ids int64 `[m]`."""

    probs: Array
    labels: Array
    ids: Array


class Told(NamedTuple):
    """An estimate, its replicates float64 `[r]` under the draws of the target, and how it was made."""

    value: float
    replicates: Float64
    convention: str


@dataclass(frozen=True)
class EstimatedAccuracy(Checked):
    """Base of the estimators; a subclass writes `tell`. `is_error` turns the estimate into its error.

    tolerance  how far outside the interval of the measured accuracy an estimate may lie before it is flagged
    """

    tolerance: Share = 0.05

    needs: ClassVar[str] = "source"
    version: ClassVar[int] = 2
    is_error: ClassVar[bool] = False

    def __call__(self, probs: Any, labels: Any, *, draws: Draws, **given: Any) -> Estimate:
        """The estimate (or its error) of the accuracy of `probs` `[n, k]`; `labels` serve the error and the flag."""
        p, y = probabilities(probs, labels, type(self).__name__)
        correct = top_label(p, y)[1]
        told = self.tell(p, draws=draws, **given)
        value, replicates = told.value, told.replicates
        if self.is_error:
            value, replicates = value - float(correct.mean()), replicates - draws.means(correct)
        one = 1 / min(len(p), len(given["source"].labels) if "source" in given else len(p))
        low, high = gamma_interval(
            value, float(np.var(replicates)), one, one * one, floor=-1.0 if self.is_error else 0.0, both=self.is_error
        )
        what = "estimate - accuracy, paired" if self.is_error else "estimate"
        named = f"{told.convention}; {what}, gamma {LEVEL:.0%} by bootstrap variance x{draws.replicates}"
        off = failed(told.value, int(correct.sum()), len(correct), self.tolerance)
        return Estimate(value, low, high, named, len(correct), "estimate-failed" if off else "")

    def tell(self, p: Float64, *, draws: Draws, **given: Any) -> Told:
        """The estimate from the target's probabilities and what is `given`, without labels of the target."""
        raise NotImplementedError


@dataclass(frozen=True)
class AverageConfidence(EstimatedAccuracy):
    """AC: the target's mean confidence.

    >>> p = np.array([[0.1, 0.9], [0.3, 0.7]])
    >>> AverageConfidence()(p, [1, 0], draws=Draws(0, 2, 10), source=Labelled(p, np.array([1, 1]), np.arange(2))).value
    0.8
    """

    reference: ClassVar[Paper] = _AC

    def tell(self, p: Float64, *, draws: Draws, **given: Any) -> Told:
        confidence = p.max(axis=1)
        return Told(float(confidence.mean()), draws.means(confidence), "AC")


@dataclass(frozen=True)
class DifferenceOfConfidences(EstimatedAccuracy):
    """DoC: source accuracy minus the fall of mean confidence from source to target, cut to [0, 1]."""

    reference: ClassVar[Paper] = _DOC

    def tell(self, p: Float64, *, draws: Draws, **given: Any) -> Told:
        source: Labelled = given["source"]
        held, right = top_label(*probabilities(source.probs, source.labels, "doc"))
        offset, confidence = right - held, p.max(axis=1)
        drawn = draws.other(len(offset), "source").means(offset) + draws.means(confidence)
        value = float(np.clip(offset.mean() + confidence.mean(), 0, 1))
        return Told(value, np.clip(drawn, 0, 1), f"DoC from {len(offset)} labelled")


@dataclass(frozen=True)
class ThresholdedConfidence(EstimatedAccuracy):
    """ATC: share of the target above the score that as large a share of the source exceeds as is right there."""

    score: Score = "max"

    reference: ClassVar[Paper] = _ATC

    def tell(self, p: Float64, *, draws: Draws, **given: Any) -> Told:
        source: Labelled = given["source"]
        q, y = probabilities(source.probs, source.labels, "atc")
        wrong = 1 - top_label(q, y)[1]
        known, seen = scores(q, self.score), scores(p, self.score)
        order, place = np.argsort(known, kind="stable"), np.argsort(seen, kind="stable")
        known, wrong, seen = known[order], wrong[order], seen[place]
        value = _above(known, np.ones((1, len(known))), wrong, seen, np.ones((1, len(seen))))[0]
        both = zip(_rows(draws.other(len(known), "source")), _rows(draws), strict=True)
        drawn = [_above(known, a[:, order], wrong, seen, b[:, place]) for a, b in both]
        replicates = np.concatenate(drawn) if drawn else np.empty(0)
        return Told(float(value), replicates, f"ATC by {self.score} from {len(known)} labelled")


@dataclass(frozen=True)
class Disagreement(EstimatedAccuracy):
    """GDE: share of the target on which another training run of the network predicts the same class.

    against  the model of the grid to compare with; "": the same one trained with the next of `train_seeds`
    """

    against: str = ""

    needs: ClassVar[str] = "mate"
    reference: ClassVar[Paper] = _GDE

    def tell(self, p: Float64, *, draws: Draws, **given: Any) -> Told:
        other = np.asarray(given["mate"])
        if other.shape != (len(p),):
            raise DataError(f"gde: expected the other model's predictions of {len(p)} examples, got {other.shape}")
        same = (p.argmax(axis=1) == other).astype(np.float64)
        return Told(float(same.mean()), draws.means(same), f"GDE, agreement with {self.against or 'the next seed'}")


@dataclass(frozen=True)
class AverageConfidenceError(AverageConfidence):
    """AC's estimate minus the accuracy measured."""

    is_error: ClassVar[bool] = True


@dataclass(frozen=True)
class DifferenceOfConfidencesError(DifferenceOfConfidences):
    """DoC's estimate minus the accuracy measured."""

    is_error: ClassVar[bool] = True


@dataclass(frozen=True)
class ThresholdedConfidenceError(ThresholdedConfidence):
    """ATC's estimate minus the accuracy measured."""

    is_error: ClassVar[bool] = True


@dataclass(frozen=True)
class DisagreementError(Disagreement):
    """GDE's estimate minus the accuracy measured."""

    is_error: ClassVar[bool] = True


def _rows(draws: Draws, block: int = 64) -> Iterator[Array]:
    """The counts of the draws, `block` replicates at a time whatever the size of the set."""
    held: list[Array] = []
    for part in draws.blocks():
        for row in part:
            held.append(row)
            if len(held) == block:
                yield np.stack(held)
                held = []
    if held:
        yield np.stack(held)


def _above(known: Float64, counts: Array, wrong: Float64, seen: Float64, drawn: Array) -> Float64:
    """ATC of each replicate: source scores `known` (sorted) counted `counts` `[r, m]`, target `seen` by `drawn`."""
    weights = counts.astype(np.float64)
    errors = (weights @ wrong)[:, None]
    first = (np.cumsum(weights, axis=1) <= errors).sum(axis=1)
    limit = np.where(first < len(known), known[np.minimum(first, len(known) - 1)], np.inf)
    below = np.searchsorted(seen, limit, side="left")
    total = np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn, axis=1, dtype=np.float64)], axis=1)
    return np.asarray(1 - total[np.arange(len(drawn)), below] / len(seen))

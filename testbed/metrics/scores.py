"""Accuracy and the proper scores of probabilities: NLL, Brier, root Brier.

Intervals are those of `bounded`: exact for shares, Hall's for mean losses, which is widened where fewer than ten
predictions are wrong (or right), because so few say little of what a wrong one costs. Bootstrap replicates serve paired
differences only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from annotated_types import Interval

from testbed.errors import DataError
from testbed.metrics.bootstrap import LEVEL, Draws
from testbed.metrics.bounded import FEW, clopper_pearson, loss_interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.options import one_of
from testbed.metrics.resampled import Analytic, Measured
from testbed.parameters import CountOrNone
from testbed.types import Float64, Ints, Paper

#: Where NLL cuts probabilities off: float64's machine epsilon, as scikit-learn does.
FLOOR: Final = float(np.finfo(np.float64).eps)
_Z: Final = 1.959963984540054

Scale = Literal["sum", "half"]


def accuracy(p: Any, y: Any) -> float:
    """Share of examples whose largest probability is at the label; the first of tied classes is the prediction.

    >>> accuracy([[0.1, 0.9], [0.6, 0.4]], [1, 1])
    0.5
    """
    return float(top_label(*probabilities(p, y, "accuracy"))[1].mean())


def nll(p: Any, y: Any, floor: float = FLOOR) -> float:
    """Mean negative log-likelihood in nats: mean of -log max(p_y, floor). `floor=0` gives inf at an exact zero.

    >>> nll([[0.5, 0.5], [0.0, 1.0]], [0, 1]).__round__(6), nll([[0.0, 1.0]], [0], floor=0)
    (0.346574, inf)
    """
    return float(_log_losses(*probabilities(p, y, "nll"), floor).mean())


def brier(p: Any, y: Any, scale: Scale = "sum") -> float:
    """Mean of sum_k (p_k - 1[y = k])^2, in [0, 2] (Brier 1950); "half" is half of it, scikit-learn's for two classes.

    >>> brier([[0.5, 0.5], [0.0, 1.0]], [0, 1]), brier([[0.5, 0.5], [0.0, 1.0]], [0, 1], scale="half")
    (0.25, 0.125)
    """
    one_of(scale, Scale, "brier: scale")
    return float(_square_losses(*probabilities(p, y, "brier")).mean()) * (0.5 if scale == "half" else 1.0)


def rbs(p: Any, y: Any) -> float:
    """Root Brier score sqrt(brier), an upper bound of the canonical L2 calibration error (Gruber & Buettner 2022).

    >>> rbs([[0.5, 0.5], [0.0, 1.0]], [0, 1])
    0.5
    """
    return math.sqrt(brier(p, y))


def wilson(successes: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927): inside [0, 1], never a point, narrow.

    It covers 95 % on average but only .84 where about .18 errors (or hits) are expected, at every n, so the metrics
    take `bounded.clopper_pearson`.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share, z2 = successes / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


@dataclass(frozen=True)
class Accuracy(Analytic):
    """Top-1 accuracy with Clopper and Pearson's interval."""

    higher_is_better: ClassVar[bool] = True

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        return share(top_label(*probabilities(probs, labels, "accuracy"))[1], "top-1, first of tied classes")

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        correct = top_label(*probabilities(probs, labels, "accuracy"))[1]
        return Measured(float(correct.mean()), draws.means(correct), "top-1, first of tied classes")

    def per_example(self, probs: Any, labels: Any) -> Float64:
        return top_label(*probabilities(probs, labels, "accuracy"))[1]


@dataclass(frozen=True)
class SubsetAccuracy(Analytic):
    """Top-1 accuracy with the decision among some classes only: the convention of ImageNet-R and -A.

    classes  which; empty: those that occur among the labels

    >>> probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    >>> SubsetAccuracy()(probs, np.array([1, 2]), draws=Draws(0, 2, 10)).value
    1.0
    """

    classes: tuple[CountOrNone, ...] = ()

    higher_is_better: ClassVar[bool] = True

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        return share(*self._correct(probs, labels))

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        correct, named = self._correct(probs, labels)
        return Measured(float(correct.mean()), draws.means(correct), named)

    def per_example(self, probs: Any, labels: Any) -> Float64:
        return self._correct(probs, labels)[0]

    def _correct(self, probs: Any, labels: Any) -> tuple[Float64, str]:
        p, y = probabilities(probs, labels, "subset_accuracy")
        kept = np.array(self.classes, np.int64) if self.classes else np.unique(y)
        if kept.min() < 0 or kept.max() >= p.shape[1]:
            raise DataError(f"subset_accuracy: classes must lie in 0..{p.shape[1] - 1}, got {list(self.classes)}")
        correct = kept[p[:, kept].argmax(axis=1)] == y
        return correct.astype(np.float64), f"top-1 among {len(kept)} of {p.shape[1]} classes"


@dataclass(frozen=True)
class Nll(Analytic):
    """Mean negative log-likelihood; zeros are raised to `floor` (0: an exact zero gives inf, without interval)."""

    floor: Annotated[float, Interval(gt=0, lt=1)] = FLOOR

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        losses = _log_losses(*probabilities(probs, labels, "nll"), self.floor)
        replicates = None if np.isinf(losses).any() else draws.means(losses)
        return Measured(float(losses.mean()), replicates, self._named())

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "nll")
        losses = _log_losses(p, y, self.floor)
        if np.isinf(losses).any():
            return Estimate(float(losses.mean()), np.nan, np.nan, f"{self._named()}; no interval", len(y))
        return mean_loss(losses, p, y, lambda labels: _log_losses(p, labels, self.floor or FLOOR), self._named())

    def _named(self) -> str:
        return f"nats, {f'zeros floored at {self.floor:.3g}' if self.floor > 0 else 'zeros give inf'}"

    def per_example(self, probs: Any, labels: Any) -> Float64:
        return _log_losses(*probabilities(probs, labels, "nll"), self.floor)


@dataclass(frozen=True)
class Brier(Analytic):
    """Brier score, summed over classes (0..2) or half of that."""

    scale: Scale = "sum"

    reference: ClassVar[Paper] = Paper(
        "Verification of Forecasts Expressed in Terms of Probability", "Brier", 1950, "Monthly Weather Review"
    )

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        losses = self.per_example(probs, labels)
        return Measured(float(losses.mean()), draws.means(losses), f"{self.scale} over classes")

    def per_example(self, probs: Any, labels: Any) -> Float64:
        return self._factor * _square_losses(*probabilities(probs, labels, "brier"))

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        p, y = probabilities(probs, labels, "brier")
        losses = self._factor * _square_losses(p, y)
        return mean_loss(
            losses,
            p,
            y,
            lambda labels: self._factor * _square_losses(p, labels),
            f"{self.scale} over classes",
            2 * self._factor,
        )

    @property
    def _factor(self) -> float:
        return 0.5 if self.scale == "half" else 1.0


@dataclass(frozen=True)
class Rbs(Analytic):
    """Root Brier score, an upper bound of the canonical L2 calibration error."""

    reference: ClassVar[Paper] = Paper(
        "Better Uncertainty Calibration via Proper Scores for Classification and Beyond",
        "Gruber and Buettner", 2022, "NeurIPS", "2203.07835",
    )  # fmt: skip

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        losses = _square_losses(*probabilities(probs, labels, "rbs"))
        return Measured(math.sqrt(losses.mean()), np.sqrt(draws.means(losses)), "sum over classes")

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        one = Brier().estimate(probs, labels)
        value, low, high = (math.sqrt(end) for end in (one.value, one.low, one.high))
        return Estimate(value, low, high, one.convention, one.n)


def share(hits: Float64, words: str) -> Estimate:
    """The estimate of a share, from 0/1 `[n]`, with Clopper and Pearson's interval."""
    low, high = clopper_pearson(float(hits.sum()), len(hits))
    return Estimate(float(hits.mean()), low, high, f"{words}; clopper-pearson {LEVEL:.0%}", len(hits))


def mean_loss(
    losses: Float64, p: Float64, y: Ints, of: Callable[[Ints], Float64], words: str, most: float = math.inf
) -> Estimate:
    """The estimate of a mean of `losses` `[n]` in [0, most]; `of` gives the losses under other labels."""
    right = top_label(p, y)[1]
    other = p.copy()
    best = p.argmax(axis=1)
    other[np.arange(len(p)), best] = -1.0
    low, high = loss_interval(losses, right, of(np.where(right > 0, other.argmax(axis=1), best)), most)
    wrong = len(y) - int(right.sum())
    few = min(wrong, len(y) - wrong)
    kind = f" widened: {few} {'wrong' if wrong <= few else 'right'}" if few < FEW else ""
    return Estimate(float(losses.mean()), low, high, f"{words}; hall-t {LEVEL:.0%}{kind}", len(y))


def _log_losses(p: Float64, y: Ints, floor: float) -> Float64:
    with np.errstate(divide="ignore"):
        losses: Float64 = -np.log(np.maximum(p[np.arange(len(p)), y], floor))
    return losses


def _square_losses(p: Float64, y: Ints) -> Float64:
    """sum_k (p_k - 1[y = k])^2 = sum_k p_k^2 - 2 p_y + 1 of each row, float64 `[n]`."""
    squares: Float64 = np.einsum("nk,nk->n", p, p)
    return squares - 2 * p[np.arange(len(p)), y] + 1

"""Energy after shaping the activations of each example by themselves: nothing to fit.

With s1 = sum of z, and the `kept` = d - round(d percentile / 100) largest entries of z, whose sum is s2:

    ash_p   the others are set to 0                                    (Djurisic et al., ICLR 2023)
    ash_b   as ash_p, and every kept entry becomes s1 / kept
    ash_s   as ash_p, and the kept entries are multiplied by exp(s1 / s2)
    scale   all entries are multiplied by exp(s1 / s2), none is pruned  (Xu et al., ICLR 2024)
    lts     the LOGITS are multiplied by (s1 / s2)^2, sums over relu(z), s2 over the top share (Djurisic et al., 2025)

The papers shape activations >= 0 (after a ReLU). s2 <= 0 leaves the ratio undefined; it is taken as 1 there, so that
a feature vector of zeros scores the energy of the bias. Entries that tie with the smallest kept one: the first are
kept, so exactly `kept` remain. Applied to pooled penultimate features (the papers' CIFAR code shapes the map before
pooling).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
from annotated_types import Interval

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.head import head_energy, head_logits
from testbed.detection.numeric import float64, logsumexp
from testbed.parameters import PercentileBelow100
from testbed.types import Array, Float64, Outputs, Paper

_ASH: Final = Paper(
    "Extremely Simple Activation Shaping for Out-of-Distribution Detection",
    "Andrija Djurisic, Nebojsa Bozanic, Arjun Ashok, Rosanne Liu", 2023, "ICLR", "2209.09858",
)  # fmt: skip


@dataclass(frozen=True)
class _Shaped(Detector):
    """Energy of the head on shaped features."""

    percentile: PercentileBelow100 = 90.0

    consumes = ("features", "head")

    def __post_init__(self) -> None:
        name = type(self).__name__.lower()
        require(0 <= self.percentile < 100, f"{name}.percentile", "a number in [0, 100)", self.percentile)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Energy of the shaped features."""
        return head_energy(self.shape(_features(outputs)), outputs)

    @abstractmethod
    def shape(self, features: Float64) -> Float64:
        """The shaped features, float64 `[n d]`."""


@dataclass(frozen=True)
class ASHP(_Shaped):
    """Energy of pruned features; consumes features and head.

    percentile  share of each example's activations that is dropped, in 0..100; OpenOOD's default is 90
    """

    reference: ClassVar[Paper] = _ASH

    def shape(self, features: Float64) -> Float64:
        """All but the largest set to 0."""
        return np.where(largest(features, self.percentile), features, 0.0)


@dataclass(frozen=True)
class ASHB(_Shaped):
    """Energy of binarised features; consumes features and head.

    percentile  share of each example's activations that is dropped, in 0..100; OpenOOD's default is 90
    """

    reference: ClassVar[Paper] = _ASH

    def shape(self, features: Float64) -> Float64:
        """The kept share one value, with the sum of all."""
        kept = largest(features, self.percentile)
        fill = features.sum(axis=1) / kept.sum(axis=1)
        return np.where(kept, fill[:, None], 0.0)


@dataclass(frozen=True)
class ASHS(_Shaped):
    """Energy of pruned and sharpened features; consumes features and head.

    percentile  share of each example's activations that is dropped, in 0..100; the paper uses 90 on ImageNet
    """

    reference: ClassVar[Paper] = _ASH

    def shape(self, features: Float64) -> Float64:
        """Pruned, then scaled by exp(s1 / s2)."""
        pruned = np.where(largest(features, self.percentile), features, 0.0)
        return pruned * np.exp(ratio(features.sum(axis=1), pruned.sum(axis=1)))[:, None]


@dataclass(frozen=True)
class SCALE(_Shaped):
    """Energy of scaled features; consumes features and head.

    percentile  share of each example's activations that does not count in s2, in 0..100; the paper's default is 85
    """

    percentile: PercentileBelow100 = 85.0

    reference: ClassVar[Paper] = Paper(
        "Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement",
        "Kai Xu, Rongyu Chen, Gianni Franchi, Angela Yao", 2024, "ICLR", "2310.00227",
    )  # fmt: skip

    def shape(self, features: Float64) -> Float64:
        """All entries scaled by exp(s1 / s2)."""
        kept = np.where(largest(features, self.percentile), features, 0.0)
        return features * np.exp(ratio(features.sum(axis=1), kept.sum(axis=1)))[:, None]


@dataclass(frozen=True)
class LTS(Detector):
    """Energy of logits scaled by (s1 / s2)^2; consumes features and head, nothing to fit.

    top  per cent of the activations that count as the top, in (0, 100]; the paper's default is 5

    The logits are the head's on the features as they are.
    """

    top: Annotated[float, Interval(gt=0, le=100)] = 5.0

    consumes = ("features", "head")
    reference: ClassVar[Paper] = Paper(
        "Logit Scaling for Out-of-Distribution Detection", "Andrija Djurisic, Rosanne Liu, Mladen Nikolic",
        2025, "Machine Vision and Applications", "2409.01175",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(0 < self.top <= 100, "lts.top", "a number in (0, 100]", self.top)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Energy of the scaled logits."""
        z = _features(outputs)
        positive = np.maximum(z, 0.0)
        kept = np.where(largest(positive, 100.0 - self.top), positive, 0.0)
        factor = ratio(positive.sum(axis=1), kept.sum(axis=1)) ** 2
        return -logsumexp(head_logits(z, outputs) * factor[:, None])


def largest(features: Float64, percentile: float) -> Array:
    """bool `[n d]`: the max(1, d - round(d percentile / 100)) largest entries of each row, exactly so many.

    >>> largest(np.array([[1.0, 5.0, 5.0, 2.0]]), 75).tolist()
    [[False, True, False, False]]
    """
    d = features.shape[1]
    kept = max(1, d - round(d * percentile / 100))
    order = np.argsort(-features, axis=1, kind="stable")[:, :kept]
    mask = np.zeros(features.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def ratio(whole: Float64, part: Float64) -> Float64:
    """s1 / s2 where s2 > 0, else 1."""
    return np.where(part > 0, whole / np.where(part > 0, part, 1.0), 1.0)


def _features(outputs: Outputs) -> Float64:
    z = float64(np.asarray(outputs.features))
    same_width(z, np.asarray(outputs.head_weight).shape[1], "the head")
    return z

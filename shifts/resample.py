"""Shifts of the set: which examples are in it, while every example stays as it is. For images, tables and series alike.

    label_dirichlet   class shares drawn from Dirichlet(alpha) (Lipton et al. 2018)
    label_tweak_one   one class gets the share rho, the others split the rest evenly (the same)
    label_knock_out   a fraction of one class is taken away (the same)
    subpopulation     group shares as named, for worst-group accuracy (Sagawa et al. 2020)
    class_subset      only these classes, as in sets that share a part of the labels (ImageNet-R, -A)
    covariate_tilt    examples kept with probability proportional to exp(b z), z a standardised feature (Shimodaira
    2000)

The wanted shares are (1 - s/5) those of the set + (s/5) those of the shift, s the severity. Sampling is without
replacement, so ids stay unique: the largest subset with these shares is taken (`size` takes fewer), from each class the
examples with the smallest keyed number, so a set and its reordering give the same examples. The report's n shows how
many were left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.errors import DataError
from testbed.parameters import Checked, Count, CountOrNone, NonNegative, Positive, Severity, Share
from testbed.seeding import Rng
from testbed.types import Array, Examples, Ints, Paper

LIPTON = Paper(
    "Detecting and Correcting for Label Shift with Black Box Predictors",
    "Lipton, Z. and others",
    2018,
    "ICML",
    "1802.03916",
)
SAGAWA = Paper(
    "Distributionally Robust Neural Networks for Group Shifts", "Sagawa, S. and others", 2020, "ICLR", "1911.08731"
)
SHIMODAIRA = Paper(
    "Improving predictive inference under covariate shift by weighting the log-likelihood function",
    "Shimodaira, H.",
    2000,
    "JSPI",
)

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Resampling(Checked):
    """Base: `wanted` says the shares of the parts (classes unless a shift says otherwise) at severity 5.

    size  how many examples to take at most; None for as many as the shares allow
    """

    severity: Severity = 5.0
    size: Count | None = None

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular", "series")
    level: ClassVar[str] = "set"
    name: ClassVar[str] = ""
    reference: ClassVar[Paper] = LIPTON

    def parts(self, examples: Examples) -> Ints:
        """The part each example is in."""
        return examples.y

    def wanted(self, now: Shares, rng: Rng) -> Shares:
        """The shares at severity 5; `now` are those of the set."""
        raise NotImplementedError

    def __call__(self, examples: Examples, *, rng: Rng) -> Ints:
        """Positions of the examples that stay."""
        parts = self.parts(examples)
        if parts.min() < 0:
            raise DataError(f"shift {self.name!r} needs a label for every example; {int((parts < 0).sum())} have none")
        now = np.bincount(parts) / len(parts)
        share = self.severity / 5
        target = (1 - share) * now + share * self.wanted(now, whole_set(rng))
        return picked(parts, target, rng.uniform(name="order"), self.size)

    def within(self, index: int, count: int, what: str) -> int:
        """`index`, checked to lie in 0..count-1."""
        if not 0 <= index < count:
            raise DataError(f"shift {self.name!r}: {what} {index} is not in the set, which has {count} of them")
        return index


def whole_set(rng: Rng) -> Rng:
    """One row of draws for the set, the same for any of its orders and subsets."""
    return Rng(rng.operation, rng.draws, rng.seed, [0])


def picked(parts: Ints, target: Shares, order: Array, size: int | None = None) -> Ints:
    """Positions of a largest subset whose parts have the shares `target`; each part gives those lowest in `order`.

    >>> picked(np.array([0, 0, 0, 0, 1, 1]), np.array([0.5, 0.5]), np.arange(6)).tolist()
    [0, 1, 4, 5]
    """
    counts = np.bincount(parts, minlength=len(target))
    shares = target / target.sum()
    possible = np.floor(np.min(counts[shares > 0] / shares[shares > 0]) + 1e-9)
    total = int(possible if size is None else min(size, possible))
    take = np.floor(shares * total + 1e-9).astype(np.int64)
    chosen = [np.flatnonzero(parts == k) for k in range(len(target))]
    rows = [of[np.argsort(order[of], kind="stable")[: take[k]]] for k, of in enumerate(chosen)]
    return np.sort(np.concatenate(rows))


@dataclass(frozen=True)
class LabelDirichlet(Resampling):
    """Class shares drawn at random: the smaller `alpha`, the further from even."""

    alpha: Positive = 1.0

    name = "label_dirichlet"

    def wanted(self, now: Shares, rng: Rng) -> Shares:
        """One draw for the set and the seed, 0 for absent classes."""
        drawn = rng.generators(name="shares")[0].dirichlet(np.full(len(now), self.alpha)) * (now > 0)
        return np.asarray(drawn / drawn.sum())


@dataclass(frozen=True)
class LabelTweakOne(Resampling):
    """Class `label` gets the share `rho`; the other present classes share the rest evenly."""

    label: CountOrNone = 0
    rho: Share = 0.9

    name = "label_tweak_one"

    def wanted(self, now: Shares, rng: Rng) -> Shares:
        """rho, and (1 - rho) / (k - 1) for the others."""
        label = self.within(self.label, len(now), "label")
        others = (now > 0) & (np.arange(len(now)) != label)
        shares = np.where(others, (1 - self.rho) / max(int(others.sum()), 1), 0.0)
        shares[label] = self.rho
        return shares


@dataclass(frozen=True)
class LabelKnockOut(Resampling):
    """The fraction `delta` of class `label` taken away; all other examples stay."""

    label: CountOrNone = 0
    delta: Share = 0.9

    name = "label_knock_out"

    def wanted(self, now: Shares, rng: Rng) -> Shares:
        """The set's own shares, one of them lowered."""
        shares = now.copy()
        shares[self.within(self.label, len(now), "label")] *= 1 - self.delta
        return np.asarray(shares / shares.sum())


@dataclass(frozen=True)
class Subpopulation(Resampling):
    """The set's groups in the proportions `ratios` (by group index, of any sum); empty: all groups alike."""

    ratios: tuple[NonNegative, ...] = ()

    name = "subpopulation"
    reference: ClassVar[Paper] = SAGAWA

    def parts(self, examples: Examples) -> Ints:
        """The groups."""
        if examples.groups is None:
            raise DataError("shift 'subpopulation' needs a data set with groups; this one has none")
        return examples.groups

    def wanted(self, now: Shares, rng: Rng) -> Shares:
        """The ratios as shares."""
        ratios = np.asarray(self.ratios, np.float64) if self.ratios else (now > 0).astype(np.float64)
        if len(ratios) != len(now) or (ratios < 0).any() or ratios.sum() == 0:
            wanted = f"{len(now)} ratios, one a group, none negative"
            raise DataError(f"shift 'subpopulation': expected {wanted}; got {self.ratios}")
        return np.asarray(ratios / ratios.sum())


@dataclass(frozen=True)
class ClassSubset(Resampling):
    """Only these classes, in their own proportions. The model keeps all its outputs."""

    classes: tuple[CountOrNone, ...] = (0,)

    name = "class_subset"

    def wanted(self, now: Shares, rng: Rng) -> Shares:
        """The set's own shares, 0 for the other classes."""
        keep = np.isin(np.arange(len(now)), [self.within(k, len(now), "class") for k in self.classes])
        if not (now * keep).sum():
            raise DataError(f"shift 'class_subset': no example has a class in {self.classes}")
        return np.asarray(np.where(keep, now, 0) / (now * keep).sum())


@dataclass(frozen=True)
class CovariateTilt(Resampling):
    """Examples kept with probability exp(b z) / max exp(b z): larger values of a feature become more frequent.

    feature  column of a table; for images and series the mean of the example, whatever the column
    b        strength at severity 5, in units of the feature's standard deviation; negative favours small values
    """

    feature: CountOrNone = 0
    b: float = 1.0

    name = "covariate_tilt"
    reference: ClassVar[Paper] = SHIMODAIRA

    def __call__(self, examples: Examples, *, rng: Rng) -> Ints:
        """Positions of the examples that stay, at least one."""
        flat = examples.x.reshape(len(examples), -1).astype(np.float64)
        if examples.spec.kind == "tabular":
            values = flat[:, self.within(self.feature, flat.shape[1], "feature")]
        else:
            values = flat.mean(axis=1)
        spread = values.std()
        tilt = self.severity / 5 * self.b * (values - values.mean()) / (spread if spread > 0 else 1)
        keep = rng.uniform(name="keep") < np.exp(tilt - tilt.max())
        keep[np.argmax(tilt)] = True
        rows = np.flatnonzero(keep)
        return rows if self.size is None else rows[: self.size]

"""Shifts of tables: what happens to the columns of a data base between training and use.

    feature_noise     x + sigma range N(0, 1) on numeric columns
    feature_scaling   x (1 + factor) about the column's lower bound: a sensor or a currency that drifted
    missing_values    cells lost: at random (mcar), where another column is large (mar), where the cell itself is (mnar)
    category_swap     a categorical cell takes another category of its column
    rounding          numeric columns kept to a number of steps in their range
    outliers          single cells moved to an extreme outside the middle of the range
    unit_error        a whole numeric column of an example written in another unit, x times `factor`

Data are float32 `[n f]`. `spec` says which columns are categorical (whole codes) and the bounds (low, high) of
each; range is
high - low. Everything scales with s/5, s the severity, and stays inside the bounds, except missing cells with
`fill: nan`. Each example is shifted alone: no statistic of the batch is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.parameters import Checked, Count, CountOrNone, NonNegative, Severity, Share
from testbed.seeding import Rng
from testbed.types import Paper, Spec

JENGA = Paper(
    "JENGA: A Framework to Study the Impact of Data Errors on the Predictions of Machine Learning Models",
    "Schelter, S. and others",
    2021,
    "EDBT",
)

Table = NDArray[np.float32]


@dataclass(frozen=True)
class TableShift(Checked):
    """Base: severity in [0, 5], and the columns it works on (by index; None for all that fit)."""

    severity: Severity = 3.0
    columns: tuple[CountOrNone, ...] | None = None

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("tabular",)
    level: ClassVar[str] = "example"
    name: ClassVar[str] = ""
    reference: ClassVar[Paper] = JENGA

    @property
    def share(self) -> float:
        """The severity as a fraction."""
        return self.severity / 5

    def over(self, spec: Spec, *, categorical: bool = False) -> NDArray[np.bool_]:
        """bool `[f]`: the columns to work on."""
        features = spec.shape[0]
        kind = np.isin(np.arange(features), spec.categorical)
        named = np.ones(features, bool) if self.columns is None else np.isin(np.arange(features), self.columns)
        return np.asarray((kind if categorical else ~kind) & named)


def limits(spec: Spec) -> tuple[Table, Table]:
    """Lower and upper bound of each column, float32 `[f]`."""
    pairs = np.asarray(spec.bounds, np.float32)
    both = np.broadcast_to(pairs, (spec.shape[0], 2)) if len(pairs) == 1 else pairs
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def inside(values: Table, spec: Spec) -> Table:
    """Values brought back into the bounds, float32."""
    return np.clip(values, *limits(spec)).astype(np.float32)


@dataclass(frozen=True)
class FeatureNoise(TableShift):
    """Normal noise of standard deviation `sigma` times the column's range at severity 5."""

    sigma: NonNegative = 0.25

    name = "feature_noise"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """x + noise on numeric columns."""
        low, high = limits(spec)
        noise = rng.normal(x.shape[1:], name="noise") * (high - low) * np.float32(self.sigma * self.share)
        return np.where(self.over(spec), inside(x + noise, spec), x)


@dataclass(frozen=True)
class FeatureScaling(TableShift):
    """Numeric columns stretched from their lower bound by 1 + `factor` at severity 5 (negative shrinks)."""

    factor: float = 0.5

    name = "feature_scaling"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """low + (x - low) (1 + factor)."""
        low, _ = limits(spec)
        scaled = low + (x - low) * np.float32(1 + self.factor * self.share)
        return np.where(self.over(spec), inside(scaled, spec), x)


@dataclass(frozen=True)
class MissingValues(TableShift):
    """Cells lost with probability `fraction` at severity 5, and filled.

    mechanism  mcar: every cell alike; mar: in proportion to where column `given` stands in its range; mnar: in
    proportion
               to where the cell itself stands. For mar and mnar `fraction` holds at the top of the range
    fill       middle of the range, its low end, or nan for models that take it; categorical cells take the middle code
    """

    fraction: Share = 0.5
    mechanism: Literal["mcar", "mar", "mnar"] = "mcar"
    given: CountOrNone = 0
    fill: Literal["middle", "low", "nan"] = "middle"

    name = "missing_values"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """x with filled gaps."""
        low, high = limits(spec)
        place = np.clip((x - low) / np.where(high > low, high - low, 1), 0, 1)
        chance = {"mcar": np.ones_like(place), "mar": place[:, [self.given]], "mnar": place}[self.mechanism]
        lost = rng.uniform(x.shape[1:], name="lost") < chance * (self.fraction * self.share)
        fills: dict[str, Table] = {
            "middle": (low + high) * np.float32(0.5),
            "low": low,
            "nan": np.full_like(low, np.nan),
        }
        filled = fills[self.fill]
        whole = np.isin(np.arange(x.shape[1]), spec.categorical)
        filled = np.where(whole, np.floor(filled), filled)
        return np.where(lost & (self.over(spec) | self.over(spec, categorical=True)), filled, x).astype(np.float32)


@dataclass(frozen=True)
class CategorySwap(TableShift):
    """Categorical cells that take any other category, with probability `fraction` at severity 5."""

    fraction: Share = 0.5

    name = "category_swap"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """x with swapped codes."""
        low, high = limits(spec)
        swapped = rng.uniform(x.shape[1:], name="swapped") < self.fraction * self.share
        count = np.floor(high - low) + 1
        step = 1 + np.floor(rng.uniform(x.shape[1:], name="step") * np.maximum(count - 1, 1))
        other = low + (x - low + step) % count
        return np.where(swapped & self.over(spec, categorical=True) & (count > 1), other, x).astype(np.float32)


@dataclass(frozen=True)
class Rounding(TableShift):
    """Numeric columns rounded to `steps` values over their range at severity 5, to more at milder ones."""

    steps: Count = 4

    name = "rounding"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """low + round((x - low) / width) width, width = s/5 range / (steps - 1)."""
        low, high = limits(spec)
        width = np.maximum((high - low) * np.float32(self.share / max(self.steps - 1, 1)), np.finfo(np.float32).tiny)
        return np.where(self.over(spec), inside(low + np.rint((x - low) / width) * width, spec), x)


@dataclass(frozen=True)
class Outliers(TableShift):
    """Numeric cells thrown to one end of their range with probability `fraction` at severity 5."""

    fraction: Share = 0.2

    name = "outliers"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """x with some cells at a bound."""
        low, high = limits(spec)
        hit = rng.uniform(x.shape[1:], name="hit") < self.fraction * self.share
        ends = np.where(rng.uniform(x.shape[1:], name="end") < 0.5, low, high)
        return np.where(hit & self.over(spec), ends, x).astype(np.float32)


@dataclass(frozen=True)
class UnitError(TableShift):
    """One numeric column of an example written in another unit (x `factor`), for the share `fraction` at severity 5."""

    fraction: Share = 0.5
    factor: float = 2.54

    name = "unit_error"

    def __call__(self, x: Table, *, rng: Rng, spec: Spec) -> Table:
        """x with one column times the factor."""
        over = np.flatnonzero(self.over(spec))
        if not len(over):
            return x
        hit = rng.uniform(name="hit") < self.fraction * self.share
        column = over[(rng.uniform(name="column") * len(over)).astype(np.int64)]
        cell = hit[:, None] & (np.arange(x.shape[1]) == column[:, None])
        return np.where(cell, inside(x * np.float32(self.factor), spec), x)

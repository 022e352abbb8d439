"""Numbers over many conditions as metric plug-ins: CIFAR-10-C's mean error, mCE, worst shift, robustness above a line.

Their arithmetic is in `testbed.metrics.corruption`; here it is done on arrays whose last axis is (value, replicate 1,
replicate 2, ...). All conditions of a model share their examples and their bootstrap draws, so what a replicate gives
for each condition belongs together, and the quantiles of the combined number are its interval.

An aggregate says `of` which metric it combines (each condition is measured by that), `over` which conditions ("shifts"
or "sequences"), and `baselines`: other models of the grid that it needs measured under the same conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from testbed.metrics.corruption import ALEXNET, EXTRA
from testbed.parameters import Checked
from testbed.types import Float64, Paper

HENDRYCKS = Paper(
    "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    "Hendrycks, D. and Dietterich, T.",
    2019,
    "ICLR",
    "1903.12261",
)
TAORI = Paper(
    "Measuring Robustness to Natural Distribution Shifts in Image Classification",
    "Taori, R. and others",
    2020,
    "NeurIPS",
    "2007.00644",
)

#: Top-1 error of AlexNet on clean ImageNet (torchvision's weights: accuracy 56.522 %).
ALEXNET_CLEAN = 0.43478

Which = Literal[15, 19, "all"]

#: Measures that are shares of examples.
SHARES = ("accuracy", "flip_probability")

_THREE = 3.6888794541139363  # -log .025


@dataclass(frozen=True)
class Measures:
    """One model under all conditions, each float64 `[1 + replicates]`; of a shift one row a severity.

    clean    the clean set
    shifted  name of the shift -> `[severities, 1 + replicates]`
    """

    clean: Float64
    shifted: Mapping[str, Float64]

    def means(self, names: Sequence[str] | None = None) -> dict[str, Float64]:
        """Name of the shift -> its mean over severities."""
        return {name: self.shifted[name].mean(axis=0) for name in names or self.shifted}


@dataclass(frozen=True)
class Aggregate(Checked):
    """Base: what an aggregate is of, and what it needs of the grid."""

    needs: ClassVar[str] = "conditions"
    over: ClassVar[Literal["shifts", "sequences"]] = "shifts"
    higher_is_better: ClassVar[bool] = False
    reference: ClassVar[Paper] = HENDRYCKS

    @property
    def measured(self) -> str:
        """Name of the metric each condition is measured by."""
        return "accuracy"

    @property
    def others(self) -> tuple[str, ...]:
        """Models of the grid it needs beside the one it is about."""
        return ()

    def lacks(self, conditions: Mapping[str, Sequence[float | None]]) -> str:
        """What the grid lacks for it, "" for nothing; `conditions` are the severities of each shift in the grid."""
        return "" if conditions else f"it needs at least one of the {self.over} among the conditions"

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        """The number, float64 `[1 + replicates]`, and how it was made, in words."""
        raise NotImplementedError


def unseen_ends(metric: Aggregate, own: Measures, others: Sequence[Measures], n: int) -> tuple[float, float]:
    """Ends of an aggregate of shares of n examples whose replicates do not differ (all right, nobody flips).

    Each share of the model itself moves by the 3.69 / n that a sample without a single mistake leaves room for.

    >>> own = Measures(np.array([1.0]), {"fog": np.array([[1.0]])})
    >>> [round(end, 4) for end in unseen_ends(MeanError(), own, [], 50)]
    [0.0, 0.0738]
    """
    ends = []
    for step in (-_THREE / n, _THREE / n):
        shifted = {name: np.clip(value[:, :1] + step, 0.0, 1.0) for name, value in own.shifted.items()}
        moved = Measures(np.clip(own.clean[:1] + step, 0.0, 1.0), shifted)
        first = [Measures(o.clean[:1], {name: v[:, :1] for name, v in o.shifted.items()}) for o in others]
        ends.append(float(metric.combine(moved, first)[0][0]))
    return min(ends), max(ends)


def needs_levels(conditions: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> str:
    """What is missing of these corruptions at severities 1 to 5, in words."""
    missing = [name for name in names if set(conditions.get(name, ())) != {1, 2, 3, 4, 5}]
    words = f"it needs severities 1 to 5 of each of {len(names)} corruptions; not so: {', '.join(missing)}"
    return words if missing else ""


def chosen(which: Which) -> tuple[str, ...] | None:
    """The corruptions that a published mean is over; None for all in the grid."""
    return None if which == "all" else tuple(ALEXNET) if which == 15 else (*ALEXNET, *EXTRA)


def mean_of(means: Mapping[str, Float64]) -> Float64:
    """Plain mean over shifts."""
    return np.asarray(np.mean(list(means.values()), axis=0))


@dataclass(frozen=True)
class MeanOverShifts(Aggregate):
    """Any metric of one condition, averaged over severities and then over shifts.

    of     its name: accuracy, ece, nll, brier, ...
    which  all shifts of the grid, or the published 15 or 19 corruptions at severities 1 to 5
    """

    of: str = "accuracy"
    which: Which = "all"

    @property
    def measured(self) -> str:
        return self.of

    def lacks(self, conditions: Mapping[str, Sequence[float | None]]) -> str:
        names = chosen(self.which)
        return super().lacks(conditions) if names is None else needs_levels(conditions, names)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        means = own.means(chosen(self.which))
        return mean_of(means), f"{self.of}, mean over the severities of each of {len(means)} shifts"


@dataclass(frozen=True)
class MeanError(Aggregate):
    """CIFAR-10-C's number: top-1 error averaged over severities and corruptions, with no baseline.

    >>> own = Measures(np.array([0.9]), {"fog": np.array([[0.8], [0.6]]), "snow": np.array([[0.5], [0.5]])})
    >>> MeanError().combine(own, [])[0].round(6).tolist()
    [0.4]
    """

    which: Which = "all"

    def lacks(self, conditions: Mapping[str, Sequence[float | None]]) -> str:
        names = chosen(self.which)
        return super().lacks(conditions) if names is None else needs_levels(conditions, names)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        means = own.means(chosen(self.which))
        return 1 - mean_of(means), f"top-1 error, mean over the severities of each of {len(means)} shifts"


@dataclass(frozen=True)
class WorstShift(Aggregate):
    """The lowest accuracy, averaged over severities, of any shift; the convention names it."""

    higher_is_better: ClassVar[bool] = True

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        means = own.means()
        worst = min(means, key=lambda name: float(means[name][0]))
        return np.min(list(means.values()), axis=0), f"lowest accuracy of {len(means)} shifts, on {worst}"


@dataclass(frozen=True)
class MeanCorruptionError(Aggregate):
    """mCE: error relative to a baseline's, averaged over the corruptions.

    baseline  AlexNet's published errors on ImageNet-C, or the name of a model of the grid (then over all its shifts)
    """

    baseline: str = "alexnet"

    @property
    def others(self) -> tuple[str, ...]:
        return () if self.baseline == "alexnet" else (self.baseline,)

    def lacks(self, conditions: Mapping[str, Sequence[float | None]]) -> str:
        return needs_levels(conditions, tuple(ALEXNET)) if not self.others else super().lacks(conditions)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        errors = {name: 1 - value for name, value in own.means(None if others else tuple(ALEXNET)).items()}
        base = {name: 1 - value for name, value in others[0].means().items()} if others else ALEXNET
        ratios = {name: error / base[name] for name, error in errors.items()}
        return mean_of(ratios), f"mean over {len(ratios)} corruptions of the error by that of {self.baseline}"


@dataclass(frozen=True)
class RelativeMeanCorruptionError(MeanCorruptionError):
    """Relative mCE: how much the error grows from clean, by how much the baseline's does."""

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        growth = {name: own.clean - value for name, value in own.means(None if others else tuple(ALEXNET)).items()}
        base: Mapping[str, Float64 | float] = {name: error - ALEXNET_CLEAN for name, error in ALEXNET.items()}
        if others:
            base = {name: others[0].clean - value for name, value in others[0].means().items()}
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = {name: grown / base[name] for name, grown in growth.items()}
        return mean_of(ratios), f"mean over {len(ratios)} corruptions of the growth by that of {self.baseline}"


@dataclass(frozen=True)
class RelativeRobustness(Aggregate):
    """Mean accuracy under the shifts above that of the model `baseline`."""

    baseline: str

    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[Paper] = TAORI

    @property
    def others(self) -> tuple[str, ...]:
        return (self.baseline,)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        gain = mean_of(own.means()) - mean_of(others[0].means())
        return gain, f"mean accuracy over {len(own.shifted)} shifts less that of {self.baseline}"


@dataclass(frozen=True)
class EffectiveRobustness(Aggregate):
    """Mean accuracy under the shifts above what a line through the models `baselines` foretells from clean accuracy."""

    baselines: tuple[str, ...]
    axes: Literal["logit", "probit"] = "logit"

    higher_is_better: ClassVar[bool] = True
    reference: ClassVar[Paper] = TAORI

    @property
    def others(self) -> tuple[str, ...]:
        return self.baselines

    def lacks(self, conditions: Mapping[str, Sequence[float | None]]) -> str:
        few = "it needs two `baselines` at least, for a line" if len(self.baselines) < 2 else ""
        return few or super().lacks(conditions)

    def combine(self, own: Measures, others: Sequence[Measures]) -> tuple[Float64, str]:
        from scipy import special

        forth, back = (special.logit, special.expit) if self.axes == "logit" else (special.ndtri, special.ndtr)
        x = forth(np.stack([one.clean for one in others]))
        y = forth(np.stack([mean_of(one.means()) for one in others]))
        spread = x - x.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (spread * y).sum(axis=0) / (spread**2).sum(axis=0)
        expected = back(y.mean(axis=0) + slope * (forth(own.clean) - x.mean(axis=0)))
        line = f"the {self.axes} line of {', '.join(self.baselines)}"
        words = f"mean accuracy over {len(own.shifted)} shifts above {line}"
        return mean_of(own.means()) - expected, words

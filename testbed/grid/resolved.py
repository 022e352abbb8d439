"""A grid after resolution: every name looked up, every parameter typed, every list spelled out. Frozen and plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from testbed import condition as conditions
from testbed.digest import canonical
from testbed.grid.model import Grid
from testbed.grid.reader import Where
from testbed.plugins import Plugin
from testbed.types import Spec


@dataclass(frozen=True)
class Bound:
    """A plug-in with all of its parameters.

    content  name -> digest of the files that a model of ours is made of
    """

    plugin: Plugin
    params: Mapping[str, Any]
    content: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The recipe's word for its code. Raises UsageError where a file that it declares to read is not there."""
        return self.plugin.identity(self.params)

    @property
    def places(self) -> dict[str, str]:
        """Where its files are on this disk, by digest: see `Job.places`."""
        code, own = self.plugin.code, self.plugin.source_digest
        return {} if code is None or own is None else code.places(own, self.params)

    def recipe(self) -> dict[str, Any]:
        """What a digest must know of it."""
        content = {"content": dict(self.content)} if self.content else {}
        return {**self.identity, "params": dict(self.params), **content}

    def columns(self) -> dict[str, Any]:
        """The columns of results.parquet that a metric decides."""
        return {"metric": self.plugin.name, "metric_params": canonical(self.params) if self.params else None}


def apart(metrics: Sequence[Bound]) -> Iterator[list[Bound]]:
    """Ours together, and each of a user's alone: whatever a job with a user's code does takes no other metric along."""
    ours = [one for one in metrics if not one.plugin.foreign]
    if ours:
        yield ours
    yield from ([one] for one in metrics if one.plugin.foreign)


@dataclass(frozen=True)
class DataEntry:
    """A data set with the sizes asked for; `sizes` of its parts and `spec` are unknown where only a job can tell."""

    name: str
    bound: Bound
    counts: Mapping[str, int | None]
    limit: int | None
    sizes: Mapping[str, int]
    fingerprint: Mapping[str, Any]
    spec: Spec | None


@dataclass(frozen=True)
class ModelEntry:
    """A network and where its weights come from: a training recipe, a file with its digest, or the network itself.

    reading  where its logits are, as `testbed.models.reading.Reading` takes it; empty where it gives them as they are
    """

    name: str
    bound: Bound
    train: Mapping[str, Any] | None
    weights: Path | None
    weights_digest: str | None
    feature_layer: str | None
    variant: Mapping[str, Any] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recorded(self) -> bool:
        """Whether it is a file of outputs, and no network."""
        return self.bound.plugin.source is None and self.bound.plugin.name == "outputs"

    @property
    def label(self) -> str:
        """The column `variant`: where the weights come from, and how the network predicts if not plainly."""
        if self.recorded:
            return "outputs"
        source = self.train["recipe"] if self.train else "weights" if self.weights else "as built"
        kind = [str(value) for value in (self.variant or {}).values()]
        return " ".join([source, *kind])


@dataclass(frozen=True)
class Step:
    """One shift or one attack of a condition.

    curve   the budgets, rising, of the security curve that the attack is one budget of; none where it is run alone
    """

    kind: str
    bound: Bound
    severity: float | None = None
    norm: str | None = None
    eps: float | None = None
    victim: str = "model"
    quantised: bool = False
    curve: tuple[float, ...] = ()

    def plain(self, through: CalibratorEntry | None = None) -> conditions.Step:
        """The step as plain values; `through` is the calibrator that a calibrated victim has."""
        named = None if through is None or self.victim != "calibrated" else through.plain()
        name, params = self.bound.plugin.name, self.bound.params
        return conditions.Step(
            self.kind, name, params, self.severity, self.norm, self.eps, self.victim, self.quantised, self.curve, named
        )


@dataclass(frozen=True)
class ConditionEntry:
    """What is done to a set, in order; no steps is clean. `where` it stands in the grid, for errors."""

    name: str
    steps: tuple[Step, ...] = ()
    where: Where = field(default=(), compare=False, repr=False)

    @property
    def kind(self) -> str:
        """clean, shift, attack or chain."""
        return conditions.kind(self.plain())

    def plain(self, through: CalibratorEntry | None = None) -> tuple[conditions.Step, ...]:
        """The steps as plain values."""
        return tuple(step.plain(through) for step in self.steps)

    @property
    def id(self) -> str:
        """The column `condition_id`."""
        return conditions.condition_id(self.plain())

    def last(self, kind: str) -> Step | None:
        """The last step of a kind."""
        return next((s for s in reversed(self.steps) if s.kind == kind), None)

    def row(self, through: CalibratorEntry | None = None) -> dict[str, Any]:
        """The columns of results.parquet that a condition decides; see `testbed.condition`."""
        return conditions.columns(self.name, self.plain(through))

    def label(self) -> str:
        """The condition in one cell of a table, where no other is labelled so.

        >>> ConditionEntry("clean").label()
        'clean'
        """
        return conditions.label(self.row())


CLEAN = ConditionEntry("clean")


@dataclass(frozen=True)
class CalibratorEntry:
    """A calibrator and the condition of the calibration split it is fitted on."""

    name: str
    bound: Bound
    fit: ConditionEntry = CLEAN

    def plain(self) -> dict[str, Any]:
        """What it is whatever it is called: plug-in, parameters, and the condition of its fit if that is not clean."""
        fit = {"fit": self.fit.id} if self.fit.steps else {}
        return {"use": self.bound.plugin.name, "params": dict(self.bound.params), **fit}

    @property
    def unlabelled(self) -> bool:
        """Whether the fit also reads the outputs of the set it is applied to, without their labels."""
        return "unlabelled" in self.bound.plugin.facts["needs"]

    @property
    def fitted_on(self) -> str | None:
        """What it was fitted on, for the rows: a condition of the calibration split, and the target if that is read."""
        if self.bound.plugin.name == "none":
            return None
        return self.fit.label() + (" + unlabelled target" if self.unlabelled else "")


@dataclass(frozen=True)
class DetectorEntry:
    """A detector and the split it is fitted on, None where it needs no fit."""

    name: str
    bound: Bound
    fit: str | None
    tune: TuneEntry | None = None

    @property
    def fitted_on(self) -> str | None:
        """What the column `fit` says: the split it is fitted on, and the set its hyper-parameters are tuned on."""
        tuned = f"tuned on {self.tune.on.name}" if self.tune else None
        return "; ".join(filter(None, (self.fit, tuned))) or None


@dataclass(frozen=True)
class TuneEntry:
    """The set that hyper-parameters are tuned on, and the values to try, parameter by parameter."""

    on: OodEntry
    sweep: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class OodEntry:
    """An out-of-distribution set, its group (near, far) and what is done to it.

    source  what it is made from: "own" data, "spec" (random numbers), "id" (the in-distribution test examples)
    """

    name: str
    group: str
    bound: Bound
    limit: int | None
    source: str
    size: int | None
    fingerprint: Mapping[str, Any]
    condition: ConditionEntry = CLEAN


@dataclass(frozen=True)
class Resolved:
    """The whole grid, resolved."""

    grid: Grid
    file: str
    data: tuple[DataEntry, ...]
    models: tuple[ModelEntry, ...]
    conditions: tuple[ConditionEntry, ...]
    calibrators: tuple[CalibratorEntry, ...]
    detectors: tuple[DetectorEntry, ...]
    ood: tuple[OodEntry, ...]
    metrics: tuple[Bound, ...]
    notes: tuple[str, ...] = field(default=())
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def ood_labels(self) -> Mapping[str, str]:
        """condition_id -> label, over the conditions of the out-of-distribution sets."""
        return conditions.labels(entry.condition.row() for entry in self.ood)

    def pools(self, condition: ConditionEntry) -> bool:
        """Whether full-spectrum rows count this condition of the test set as in-distribution: clean and the shifts."""
        chosen = self.grid.full_spectrum
        if not chosen or condition.kind not in ("clean", "shift"):
            return False
        return chosen is True or condition.kind == "clean" or condition.name in chosen

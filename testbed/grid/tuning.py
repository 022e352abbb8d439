"""Hyper-parameters of detectors tuned in a grid: `tune: {on: SET, sweep: {k: [1, 10, 50]}}`.

A tuning job fits every combination on the detector's split and keeps the one with the highest AUROC between the
calibration split and the tuning set; the fitted detector takes its parameters from there. The test split plays no part,
and a set that is scored cannot tune. The rows say what tuned (`fit`) and what was chosen (`flags`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from testbed.errors import nearest
from testbed.grid import model as schema
from testbed.grid.network_jobs import runs_network
from testbed.grid.reader import Where
from testbed.grid.resolved import Bound, DetectorEntry, OodEntry, Resolved, TuneEntry

if TYPE_CHECKING:
    from testbed.grid.jobs import Jobs


class Resolver(Protocol):
    """What is needed of the resolver: see `testbed.grid.resolve`."""

    def fail(self, where: Where, message: str) -> None:
        """Note a problem."""

    def ood(self, where: Where, entry: schema.Ood) -> list[OodEntry]:
        """The out-of-distribution sets of an entry."""


def resolve_tuning(resolver: Resolver, where: Where, entry: schema.Tune, bound: Bound) -> TuneEntry | None:
    """The tuning set and a sweep whose every value the detector takes; None with problems noted."""
    from testbed.detection.tuning import sweeps

    name = bound.plugin.name
    if runs_network(bound):
        resolver.fail(
            where, f"detector {name!r} runs the network: it is not tuned from cached outputs; give its parameters"
        )
        return None
    sweep = entry.sweep or sweeps().get(name)
    if not sweep:
        resolver.fail(where, f"detector {name!r} has no published sweep; give `sweep: {{parameter: [values]}}`")
        return None
    takes = {p.name for p in bound.plugin.parameters}
    for key, values in sweep.items():
        if key not in takes:
            resolver.fail((*where, "sweep", key), f"detector {name!r} has no parameter {key!r}; {nearest(key, takes)}")
            return None
        for value in values:
            try:
                bound.plugin.validate({**bound.params, key: value})
            except ValidationError as error:
                resolver.fail((*where, "sweep", key), f"{value!r}: {error.errors()[0]['msg']}")
                return None
    found = resolver.ood((*where, "on"), schema.Ood(use=[entry.on.use], limit=entry.limit, **entry.on.params))
    return TuneEntry(found[0], {key: tuple(values) for key, values in sweep.items()}) if found else None


def tuned_on_scored(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """A set that is scored cannot choose hyper-parameters: neither under its name nor as the same data."""
    scored = {o.name for o in resolved.ood}, [o.bound.recipe() for o in resolved.ood]
    for i, entry in enumerate(resolved.detectors):
        if entry.tune and (entry.tune.on.name in scored[0] or entry.tune.on.bound.recipe() in scored[1]):
            says = "is scored, so it cannot tune: its numbers would be too good"
            yield ("detectors", i, "tune"), f"{entry.tune.on.name!r} {says}; name another set, held out for this"


def tune_job(
    jobs: Jobs,
    entry: DetectorEntry,
    fit: str | None,
    sets: tuple[str, str],
    calibrator: tuple[Mapping[str, Any], Sequence[str]],
    label: str,
) -> str:
    """The job that chooses a detector's parameters.

    fit   outputs that each combination is fitted on
    sets  outputs of the calibration split and of the tuning set
    """
    assert entry.tune is not None
    code, fitted = calibrator
    fields = {"detector": jobs.code(entry.bound), "sweep": {k: list(v) for k, v in entry.tune.sweep.items()}, **code}
    inputs = {"outputs": [fit] if fit else [], "id": [sets[0]], "ood": [sets[1]], "calibrator": fitted}
    return jobs.add("tune", fields, inputs, f"tune {entry.name} for {label}")

"""Resolved -> Plan: the loops of the cross product, each piece of work planned once and shared by all that need it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from testbed import condition as conditions
from testbed.errors import UsageError
from testbed.grid import pooled_jobs, recalibration, restarts, transfer
from testbed.grid.across import Across, over
from testbed.grid.attacked import Side, attacked_set, made_elsewhere
from testbed.grid.audits import audit
from testbed.grid.black_boxes import check_budgets, external_notes, standing_flags
from testbed.grid.curves import Curves, Level
from testbed.grid.detection import Detection, Seen
from testbed.grid.filters import kept
from testbed.grid.jobs import Jobs, SetRef
from testbed.grid.plan import Cell, Plan, Preview, Sample
from testbed.grid.protocol_checks import protocol_notes
from testbed.grid.reader import Document, from_mapping, override, read_file
from testbed.grid.resolve import resolve
from testbed.grid.resolved import (
    CLEAN,
    Bound,
    CalibratorEntry,
    ConditionEntry,
    DataEntry,
    ModelEntry,
    Resolved,
    apart,
)


def plan(grid: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """The plan of a grid file or mapping; UsageError with all problems if there are any."""
    document: Document = from_mapping(grid) if isinstance(grid, Mapping) else read_file(grid)
    override(document, overrides)
    resolved = resolve(document)
    planned = replace(make_plan(resolved), overrides=tuple(overrides))
    if not planned.cells:
        key = "exclude" if resolved.grid.exclude else "include" if resolved.grid.include else "metrics"
        raise UsageError([document.problem((key,), "leaves nothing to do: no cell of the grid is kept")])
    check_budgets(document, resolved, planned)
    return planned


def make_plan(resolved: Resolved) -> Plan:
    """The plan of a resolved grid."""
    planner = Planner(resolved)
    planner.run()
    jobs, grid = planner.jobs, resolved.grid
    planned = Plan(
        grid.name,
        grid.model_dump(mode="json"),
        jobs.jobs,
        tuple(planner.cells),
        tuple(planner.samples),
        tuple(planner.previews),
        jobs.sources,
        jobs.files,
        resolved.notes,
        grid.keep,
        resolved.file,
        tuple(planner.comparisons),
        places=jobs.places,
    )
    return replace(planned, notes=(*planned.notes, *external_notes(resolved, planned), *protocol_notes(resolved)))


class Planner:
    """The jobs, cells and samples of a resolved grid, as they are planned."""

    def __init__(self, resolved: Resolved) -> None:
        self.resolved, self.grid = resolved, resolved.grid
        self.jobs = Jobs(resolved.grid, resolved.places)
        self.cells: list[Cell] = []
        self.samples: list[Sample] = []
        self.previews: list[Preview] = []
        self.comparisons: list[Sample] = []
        self.by_needs: dict[str, list[Bound]] = {}
        for metric in resolved.metrics:
            self.by_needs.setdefault(metric.plugin.facts["needs"], []).append(metric)

    def run(self) -> None:
        """Plan every cell that the filters keep."""
        for data in self.resolved.data:
            for seed in self.grid.seed:
                for entry in self.resolved.models:
                    for train_seed in self.grid.train_seeds if entry.train else self.grid.train_seeds[:1]:
                        ModelPlan(self, data, seed, entry, train_seed).run()
        if len(self.grid.train_seeds) > 1:
            self.cells += list(pooled_jobs.seed_cells(self.cells, self.jobs))
        self.label()

    def label(self) -> None:
        """Name the conditions of samples and images as the tables of this run do, told apart where two look alike."""
        rows = [cell.row for cell in self.cells] + [sample.row for sample in self.samples if not sample.label]
        named = conditions.labels(rows)
        self.samples = [s if s.label else replace(s, label=named[s.row["condition_id"]]) for s in self.samples]
        self.previews = [replace(one, condition=named[one.condition_id]) for one in self.previews]

    def wanted(self, row: Mapping[str, Any]) -> bool:
        """Whether the filters keep a row, by the columns it has so far; a column not yet known excludes nothing."""
        return kept(self.grid, row)


class ModelPlan:
    """All cells of one trained model on one data set with one seed."""

    def __init__(self, planner: Planner, data: DataEntry, seed: int, entry: ModelEntry, train_seed: int) -> None:
        self.planner, self.jobs, self.data, self.seed, self.entry = planner, planner.jobs, data, seed, entry
        self.resolved = planner.resolved
        self.detection, self.across = Detection(self), Across(self)
        self.given_train_seed = train_seed
        self.known: dict[tuple[Any, ...], Any] = {}
        self.row: dict[str, Any] = {
            "run": planner.grid.name,
            "protocol": planner.grid.protocol or None,
            "dataset": data.name,
            "model": entry.name,
            "variant": entry.label,
            "train_seed": train_seed if entry.train else None,
            "seed": seed,
        }
        if flags := standing_flags(entry, planner.jobs.device):
            self.row["flags"] = flags

    def run(self) -> None:
        """Plan the cells of every condition, and those of the worst case over attacks."""
        if not self.planner.wanted(self.row):
            return
        self.prepare()
        attacked: dict[tuple[Any, ...], list[tuple[str, SetRef]]] = {}
        spectrum: list[tuple[ConditionEntry, Seen]] = []
        curves = Curves()
        for condition in self.resolved.conditions:
            row = {**self.row, **condition.row()}
            if not self.planner.wanted(row):
                continue
            for victim_row, target, calibrators, through in self.perturbed(condition, row):
                outputs = self.jobs.forward(self.model, target, condition.label())
                curves.note(condition, through, victim_row, Level(victim_row["eps"], outputs, target))
                self.condition_cells(victim_row, condition, target, outputs, calibrators)
                if self.resolved.pools(condition):
                    spectrum.append((condition, Seen(outputs, target)))
                if worst_of := _worst_key(condition):
                    attacked.setdefault(worst_of, []).append((outputs, target))
        for (norm, eps), found in attacked.items():
            self.worst(norm, eps, found)
        self.detection.full_spectrum(self.row, spectrum)
        curves.cells(self)
        self.detection.samples()
        self.across.aggregates()

    def prepare(self) -> None:
        """Plan the model itself and the clean test split."""
        self.model = self.jobs.model(self.entry, self.data, self.seed, self.given_train_seed)
        self.clean = self.jobs.split(self.data, "test", self.seed)

    def sibling(self, name: str) -> ModelPlan:
        """Another model of the grid on the same data with the same seeds, planned as far as its weights."""
        entry = next(m for m in self.resolved.models if m.name == name)
        other = ModelPlan(self.planner, self.data, self.seed, entry, self.given_train_seed)
        other.prepare()
        return other

    def perturbed(
        self, condition: ConditionEntry, row: Mapping[str, Any]
    ) -> Iterator[tuple[dict[str, Any], SetRef, Sequence[CalibratorEntry], CalibratorEntry | None]]:
        """The sets of a condition: one for all calibrators, or one each where the victim is model and calibrator.

        With each its row, the calibrators that it is scored under, and the calibrator that its victim has.
        """
        calibrators = self.resolved.calibrators
        attack = condition.last("attack")
        if attack is None or attack.victim != "calibrated":
            yield dict(row), self.apply(self.clean, condition, None), calibrators, None
            return
        objective = attack.bound.plugin.facts["objective"]
        shared = [c for c in calibrators if objective == "label" and c.bound.plugin.facts["argmax_preserving"]]
        if shared:
            yield dict(row), self.apply(self.clean, condition, None), shared, None
        for one in calibrators:
            if one not in shared:
                own = {**condition.row(one), "calibrator": one.name, "fit": one.fitted_on}
                yield {**row, **own}, self.apply(self.clean, condition, one), [one], one

    def apply(
        self, target: SetRef, condition: ConditionEntry, through: CalibratorEntry | None, side: Side = "id"
    ) -> SetRef:
        """The set after all steps of a condition; `through` is the calibrator that a calibrated victim has."""
        for step in condition.steps:
            if step.kind == "shift":
                target = self.jobs.shift(target, step, self.seed)
            else:
                target = attacked_set(self, target, step, through, side)
        return target

    def calibrator_code(self, entry: CalibratorEntry) -> dict[str, Any]:
        return {"calibrator": self.jobs.code(entry.bound)}

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What was planned under this key, planned now if it was not: planning is asked for the same thing often."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def fitted(self, entry: CalibratorEntry, target: str) -> list[str]:
        """The job that fits a calibrator; none for the one that does nothing.

        One that reads unlabelled data has a fit for each `target`, the outputs that it is then applied to.
        """
        unlabelled = target if entry.unlabelled else None
        found: list[str] = self.once(("fitted", entry.name, unlabelled), lambda: self._fitted(entry, unlabelled))
        return found

    def _fitted(self, entry: CalibratorEntry, unlabelled: str | None) -> list[str]:
        if entry.bound.plugin.name == "none":
            return []
        return [self.jobs.calibrate(entry, self.source(entry), self.entry.name, unlabelled)]

    def source(self, entry: CalibratorEntry) -> str:
        """The labelled outputs that a calibrator is fitted on: the calibration split under its `fit` condition."""
        split = self.apply(self.jobs.split(self.data, "calibration", self.seed), entry.fit, None)
        return self.jobs.forward(self.model, split, f"calibration {entry.fit.label()}")

    def condition_cells(
        self,
        row: dict[str, Any],
        condition: ConditionEntry,
        target: SetRef,
        outputs: str,
        calibrators: Sequence[CalibratorEntry],
    ) -> None:
        label = f"{self.entry.name} {condition.label()}"
        self.across.saw(condition, target)
        if over(condition) == "sequences":
            self.across.sequence(row, condition, outputs, calibrators, label)
            return
        self.scored(row, outputs, calibrators, label, target)
        detects = self.detection.cells(row, [Seen(outputs, target)], calibrators, label)
        self.across.groups(row, target, outputs, calibrators, label)
        if target.attacks and condition.kind in ("attack", "chain"):
            digest = audit(self, condition, calibrators, Seen(outputs, target), label)
            self.cell({**row, "metric": "audit"}, digest, 0)
            restarts.cells(self, row, condition.steps[-1], target, label)
        codes = [(c.name, self.calibrator_code(c), self.fitted(c, outputs)) for c in calibrators]
        elsewhere = made_elsewhere(self, condition.steps)
        samples = self.jobs.samples(outputs, target.attacks, codes, detects, label, elsewhere)
        self.planner.samples.append(Sample(row, samples))
        self.planner.previews.append(
            Preview(self.entry.name, row["condition_id"], self.clean.digests, target.digests, samples)
        )

    def scored(
        self,
        row: dict[str, Any],
        outputs: str,
        calibrators: Sequence[CalibratorEntry],
        label: str,
        target: SetRef | None = None,
    ) -> None:
        """The cells of the metrics of probabilities; `target` are the examples, None where picked from several sets."""
        recalibration.compare(self, row, outputs, calibrators, label)
        metrics = [*self.planner.by_needs.get("probs", []), *self.planner.by_needs.get("confidence", [])]
        for calibrator in calibrators:
            full = {**row, "calibrator": calibrator.name, "fit": calibrator.fitted_on}
            transfer.cells(self, full, outputs, target, calibrator, label)
            kept = [m for m in metrics if self.planner.wanted({**full, "metric": m.plugin.name})]
            if not kept:
                continue
            code = self.calibrator_code(calibrator)
            fitted = self.fitted(calibrator, outputs)
            for some in apart(kept):
                digest = self.jobs.score(some, outputs, code, fitted, self.seed, f"{label} {calibrator.name}")
                for position, metric in enumerate(some):
                    self.cell({**full, **metric.columns()}, digest, position)

    def worst(self, norm: str, eps: float, found: Sequence[tuple[str, SetRef]]) -> None:
        """The per-example worst case over all attacks of one norm and radius, where there are several."""
        if len(found) < 2:
            return
        row = {**self.row, **conditions.combined("worst", "worst", norm=norm, eps=eps, victim="model")}
        if not self.planner.wanted(row):
            return
        label = f"worst {norm} {eps:.4g}"
        outputs = self.jobs.worst([o for o, _ in found], [s.attacks for _, s in found], f"{label} on {self.entry.name}")
        self.scored(row, outputs, self.resolved.calibrators, f"{self.entry.name} {label}")
        seen = Seen(outputs, self.clean, tuple(Seen(o, s) for o, s in found))
        detects = self.detection.cells(row, [seen], self.resolved.calibrators, f"{self.entry.name} {label}")
        codes = [(c.name, self.calibrator_code(c), self.fitted(c, outputs)) for c in self.resolved.calibrators]
        self.planner.samples.append(
            Sample(row, self.jobs.samples(outputs, [outputs], codes, detects, f"{self.entry.name} {label}"))
        )

    def cell(self, row: Mapping[str, Any], digest: str, position: int) -> None:
        self.planner.cells.append(Cell(row, digest, position))


def _worst_key(condition: ConditionEntry) -> tuple[str, float] | None:
    """(norm, eps) of a condition that takes part in a worst case: one attack of the model's label, on clean data."""
    if condition.kind != "attack" or condition == CLEAN:
        return None
    step = condition.steps[0]
    joins = (
        (step.victim == "model" or step.victim.startswith("bpda:"))
        and not step.quantised
        and step.bound.plugin.facts["objective"] == "label"
    )
    return (step.norm, step.eps) if joins and step.norm is not None and step.eps is not None else None

"""The detection cells of one model: detectors fitted once, each set scored once, and every pair of sets compared.

A detector that does not read logits scores the same under every calibrator, and one that runs the network scores the
raw network: both are planned once and their rows stand under each calibrator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.condition import combined
from testbed.digest import canonical
from testbed.grid import network_jobs, pooled_jobs, tuning
from testbed.grid.jobs import SetRef
from testbed.grid.plan import Sample
from testbed.grid.resolved import Bound, CalibratorEntry, ConditionEntry, DetectorEntry, OodEntry, apart

if TYPE_CHECKING:
    from testbed.grid.planner import ModelPlan


@dataclass(frozen=True)
class Seen:
    """What a model gave on one set.

    outputs  the job that holds its logits and features
    target   the examples, for detectors that run the network
    parts    where the outputs are the worst case over several sets: those sets
    """

    outputs: str
    target: SetRef
    parts: tuple[Seen, ...] = ()


@dataclass
class _Outside:
    """An out-of-distribution set that was scored, with the job of each detector's scores under the first calibrator."""

    entry: OodEntry
    scores: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inside:
    """The in-distribution side of a comparison: what was seen, and the jobs that hold a detector's scores of it."""

    seen: Sequence[Seen]
    scores: Sequence[str]


class Detection:
    """Plans what the detectors of a grid do with one model."""

    def __init__(self, model: ModelPlan) -> None:
        self.model, self.jobs, self.resolved = model, model.jobs, model.resolved
        self.outside: dict[str, _Outside] = {}

    def cells(
        self, row: Mapping[str, Any], seen: Sequence[Seen], calibrators: Sequence[CalibratorEntry], label: str
    ) -> list[tuple[str, str]]:
        """The detection cells of one condition, or of several whose sets are pooled.

        Returns the scores by detector under the first calibrator.
        """
        first = []
        for detector in self.resolved.detectors:
            for position, calibrator in enumerate(calibrators):
                full = {**row, "detector": detector.name, "calibrator": calibrator.name, "fit": detector.fitted_on}
                sets = [o for o in self.resolved.ood if self.model.planner.wanted({**full, **self.ood_row(o)})]
                if not sets and position:
                    continue
                inside = Inside(seen, [self.scores(detector, one, calibrator, one.outputs, label) for one in seen])
                if not position:
                    first.append((detector.name, inside.scores[0]))
                for entry in sets:
                    self.compare({**full, **self.ood_row(entry)}, detector, calibrator, inside, [entry], label)
                for (group, condition), entries in pooled_jobs.groups(sets, self.resolved.ood_labels).items():
                    name = {"ood_set": pooled_jobs.mean_name(group), "group": group, "ood_condition": condition}
                    self.compare({**full, **name}, detector, calibrator, inside, entries, label)
        return first

    def full_spectrum(self, row: Mapping[str, Any], found: Sequence[tuple[ConditionEntry, Seen]]) -> None:
        """The cells of the clean and the shifted test sets as one in-distribution set, where the grid asks for them.

        Calibrators that read unlabelled data are left out: each of the pooled sets would have another fit.
        """
        if len(found) < 2:
            return
        pooled = canonical([{"pooled": condition.label()} for condition, _ in found])
        ids = [condition.id for condition, _ in found]
        full = {**row, **combined("full_spectrum", "full_spectrum", params=pooled, of=ids)}
        if self.model.planner.wanted(full):
            label = f"{self.model.entry.name} full spectrum"
            calibrators = [c for c in self.resolved.calibrators if not c.unlabelled]
            self.cells(full, [seen for _, seen in found], calibrators, label)

    def compare(
        self,
        row: Mapping[str, Any],
        detector: DetectorEntry,
        calibrator: CalibratorEntry,
        inside: Inside,
        entries: Sequence[OodEntry],
        label: str,
    ) -> None:
        """The cells of one detector under one calibrator: against one OOD set, or as the mean over several."""
        scored, failures = self.kept(row, "scores"), self.kept(row, "failures") if len(entries) == 1 else []
        if not scored and not failures:
            return
        outside = [self.outside_scores(detector, calibrator, entry, inside) for entry in entries]
        seed, label = self.model.seed, f"{label} {detector.name} {row['ood_set']}"
        for some in apart(scored):
            digest = pooled_jobs.score_pooled(self.jobs, some, inside.scores, outside, seed, label)
            self.add(row, some, digest)
        if failures:
            through = calibrator if calibrator.bound.plugin.name != "none" else None
            outputs = [one.outputs for one in inside.seen]
            fitted = self.model.fitted(through, outputs[0]) if through else []
            code = (self.model.calibrator_code(through) if through else {}, fitted)
            both = (inside.scores, outside)
            for some in apart(failures):
                self.add(row, some, pooled_jobs.score_failures(self.jobs, some, both, outputs, code, seed, label))

    def outside_scores(
        self, detector: DetectorEntry, calibrator: CalibratorEntry, entry: OodEntry, inside: Inside
    ) -> str:
        """The job that holds a detector's scores of an out-of-distribution set, to stand beside these ID sets."""
        seen = self.ood(entry)
        scores = self.scores(detector, seen, calibrator, inside.seen[0].outputs, entry.name)
        if calibrator is self.resolved.calibrators[0]:
            self.outside.setdefault(seen.outputs, _Outside(entry)).scores.setdefault(detector.name, scores)
        return scores

    def add(self, row: Mapping[str, Any], metrics: Sequence[Bound], digest: str) -> None:
        """One cell a metric of a score job."""
        for position, metric in enumerate(metrics):
            self.model.cell({**row, **metric.columns()}, digest, position)

    def samples(self) -> None:
        """The rows of samples.parquet of each set that was scored: it stands there as a data set of its own.

        Calibrators that read unlabelled data are left out: they have another fit for every in-distribution set.
        """
        model = self.model
        given = [c for c in self.resolved.calibrators if not c.unlabelled]
        codes = [(c.name, model.calibrator_code(c), model.fitted(c, model.clean.digests[0])) for c in given]
        for outputs, found in self.outside.items():
            entry = found.entry
            row = {**model.row, **entry.condition.row(), "dataset": entry.name}
            label = f"{model.entry.name} {entry.name}"
            digest = self.jobs.samples(outputs, (), codes, list(found.scores.items()), label)
            model.planner.samples.append(Sample(row, digest, self.resolved.ood_labels[entry.condition.id]))

    def kept(self, row: Mapping[str, Any], needs: str) -> list[Bound]:
        """The metrics of detector scores that the filters keep in this row."""
        planner = self.model.planner
        return [m for m in planner.by_needs.get(needs, []) if planner.wanted({**row, "metric": m.plugin.name})]

    def ood(self, entry: OodEntry) -> Seen:
        """What this model gives on an out-of-distribution set under its condition."""
        found: Seen = self.model.once(("ood", id(entry)), lambda: self._ood(entry))
        return found

    def _ood(self, entry: OodEntry) -> Seen:
        given = self.jobs.ood(entry, self.model.data, self.model.seed)
        target = self.model.apply(given, entry.condition, None, "ood")
        return Seen(self.jobs.forward(self.model.model, target, entry.name), target)

    def ood_row(self, entry: OodEntry) -> dict[str, Any]:
        """The columns of results.parquet that an out-of-distribution set decides."""
        done = self.resolved.ood_labels[entry.condition.id]
        return {"ood_set": entry.name, "group": entry.group or None, "ood_condition": done}

    def bank(self, entry: DetectorEntry, calibrator: CalibratorEntry | None, fitted: Sequence[str]) -> str:
        """The fitted detector, on calibrated outputs where it reads logits through a calibrator (fitted by a job)."""
        key = ("bank", entry.name, calibrator and calibrator.name, *fitted)
        found: str = self.model.once(key, lambda: self._bank(entry, calibrator, fitted))
        return found

    def _bank(self, entry: DetectorEntry, calibrator: CalibratorEntry | None, fitted: Sequence[str]) -> str:
        model = self.model
        code = model.calibrator_code(calibrator) if calibrator else {}
        outputs = None
        if entry.fit:
            outputs = self.jobs.forward(model.model, self.jobs.split(model.data, entry.fit, model.seed), entry.fit)
        elif "head" in entry.bound.plugin.facts["consumes"]:
            outputs = self.jobs.forward(model.model, model.clean, "clean")
        tuned = []
        if entry.tune:
            split = self.jobs.split(model.data, "calibration", model.seed)
            sets = self.jobs.forward(model.model, split, "calibration"), self.ood(entry.tune.on).outputs
            tuned = [tuning.tune_job(self.jobs, entry, outputs, sets, (code, fitted), model.entry.name)]
        return self.jobs.bank(entry, outputs, code, fitted, model.entry.name, tuned)

    def scores(self, entry: DetectorEntry, seen: Seen, calibrator: CalibratorEntry, target: str, label: str) -> str:
        """The job that holds a detector's scores of one set.

        target  the in-distribution outputs that a calibrator which reads unlabelled data is fitted for
        """
        if network_jobs.runs_network(entry.bound):
            return self.network_scores(entry, seen, label)
        reads_logits = "logits" in entry.bound.plugin.facts["consumes"]
        through = calibrator if reads_logits and calibrator.bound.plugin.name != "none" else None
        fitted = self.model.fitted(through, target) if through else []
        key = ("detect", entry.name, seen.outputs, through and through.name, *fitted)
        found: str = self.model.once(key, lambda: self._scores(entry, seen.outputs, through, fitted, label))
        return found

    def _scores(
        self, entry: DetectorEntry, outputs: str, through: CalibratorEntry | None, fitted: Sequence[str], label: str
    ) -> str:
        code = self.model.calibrator_code(through) if through else {}
        return self.jobs.detect(entry, self.bank(entry, through, fitted), outputs, code, fitted, label)

    def network_scores(self, entry: DetectorEntry, seen: Seen, label: str) -> str:
        """The scores of a detector that runs the network: of the examples of a set, or picked from several sets."""
        if seen.parts:
            parts = [self.network_scores(entry, part, label) for part in seen.parts]
            return network_jobs.pick(self.jobs, [p.outputs for p in seen.parts], parts, f"pick {entry.name} on {label}")
        key = ("detect", entry.name, seen.target.digests)
        found: str = self.model.once(key, lambda: self._network_scores(entry, seen.target, label))
        return found

    def _network_scores(self, entry: DetectorEntry, target: SetRef, label: str) -> str:
        fitted = self.network_bank(entry) if entry.fit else None
        return network_jobs.detect(self.jobs, entry, self.model.model, fitted, target, label)

    def network_bank(self, entry: DetectorEntry) -> str:
        """A detector that runs the network, fitted on the examples of its split."""
        assert entry.fit is not None
        split = self.jobs.split(self.model.data, entry.fit, self.model.seed)
        return network_jobs.bank(self.jobs, entry, self.model.model, split)

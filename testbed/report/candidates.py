"""What a run knows of each combination it could be deployed as: model x calibrator x detector by five criteria.

    accuracy         on clean data, by the calibrated decision
    robust_accuracy  share of examples right under every attack of the run: the per-example worst case
    ece              top-label ECE-15 (Guo et al. 2017), mean over the shifts; on clean data where the run has no shift
    auroc            of the detector, clean test set against each clean OOD set, mean over those; by the scores in
                     samples.parquet, which are those under the grid's first calibrator
    latency          milliseconds an example in the run's forward passes (wall clock, the plan's batch): as measured,
                     not resampled, and only where the passes of all models were timed in this run folder

All combinations share the resamples of the test set, and those of each other set, so that differences are paired. A
combination that lacks a criterion (a failed attack, say) is left out and named: it must not win for what was not
measured. A criterion that no combination has is left out of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from testbed.condition import condition_id
from testbed.condition import label as condition_label
from testbed.metrics.binning import equal_width
from testbed.metrics.bootstrap import Draws
from testbed.metrics.calibration_error import Ece, binned_gap, binned_gap_draws
from testbed.metrics.ood import AUROC
from testbed.metrics.scores import Accuracy
from testbed.report.doubt import doubts
from testbed.report.load import Run
from testbed.report.samples import Key, SampleSet, sample_sets
from testbed.report.table import has_samples
from testbed.types import Array, Float64, Ints

BINS = 15

#: Criterion -> whether more of it is better.
CRITERIA: Mapping[str, bool] = {
    "accuracy": Accuracy.higher_is_better,
    "robust_accuracy": Accuracy.higher_is_better,
    "ece": Ece.higher_is_better,
    "auroc": AUROC.higher_is_better,
    "latency": False,
}


@dataclass(frozen=True)
class Measured:
    """A criterion of one combination: value, replicates float64 `[r]`, and what speaks against it."""

    value: float
    replicates: Float64
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A combination and what was measured of it, by criterion."""

    model: str
    train_seed: int | None
    calibrator: str
    detector: str | None
    measured: Mapping[str, Measured]

    @property
    def name(self) -> str:
        """The combination in a few words."""
        return " · ".join(filter(None, (self.model, self.calibrator, self.detector)))


@dataclass(frozen=True)
class Pool:
    """All combinations of one data set and seed; `left_out` says which could not be measured, and why."""

    dataset: str
    seed: int
    candidates: tuple[Candidate, ...]
    conventions: Mapping[str, str]
    left_out: tuple[str, ...]


def pools(run: Run, replicates: int = 1000) -> list[Pool]:
    """The combinations of each data set and seed of a run that has any."""
    return [pool for pool in every_pool(run, replicates) if pool.candidates]


def every_pool(run: Run, replicates: int = 1000) -> list[Pool]:
    """The same of every data set and seed: a pool without combinations says why it has none."""
    by_set: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in run.rows:
        if row["metric"] != "audit" and has_samples(row):
            by_set.setdefault((row["dataset"], row["seed"]), []).append(row)
    found = [_Pooling(run, rows, replicates) for rows in by_set.values()]
    wanted = {key: columns for one in found for key, columns in one.wanted().items()}
    sets = sample_sets(run.folder, wanted, run.of_condition)
    return [one.pool(sets) for one in found]


def _under(one: SampleSet, calibrator: str, ids: Ints | None = None) -> tuple[Ints, Float64, Float64] | None:
    """ids, confidence and correctness under a calibrator in id order; None where it has no (or other) examples."""
    if calibrator not in one.right:
        return None
    rows = np.flatnonzero(~np.ma.getmaskarray(one.right[calibrator]))
    rows = rows[np.argsort(one.ids[rows], kind="stable")]
    if not len(rows) or (ids is not None and not np.array_equal(one.ids[rows], ids)):
        return None
    confidence = np.ma.getdata(one.confidence[calibrator])[rows].astype(np.float64)
    return one.ids[rows], np.clip(confidence, 0.0, 1.0), np.ma.getdata(one.right[calibrator])[rows].astype(np.float64)


def _scores(one: SampleSet | None, detector: str) -> Float64 | None:
    """Scores in id order; None where there are none or one is NaN."""
    if one is None or detector not in one.score:
        return None
    order = np.argsort(one.ids, kind="stable")
    values = np.ma.filled(one.score[detector].astype(np.float64), np.nan)[order]
    return None if not len(values) or np.isnan(values).any() else values


@dataclass
class _Pooling:
    run: Run
    rows: list[dict[str, Any]]
    replicates: int
    left_out: list[str] = field(default_factory=list)
    sets: Mapping[Key, SampleSet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = self.rows[0]
        self.dataset, self.seed = first["dataset"], first["seed"]
        quality = [r for r in self.rows if r["ood_set"] is None and r["kind"] in ("clean", "shift", "attack", "chain")]
        attacked = [r for r in quality if r["eps"] is not None]
        shifted = [r for r in quality if r["norm"] is None and r["kind"] != "clean"]
        # A calibrated victim has a set of its own for each calibrator, so that a label alone does not name a set.
        self.keys = {(condition_label(r), r["calibrator"]): self.run.sample_condition(r) for r in quality}
        clean = [r for r in quality if r["kind"] == "clean"]
        inside = [r for r in self.rows if r["kind"] == "clean" and r["ood_condition"] == "clean"]
        self.doubts = {
            "accuracy": _doubts(clean, "accuracy", "calibrator"),
            "robust_accuracy": _doubts(attacked, "accuracy", "calibrator"),
            "ece": _doubts(shifted or clean, "ece", "calibrator"),
            "auroc": _doubts(inside, "auroc", "detector"),
        }
        self.clean = condition_id(()) if self.run.of_condition == "condition_id" else "clean"
        self.attacks, self.shifts = (list(dict.fromkeys(map(condition_label, rs))) for rs in (attacked, shifted))
        self.calibrators = _distinct(quality, "calibrator")
        self.detectors = _distinct(self.rows, "detector")
        self.ood = _distinct([r for r in self.rows if r["ood_condition"] == "clean"], "ood_set")
        self.models = list(dict.fromkeys((r["model"], r["train_seed"]) for r in quality))

    def wanted(self) -> dict[Key, tuple[str, ...]]:
        """The sets of samples that the criteria are of, and which of their columns."""
        found: dict[Key, tuple[str, ...]] = {}
        for model in self.models:
            for condition in dict.fromkeys(self.keys.values()):
                found[Key(self.dataset, *model, self.seed, condition)] = ("right", "confidence")
            for name in self.ood:
                found[Key(name, *model, self.seed, self.clean)] = ("score",)
            found[Key(self.dataset, *model, self.seed, self.clean)] = ("right", "confidence", "score")
        return found

    def pool(self, sets: Mapping[Key, SampleSet]) -> Pool:
        """Every combination of one data set and seed."""
        self.sets, self.latency = sets, latencies(self.run)
        found: list[Candidate] = []
        for model, train_seed in self.models:
            found += self.model(model, train_seed)
        return Pool(self.dataset, self.seed, tuple(found), self.conventions(), tuple(self.left_out))

    def model(self, model: str, train_seed: int | None) -> list[Candidate]:
        """The combinations of one model."""
        clean = self.read(self.dataset, model, train_seed, self.clean)
        if clean is None:
            self.left_out.append(f"{model}: no samples on clean data")
            return []
        others = {c: self.read(self.dataset, model, train_seed, c) for c in dict.fromkeys(self.keys.values())}
        aurocs = self.aurocs(model, train_seed, clean)
        found = []
        for calibrator in self.calibrators:
            measured = self.quality(model, calibrator, clean, others)
            if measured is None:
                continue
            for name, one in measured.items():
                measured[name] = replace(one, doubts=self.doubts[name].get((model, train_seed, calibrator), ()))
            if model in self.latency:
                value = self.latency[model]
                measured["latency"] = Measured(value, np.full(self.replicates, value))
            for detector, auroc in aurocs.items():
                both = {**measured, **({"auroc": auroc} if auroc else {})}
                found.append(Candidate(model, train_seed, calibrator, detector, both))
        return found

    def quality(
        self, model: str, calibrator: str, clean: SampleSet, others: Mapping[str, SampleSet | None]
    ) -> dict[str, Measured] | None:
        """Accuracy, robust accuracy and ECE; None (and a reason in `left_out`) where one of them cannot be had."""
        here = _under(clean, calibrator)
        if here is None:
            self.without(model, calibrator, "clean")
            return None
        ids, confidence, right = here
        draws = self.draws(len(ids))
        found = {"accuracy": Measured(float(right.mean()), draws.means(right))}
        worst = right
        for condition in self.attacks:
            one = others.get(self.keys.get((condition, calibrator), ""))
            under = _under(one, calibrator, ids) if one else None
            if under is None:
                self.without(model, calibrator, condition)
                return None
            worst = np.minimum(worst, under[2])
        if self.attacks:
            found["robust_accuracy"] = Measured(float(worst.mean()), draws.means(worst))
        gaps = [] if self.shifts else [_ece(confidence, right, draws)]
        for condition in self.shifts:
            one = others.get(self.keys.get((condition, calibrator), ""))
            under = _under(one, calibrator) if one else None
            if under is None:
                self.without(model, calibrator, condition)
                return None
            same = np.array_equal(under[0], ids)
            gaps.append(_ece(under[1], under[2], draws if same else draws.other(len(under[0]), condition)))
        found["ece"] = _mean(gaps)
        return found

    def without(self, model: str, calibrator: str, condition: str) -> None:
        """Note that a combination was not measured under a condition."""
        self.left_out.append(f"{model} · {calibrator}: no samples under {condition} (failed, or of other examples)")

    def aurocs(self, model: str, train_seed: int | None, clean: SampleSet) -> dict[str | None, Measured | None]:
        """Mean AUROC of each detector over the clean OOD sets; a detector without scores is left out."""
        if not self.detectors or not self.ood:
            return {None: None}
        sets = {name: self.read(name, model, train_seed, self.clean) for name in self.ood}
        found: dict[str | None, Measured | None] = {}
        for detector in self.detectors:
            inside = _scores(clean, detector)
            outside = {name: _scores(one, detector) for name, one in sets.items()}
            lacking = [name for name, scores in outside.items() if scores is None]
            if inside is None or lacking:
                where = self.dataset if inside is None else ", ".join(lacking)
                self.left_out.append(f"{model} · {detector}: no scores on {where}, or some are NaN")
                continue
            draws = self.draws(len(inside))
            parts = [
                _auroc(inside, scores, draws, draws.other(len(scores), name))
                for name, scores in outside.items()
                if scores is not None
            ]
            against = self.doubts["auroc"].get((model, train_seed, detector), ())
            found[detector] = replace(_mean(parts), doubts=against)
        return found

    def draws(self, n: int) -> Draws:
        """The resamples of the test set."""
        return Draws(self.seed, n, self.replicates, "selection")

    def read(self, dataset: str, model: str, train_seed: int | None, condition: str) -> SampleSet | None:
        """One set of samples.parquet; None where it is not there."""
        return self.sets.get(Key(dataset, model, train_seed, self.seed, condition))

    def conventions(self) -> dict[str, str]:
        """What each criterion is of, in this run."""
        first = self.calibrators[0] if self.calibrators else "none"
        return {
            "accuracy": "clean",
            "robust_accuracy": f"right under all of {len(self.attacks)} attacks, example by example",
            "ece": f"{BINS} bins, " + (f"mean over {len(self.shifts)} shifts" if self.shifts else "clean"),
            "auroc": f"mean over {', '.join(self.ood)}; scores under {first}",
            "latency": "ms an example in forward passes, as measured, not resampled",
        }


def latencies(run: Run) -> dict[str, float]:
    """Milliseconds an example of each model: the median over its forward passes that have a time."""
    found: dict[str, list[float]] = {}
    for row in run.own_jobs():
        if row["kind"] == "forward" and row["model"] and (row["forwards"] or 0) > 0 and (row["seconds"] or 0) > 0:
            found.setdefault(row["model"], []).append(1000 * row["seconds"] / row["forwards"])
    return {model: float(np.median(times)) for model, times in found.items()}


def _ece(confidence: Float64, right: Float64, draws: Draws) -> Measured:
    gap, index = confidence - right, equal_width(confidence, BINS)
    return Measured(binned_gap(gap, index), binned_gap_draws(gap, index, draws))


def _auroc(inside: Float64, outside: Float64, draws: Draws, outer: Draws) -> Measured:
    """AUROC with ties counted half, and its replicates under resamples of both sets."""
    order = np.argsort(inside, kind="stable")
    below, through = (np.searchsorted(inside[order], outside, side=side) for side in ("left", "right"))
    parts = []
    for counts, weights in zip(draws.blocks(), _blocks_like(draws, outer), strict=True):
        cumulated = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], axis=1)], axis=1)
        rank = (cumulated[:, below] + cumulated[:, through]) / 2
        parts.append((rank * weights).sum(axis=1) / (len(inside) * len(outside)))
    value = float((below + through).mean() / (2 * len(inside)))
    return Measured(value, np.concatenate(parts))


def _blocks_like(draws: Draws, other: Draws) -> Sequence[Array]:
    """The counts of `other` cut into the blocks of `draws`."""
    ends = np.cumsum([len(block) for block in draws.blocks()])
    return np.split(other.counts(), ends[:-1])


def _mean(parts: Sequence[Measured]) -> Measured:
    return Measured(float(np.mean([p.value for p in parts])), np.mean([p.replicates for p in parts], axis=0))


def _doubts(rows: Sequence[Mapping[str, Any]], metric: str, by: str) -> dict[tuple[Any, ...], tuple[str, ...]]:
    """What speaks against a criterion of each model and `by`: by the rows of its metric, or by all."""
    found: dict[tuple[Any, ...], dict[str, None]] = {}
    for row in [r for r in rows if r["metric"] == metric] or rows:
        found.setdefault((row["model"], row["train_seed"], row[by]), {}).update(dict.fromkeys(doubts(row)))
    return {key: tuple(words) for key, words in found.items()}


def _distinct(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    return list(dict.fromkeys(r[column] for r in rows if r[column] is not None))

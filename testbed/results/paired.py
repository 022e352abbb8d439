"""What `testbed compare` compares: cells of two runs that differ in nothing but the run, or in what the user names.

Probabilities and scores are read from the store (the run folder keeps one confidence per example, which cannot give NLL
or Brier), aligned on example ids, and compared under shared resamples. There are two families over the whole command,
fixed before anything is read: whole sets, and their parts (classes and groups). In each the chance of any false alarm
is 5 %, however many cells there are (`testbed.metrics.families`).

Two cells of one digest have one recipe. Where both runs read one store they are one artifact; where the stores are two
and the bytes differ, another machine made them, and the difference is counted and said, not tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from testbed.condition import label as condition_label
from testbed.condition import whatever_calibrator
from testbed.detection.protocols import refuse_mixed
from testbed.errors import CorruptArtifact, DataError, UsageError, nearest
from testbed.metrics.resampled import Measured, ProbabilityMetric, sums_by_bin
from testbed.report.doubt import doubts, marked
from testbed.report.load import Run
from testbed.report.table import ood_label
from testbed.types import Array, Ints, Job

if TYPE_CHECKING:
    from testbed.metrics.bootstrap import Draws
    from testbed.metrics.comparison import Difference, Flips
    from testbed.store import Store

#: What names a cell; all but the ones that the user picks on either side must agree. Conditions are told by what they
#: are, not by what a grid calls them.
KEY = (
    *("protocol", "dataset", "model", "variant", "train_seed", "seed", "condition_id"),
    *("calibrator", "fit", "detector", "ood_set", "ood_condition"),
)
#: Columns that may be given with --where.
WHERE = (*KEY, "condition", "kind", "severity", "norm", "eps", "victim")
PICKED = ("model", "variant", "train_seed", "calibrator", "detector")

#: Jobs whose numbers are of one set (or one ID and one OOD set), so that examples pair up.
PAIRED = ("score", "score_ood")

#: Columns that follow from a picked one and so cannot be asked to agree.
FOLLOWS: Mapping[str, tuple[str, ...]] = {"model": ("variant",), "calibrator": ("fit",), "detector": ("fit",)}


@dataclass(frozen=True)
class Side:
    """One side: a run, the store that holds its artifacts, and which of its cells are meant.

    pick   columns that tell this side from the other      where   columns that hold for both
    """

    run: Run
    store: Store
    pick: Mapping[str, str]
    where: Mapping[str, str] = field(default_factory=dict)

    def jobs(self, drop: set[str]) -> dict[tuple[Any, ...], tuple[dict[str, Any], str]]:
        """Key of each score job (without the columns in `drop`) -> a row of it and its digest."""
        found: dict[tuple[Any, ...], tuple[dict[str, Any], str]] = {}
        paired = {job["digest"] for job in self.run.plan.get("jobs", ()) if job["kind"] in PAIRED}
        for row in (row for row in self.run.rows if row["digest"] in paired):
            meant = all(str(row.get(name)) == value for name, value in {**self.where, **self.pick}.items())
            if meant:
                about = {**row, "condition_id": whatever_calibrator(row)} if "calibrator" in drop else row
                key = tuple(about.get(name) for name in KEY if name not in drop)
                other = found.setdefault(key, (row, row["digest"]))
                if other[1] != row["digest"]:
                    several = [n for n in PICKED if str(row.get(n)) != str(other[0].get(n))] or ["model"]
                    raise UsageError(
                        f"{self.run.folder}: more than one cell a condition is left; pick one {several[0]}"
                    )
        return found

    def job(self, digest: str) -> Job:
        """The job of this run that has this digest."""
        for one in self.run.plan.get("jobs", ()):
            if one["digest"] == digest:
                return Job(digest, one["kind"], one["recipe"], {role: tuple(d) for role, d in one["inputs"].items()})
        raise DataError(f"{self.run.folder}/plan.json does not hold job {digest}; run the grid again to rewrite it")


@dataclass(frozen=True)
class Compared:
    """Two cells compared: where, every difference on the whole set and on its parts, the changed predictions, and what
    speaks against either side (`where` then ends with the mark).
    """

    where: str
    differences: tuple[Difference, ...]
    flips: Flips | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorstGroup(ProbabilityMetric):
    """Accuracy of the worst group (or class, where the set has no groups); a replicate has its own worst one."""

    groups: tuple[int, ...] = ()

    higher_is_better: ClassVar[bool] = True

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        """Value, replicates under `draws`, convention."""
        index: Ints = np.asarray(self.groups or labels, dtype=np.int64)
        right = (np.asarray(probs).argmax(axis=1) == labels).astype(np.float64)
        hits, sizes = sums_by_bin(draws, index, right, np.ones_like(right))
        shares = np.where(sizes > 0, hits / np.maximum(sizes, 1), 1.0)
        value = min(float(right[index == one].mean()) for one in np.unique(index[index >= 0]))
        return Measured(value, shares.min(axis=1), f"worst of {'groups' if self.groups else 'classes'}")


@dataclass(frozen=True)
class Comparison:
    """All that one command compared.

    cells      every pair of cells that differ           same   pairs of one recipe
    elsewhere  of those, how many hold other bytes: made on a machine that rounds otherwise
    classes    the CPU classes of the two runs ("" where a run does not say)
    """

    cells: tuple[Compared, ...]
    same: int
    elsewhere: int
    classes: tuple[str, str]

    def family(self, whole: bool) -> list[Difference]:
        """The differences of whole sets, or of parts: one family of tests."""
        return [d for one in self.cells for d in one.differences if (d.part == "all") == whole]

    def level(self, whole: bool) -> float:
        """The level at which the most significant test of a family must reject."""
        from testbed.metrics.families import ALPHA

        return ALPHA / max(1, sum(d.p_holm == d.p_holm for d in self.family(whole)))


def compared(before: Side, after: Side, only: frozenset[str] = frozenset()) -> Comparison:
    """Every pair of cells compared; `only` names metrics.

    Numbers of different protocols do not compare: UsageError.
    """
    refuse_mixed(row.get("protocol") for side in (before, after) for row in side.run.rows)
    picked = {*before.pick, *after.pick}
    drop = picked | {follower for name in picked for follower in FOLLOWS.get(name, ())}
    first, second = before.jobs(drop), after.jobs(drop)
    shared = [key for key in first if key in second]
    if not shared:
        raise UsageError(f"{before.run.folder} and {after.run.folder} share no cell; {_hint(before, after)}")
    differ = [key for key in shared if first[key][1] != second[key][1]]
    found = [_pair(before, after, first[key], second[key], only) for key in differ]
    same = [first[key][1] for key in shared if first[key][1] == second[key][1]]
    classes = (cpu_class(before.run), cpu_class(after.run))
    cells = corrected([one for one in found if one.differences])
    return Comparison(tuple(cells), len(same), _elsewhere(before.store, after.store, same), classes)


def _elsewhere(before: Store, after: Store, digests: Sequence[str]) -> int:
    """How many artifacts have other bytes in the other store."""
    if before.url == after.url:
        return 0
    one, other = (store.manifests(digests) for store in (before, after))
    return sum(d in other and one[d].content != other[d].content for d in one)


def cpu_class(run: Run) -> str:
    """The CPU class that a run's plan names; "" where it names none."""
    from testbed.provenance import cpu_class as spelled

    cpu = (run.plan.get("provenance") or {}).get("cpu")
    return spelled(cpu) if cpu else ""


def _hint(before: Side, after: Side) -> str:
    for name in ("dataset", "model", "calibrator"):
        a, b = ({str(row.get(name)) for row in side.run.rows} for side in (before, after))
        if not a & b:
            these = f"{', '.join(sorted(a))} against {', '.join(sorted(b))}"
            return f"{name}: {these}; pick with --before {name}=... --after {name}=..."
    return "look at both with `testbed query`"


Cell = tuple[dict[str, Any], str]


def _pair(before: Side, after: Side, one: Cell, other: Cell, only: frozenset[str]) -> Compared:
    row = one[0]
    label = condition_label(row)
    parts = [row["dataset"], row["model"] if "model" not in before.pick else "", label]
    if row.get("ood_set") is not None:
        parts += [row["detector"] if "detector" not in before.pick else "", f"against {ood_label(row)}"]
    elif "calibrator" not in before.pick:
        parts.append(row.get("calibrator") or "")
    against = tuple(dict.fromkeys((*doubts(row), *doubts(other[0]))))
    where = marked(" · ".join(part for part in parts if part), against)
    try:
        if row.get("ood_set") is not None:
            wanted = not only or "auroc" in only
            found = tuple(_detection(before, after, one[1], other[1])) if wanted else ()
            return Compared(where, found, doubts=against)
        return replace(_quality(where, before, after, (one[1], other[1]), only), doubts=against)
    except CorruptArtifact as error:
        raise DataError(f"{where}: {error}; run the grid again, or name its store with --store") from None


def _quality(where: str, before: Side, after: Side, digests: tuple[str, str], only: frozenset[str]) -> Compared:
    from testbed.metrics.bootstrap import Draws
    from testbed.metrics.comparison import compare, flips
    from testbed.metrics.slices import slices

    job = before.job(digests[0])
    p, y, ids, groups = probabilities(before.store, job)
    q, _, other_ids, _ = probabilities(after.store, after.job(digests[1]))
    _, left, right = np.intersect1d(ids, other_ids, assume_unique=True, return_indices=True)
    if len(left) == 0:
        raise DataError(
            f"{where}: the two runs share no example, so nothing can be paired; give both one seed and split"
        )
    p, q, y = p[left], q[right], y[left]
    draws = Draws(int(job.recipe["seed"]), len(left), int(job.recipe["intervals"]["replicates"]))
    some = None if groups is None else groups[left]
    wanted = {name: metric for name, metric in metrics(before.store, job).items() if not only or name in only}
    found = compare(wanted, p, q, y, draws, slices(y, some))
    if not only or "worst_group_accuracy" in only:
        worst = WorstGroup(() if some is None else tuple(some.tolist()))
        found += compare({"worst_group_accuracy": worst}, p, q, y, draws)
    return Compared(where, tuple(found), flips(p, q, y))


def probabilities(store: Store, job: Job) -> tuple[Array, Array, Array, Array | None]:
    """Probabilities float64 `[n k]`, labels, ids and groups `[n]` of a score job, from the outputs in the store."""
    from testbed.runner.operations import access, fits

    features = access.needs_features(job.recipe.get("calibrator"), store)
    data = access.outputs(store, access.one(job, "outputs"), features=features)
    calibrator, _ = fits.fitted(job, store)
    return fits.probabilities(calibrator, data), np.asarray(data.labels), np.asarray(data.ids), data.groups


def metrics(store: Store, job: Job) -> dict[str, ProbabilityMetric]:
    """The metrics of a score job that can be resampled in pairs, by name."""
    from testbed.runner.operations import access

    found = {}
    for recipe in job.recipe["metrics"]:
        plugin = access.code("metric", recipe, store)
        metric = plugin.build(**recipe["params"])
        if isinstance(metric, ProbabilityMetric):
            found[plugin.name] = metric
    return found


def _detection(before: Side, after: Side, one: str, other: str) -> Iterator[Difference]:
    """AUROC of both sides on the same examples, by DeLong's paired test."""
    from testbed.metrics import delong
    from testbed.metrics.comparison import Difference
    from testbed.metrics.ood import AUROC

    parts, sizes = [], []
    for side, digest in ((before, one), (after, other)):
        job = side.job(digest)
        tables = [side.store.tensors(job.inputs[role][0], "scores") for role in ("id", "ood")]
        parts.append([t["scores"][np.argsort(t["ids"], kind="stable")] for t in tables])
        sizes.append([np.sort(t["ids"]) for t in tables])
    if not all(np.array_equal(a, b) for a, b in zip(*sizes, strict=True)) or any(
        np.isnan(s).any() for side in parts for s in side
    ):
        return
    a, b = (delong.components(*side) for side in parts)
    d = delong.difference(b, a)
    yield Difference("auroc", "all", sum(map(len, sizes[0])), a.auroc, b.auroc, d.value, d.low, d.high, d.p, d.p,
                     "unclear", "after - before, paired; DeLong on Welch's t", d.least, "delong", d.error, d.differing,
                     AUROC.higher_is_better)  # fmt: skip


def corrected(found: Sequence[Compared]) -> list[Compared]:
    """The same with corrected p-values and verdicts, whole sets and parts as two families."""
    from testbed.metrics.comparison import judged

    families = {
        whole: iter(judged([d for one in found for d in one.differences if (d.part == "all") == whole]))
        for whole in (True, False)
    }
    return [replace(one, differences=tuple(next(families[d.part == "all"]) for d in one.differences)) for one in found]


def picks(given: Iterable[str], names: Sequence[str] = PICKED) -> dict[str, str]:
    """Which cells are meant, from `name=value` texts.

    >>> picks(["calibrator=none"])
    {'calibrator': 'none'}
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in names:
            raise UsageError(
                f"{text!r}: expected name=value with a name among {', '.join(names)}; {nearest(name, names)}"
            )
        found[name] = value
    return found

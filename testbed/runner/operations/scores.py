"""Jobs that turn cached outputs into numbers with intervals: score, score_ood, samples. None of them needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.estimate import Estimate
from testbed.metrics.slices import by_slice, slices, worst
from testbed.plugins import Plugin
from testbed.runner.operations import access
from testbed.runner.operations.fits import fit_flags, fitted, probabilities
from testbed.store import Store, Writer
from testbed.types import Array, Job, Outputs

#: Rows of logits that are no less than 0 and this close to a sum of 1 are probabilities.
SUM_TOLERANCE = 2e-3

#: Columns of a score table: which metric of the job's list, and its estimate.
COLUMNS = ("position", "convention", "value", "ci_low", "ci_high", "n", "flags")

#: Columns of samples.parquet that are maps, by calibrator or by detector.
NESTED = ("decision", "confidence", "score")


@lru_cache(maxsize=4)
def draws(seed: int, n: int, replicates: int) -> Draws:
    """The resamples of a set, shared by all metrics of all jobs in this process."""
    return Draws(seed, n, replicates)


def score(job: Job, store: Store, writer: Writer) -> None:
    """Metrics of the probabilities of one model on one set under one calibrator."""
    data = access.outputs(
        store, access.one(job, "outputs"), features=access.needs_features(job.recipe.get("calibrator"), store)
    )
    calibrator, _ = fitted(job, store)
    probs = probabilities(calibrator, data)
    labels = np.asarray(data.labels)
    shared = draws(job.recipe["seed"], len(labels), job.recipe["intervals"]["replicates"])
    unanswered = int((~data.answered).sum())
    flags = ";".join(filter(None, (fit_flags(job, store), f"no_answer={unanswered}" if unanswered else "")))
    writer.meta.update(model_doubts(data))

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        if plugin.facts["needs"] == "confidence":
            given: tuple[Array, Array] = (probs.max(axis=1), probs.argmax(axis=1) == labels)
        else:
            given = (probs, labels)
        rows = estimate_rows(position, metric(*given, draws=shared), flags)
        if asked := job.recipe.get("slices"):
            rows += slice_rows(position, plugin, metric, given, parts(labels, data.groups, asked), shared)
        return rows

    write_rows(writer, each_metric(job, store, len(labels), one))


def model_doubts(data: Outputs) -> dict[str, Any]:
    """What a set's outputs say of the whole model, for `testbed.runner.doubts`.

    softmax_as_logits  its logits lie in [0, 1] and sum to 1: they are probabilities
    chance             the accuracy that its best blind guess has: the share of the most frequent class, or 1/k
    """
    logits, labels = np.asarray(data.logits)[data.answered], np.asarray(data.labels)
    found: dict[str, Any] = {"softmax_as_logits": True} if len(logits) and sums_to_one(logits) else {}
    if len(labels) and labels.min() >= 0:
        found["chance"] = max(float(np.bincount(labels).max()) / len(labels), 1.0 / data.logits.shape[1])
    return found


def sums_to_one(logits: Array) -> bool:
    """Whether all rows are probabilities, to the precision of float16."""
    return bool((logits >= 0).all()) and bool((np.abs(logits.sum(axis=1) - 1) < SUM_TOLERANCE).all())


def score_ood(job: Job, store: Store, writer: Writer) -> None:
    """Metrics of the scores of one detector on an in-distribution and an out-of-distribution set."""
    inside, outside = (store.tensors(access.one(job, role), "scores")["scores"] for role in ("id", "ood"))
    shared = draws(job.recipe["seed"], len(inside), job.recipe["intervals"]["replicates"])
    flags = ";".join(score_flags(job, store))

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        return estimate_rows(position, metric(inside, outside, draws=shared), flags)

    write_rows(writer, each_metric(job, store, len(inside) + len(outside), one))


def each_metric(
    job: Job, store: Store, n: int, measure: Callable[[int, Plugin, Any], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The rows of every metric of a job, by `measure(position, plug-in, metric)`.

    One that fails has a row with its error and takes no other's number along; where all fail the job does.
    """
    rows: list[dict[str, Any]] = []
    failures: list[Exception] = []
    for position, recipe in enumerate(job.recipe["metrics"]):
        try:
            plugin = access.code("metric", recipe, store)
            rows += measure(position, plugin, plugin.build(**recipe["params"]))
        except (MemoryError, OSError):  # the machine's failure, not the metric's: the job is tried again
            raise
        except Exception as error:
            failures.append(error)
            blank = estimate_rows(position, Estimate(np.nan, np.nan, np.nan, "", n))
            rows += [{**row, "error": f"{type(error).__name__}: {error}"} for row in blank]
    if failures and len(failures) == len(job.recipe["metrics"]):
        raise failures[0]
    return rows


def score_flags(job: Job, store: Store) -> list[str]:
    """What a row says of a detector's scores beside its value: those not finite, and parameters that were tuned."""
    sides = {role: [store.require(digest).meta for digest in job.inputs[role]] for role in ("id", "ood")}
    counts = {f"{r}:{k}": sum(m[k] for m in metas) for r, metas in sides.items() for k in ("nan", "infinite")}
    tuned = sides["id"][0].get("tuned") or {}
    chosen = ", ".join(f"{name}={value}" for name, value in tuned.get("params", {}).items())
    words = [f"{name}={count}" for name, count in counts.items() if count]
    return [*words, f"tuned:{chosen} (auroc {tuned['auroc']:.4f} on the tuning set)"] if tuned else words


def estimate_rows(position: int, estimates: Estimate | Sequence[Estimate], flags: str = "") -> list[dict[str, Any]]:
    """Rows of a score table from what a metric returned: one estimate, or several conventions side by side."""
    found = [estimates] if isinstance(estimates, Estimate) else list(estimates)
    return [
        dict(
            zip(
                COLUMNS,
                (position, e.convention, e.value, e.low, e.high, e.n, ";".join(filter(None, (e.flags, flags)))),
                strict=True,
            )
        )
        for e in found
    ]


def parts(labels: Array, groups: Array | None, asked: Sequence[str]) -> dict[str, Array]:
    """Positions of each class and each group that occurs, of the kinds asked for ("class", "group")."""
    return {name: rows for name, rows in slices(labels, groups).items() if name.partition(" ")[0] in asked}


def slice_rows(
    position: int, plugin: Plugin, metric: Any, given: tuple[Array, Array], found: Mapping[str, Array], shared: Draws
) -> list[dict[str, Any]]:
    """Rows of one metric on each part of a set, and on the worst of each kind of part."""
    rows: list[dict[str, Any]] = []
    estimates: dict[str, dict[str, Estimate]] = {}
    for name, part in found.items():
        try:
            one = by_slice(metric, *given, {name: part}, shared)[name]
        except DataError as error:
            one = Estimate(np.nan, np.nan, np.nan, "", len(part), f"not-measured({error})")
        rows += [{**row, "group": name} for row in estimate_rows(position, one)]
        if isinstance(one, Estimate) and one.value == one.value:
            estimates.setdefault(name.partition(" ")[0], {})[name] = one
    for kind, of_kind in estimates.items():
        name, one = worst(of_kind, bool(plugin.facts["higher_is_better"]))
        named = f"{one.convention}; {name} of {len(of_kind)}, interval not widened for having been picked"
        rows += [{**row, "group": f"worst {kind}"} for row in estimate_rows(position, replace(one, convention=named))]
    return rows


def write_rows(writer: Writer, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows of a score job; NaN is kept as null."""
    import pyarrow as pa

    names = (*COLUMNS, *(name for name in ("group", "error") if any(name in r for r in rows)))

    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and value != value else value

    columns = {name: [plain(r.get(name)) for r in rows] for name in names}
    kinds = {
        "position": pa.int32(),
        "n": pa.int64(),
        **dict.fromkeys(("convention", "flags", "group", "error"), pa.string()),
    }
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in names])
    writer.table("rows", pa.table(columns, schema=schema))


def samples(job: Job, store: Store, writer: Writer) -> None:
    """One row an example: prediction, ledger, decision and confidence under each calibrator, score of each detector."""
    import pyarrow as pa

    from testbed.types import SAMPLES, SAMPLES_VERSION, arrow_schema

    calibrators = [
        (c["name"], fitted(job, store, f"calibrator{i}", c["calibrator"])[0])
        for i, c in enumerate(job.recipe["calibrators"])
    ]
    data = access.outputs(
        store, access.one(job, "outputs"), features=any("features" in getattr(c, "needs", ()) for _, c in calibrators)
    )
    ids, labels = np.asarray(data.ids), np.asarray(data.labels)
    prediction = data.predicted
    book = aligned(access.ledger(store, job.inputs.get("ledger", ())), ids)
    if book:
        names = np.array([*store.require(job.inputs["ledger"][0]).meta["parts"], None], dtype=object)
        book["fooled_by"] = names[book["stage"]]
    if "ledger" in job.recipe:
        book = own_verdict(book, data)
    probs = {name: probabilities(c, data) for name, c in calibrators}
    scores = {
        name: aligned(store.tensors(access.one(job, f"detect{i}"), "scores"), ids)["scores"]
        for i, name in enumerate(job.recipe["detectors"])
    }
    columns: dict[str, Any] = {
        "id": ids,
        "label": labels,
        "prediction": prediction,
        "correct": prediction == labels,
        **{k: v for k, v in book.items() if k in SAMPLES and k != "ids"},
    }
    fields = arrow_schema({k: v for k, v in SAMPLES.items() if k in columns or k in NESTED}, SAMPLES_VERSION)
    columns |= {
        "decision": as_map({name: p.argmax(axis=1) for name, p in probs.items()}, len(ids), pa.int64()),
        "confidence": as_map(
            {name: p.max(axis=1).astype(np.float32) for name, p in probs.items()}, len(ids), pa.float32()
        ),
        "score": as_map(scores, len(ids), pa.float64()),
    }
    writer.table("samples", pa.table({name: columns[name] for name in fields.names}, schema=fields))


def own_verdict(book: Mapping[str, Array], data: Outputs) -> dict[str, Array]:
    """A ledger of an attack on another model as one of this model's: cost, distance, and own verdicts.

    Which evaluation first fooled an example, what it was fooled by and how sure the model was before are of the
    attacked model, so they are left out.
    """
    labels = np.asarray(data.labels)
    known = labels >= 0
    z, at = np.asarray(data.logits, np.float64), np.maximum(labels, 0)[:, None]
    own, others = np.take_along_axis(z, at, 1)[:, 0], z.copy()
    np.put_along_axis(others, at, -np.inf, 1)
    kept = {name: book[name] for name in ("gradients", "queries", "distance", "flags")}
    return kept | {
        "success": (data.predicted != labels) & known,
        "margin": np.where(known, own - others.max(1), np.nan).astype(np.float32),
        "loss": np.where(known, np.logaddexp.reduce(z, axis=1) - own, np.nan).astype(np.float32),
    }


def aligned(table: Mapping[str, Array], ids: Array) -> dict[str, Array]:
    """The rows of a table with an `ids` column, in the order of `ids`."""
    if not table:
        return {}
    order = np.argsort(table["ids"], kind="stable")
    rows = order[np.searchsorted(table["ids"], ids, sorter=order)]
    return {name: values[rows] for name, values in table.items()}


def as_map(columns: Mapping[str, Array], n: int, kind: Any) -> Any:
    """A map column: one entry a named column for each of n rows."""
    import pyarrow as pa

    keys = pa.array(list(columns) * n, pa.string())
    values = pa.array(np.stack(list(columns.values()), axis=1).reshape(-1) if columns else [], kind)
    return pa.MapArray.from_arrays(pa.array(np.arange(n + 1) * len(columns), pa.int32()), keys, values)

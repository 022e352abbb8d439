"""Jobs that put several conditions, or the groups of one, into one number. None of them needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.aggregates import SHARES, Measures, unseen_ends
from testbed.metrics.bootstrap import Interval
from testbed.perturb.shift import SLOTS
from testbed.plugins import Plugin
from testbed.runner.operations import access
from testbed.runner.operations.fits import fitted, probabilities
from testbed.runner.operations.scores import draws, each_metric, estimate_rows, write_rows
from testbed.store import Store, Writer
from testbed.types import Array, Float64, Job


def score_groups(job: Job, store: Store, writer: Writer) -> None:
    """Metrics that read the groups of one set."""
    features = access.needs_features(job.recipe["calibrator"], store)
    data = access.outputs(store, access.one(job, "outputs"), features=features)
    names = store.require(job.inputs["names"][0]).meta.get("group_names", ())
    probs = probabilities(fitted(job, store)[0], data)
    shared = draws(job.recipe["seed"], len(data), job.recipe["intervals"]["replicates"])

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        return estimate_rows(position, metric(probs, np.asarray(data.labels), data.groups, names=names, draws=shared))

    write_rows(writer, each_metric(job, store, len(data), one))


def score_frames(job: Job, store: Store, writer: Writer) -> None:
    """Metrics of the frames of one perturbation sequence."""
    features = access.needs_features(job.recipe["calibrator"], store)
    data = access.outputs(store, access.one(job, "outputs"), features=features)
    films = as_films(probabilities(fitted(job, store)[0], data), np.asarray(data.ids))
    shared = draws(job.recipe["seed"], len(films), job.recipe["intervals"]["replicates"])

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        return estimate_rows(position, metric(films, job.recipe["noise"], draws=shared))

    write_rows(writer, each_metric(job, store, len(films), one))


def as_films(values: Float64, ids: Array) -> Float64:
    """Rows of frames, in id order, as `[films frames k]`.

    >>> as_films(np.arange(4.0)[:, None], np.array([64, 65, 128, 129])).shape
    (2, 2, 1)
    """
    films = len(np.unique(ids // SLOTS))
    return values.reshape(films, len(ids) // films, -1)


def aggregate(job: Job, store: Store, writer: Writer) -> None:
    """Measure each point (model, condition), then combine them by each aggregate of the job's list."""
    recipes = job.recipe["metrics"]
    metrics = [access.code("metric", recipe, store).build(**recipe["params"]) for recipe in recipes]
    wanted = list(dict.fromkeys(metric.measured for metric in metrics))
    found: list[dict[str, Float64]] = []
    sizes = []
    for position in range(len(job.recipe["points"])):
        values, n = measured(job, store, position, wanted)
        found.append(values)
        sizes.append(n)
    rows = []
    for position, metric in enumerate(metrics):
        owners = {name: measures(job, found, metric.measured, name) for name in ("", *metric.others)}
        if lack := metric.lacks(severities(job)):
            raise DataError(f"metric {recipes[position]['use']!r}: after the grid's filters {lack}")
        values, words = metric.combine(owners[""], [owners[name] for name in metric.others])
        sound = np.where(np.isfinite(values), values, np.nan)
        shared = draws(job.recipe["seed"], sizes[0], job.recipe["intervals"]["replicates"])
        base = access.code("metric", {"use": metric.measured}, store).build()
        interval: Interval = getattr(base, "interval", "percentile")
        estimate = shared.estimate(float(sound[0]), sound[1:], words, interval)
        if metric.measured in SHARES and estimate.low == estimate.high:
            others = [owners[name] for name in metric.others]
            low, high = unseen_ends(metric, owners[""], others, sizes[0])
            named = f"{estimate.convention}, no spread: rule of three"
            estimate = replace(estimate, low=min(low, estimate.value), high=max(high, estimate.value), convention=named)
        rows += estimate_rows(position, estimate)
    write_rows(writer, rows)


def severities(job: Job) -> dict[str, list[float | None]]:
    """Severities of each shift among the points of the job's own model."""
    out: dict[str, list[float | None]] = {}
    for one in job.recipe["points"]:
        if one["model"] == "" and one["shift"] is not None:
            out.setdefault(one["shift"], []).append(one["severity"])
    return out


def measured(job: Job, store: Store, position: int, wanted: list[str]) -> tuple[dict[str, Float64], int]:
    """Each wanted metric of one point, float64 `[1 + replicates]`, and the number of examples."""
    features = access.needs_features(job.recipe["calibrator"], store)
    data = access.outputs(store, access.one(job, f"outputs{position}"), features=features)
    calibrator, _ = fitted(job, store, f"calibrator{position}")
    probs = probabilities(calibrator, data)
    noise = job.recipe["points"][position].get("noise")
    probs = probs if noise is None else as_films(probs, np.asarray(data.ids))
    shared = draws(job.recipe["seed"], len(probs), job.recipe["intervals"]["replicates"])
    second = np.asarray(data.labels) if noise is None else noise
    return {name: one_metric({"use": name}, store, probs, second, shared) for name in wanted}, len(probs)


def one_metric(recipe: Mapping[str, Any], store: Store, probs: Float64, labels: Any, shared: Any) -> Float64:
    """A metric of one condition with its replicates (NaN where it has none); of a sequence `labels` is `noise`."""
    plugin = access.code("metric", recipe, store)
    given: tuple[Array, Any] = (probs, labels)
    if plugin.facts["needs"] == "confidence":
        given = (probs.max(axis=1), probs.argmax(axis=1) == labels)
    value, replicates, _ = plugin.build().measure(*given, shared)
    blank = np.full(shared.replicates, np.nan)
    return np.concatenate([[value], blank if replicates is None else np.asarray(replicates)])


def measures(job: Job, found: list[dict[str, Float64]], metric: str, owner: str) -> Measures:
    """One model under all conditions, by one metric."""
    clean: Float64 | None = None
    shifted: dict[str, list[Float64]] = {}
    for one, values in zip(job.recipe["points"], found, strict=True):
        if one["model"] != owner:
            continue
        if one["shift"] is None:
            clean = values[metric]
        else:
            shifted.setdefault(one["shift"], []).append(values[metric])
    stacked = {name: np.stack(rows) for name, rows in shifted.items()}
    blank = np.full(len(found[0][metric]), np.nan)
    return Measures(blank if clean is None else clean, stacked)

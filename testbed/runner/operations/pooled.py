"""Jobs that score over several sets: means over OOD sets, pooled ID sets, failures of both kinds, spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.metrics.estimate import Estimate
from testbed.metrics.ood import AUROC
from testbed.metrics.pooled import mean_estimate, pooled_auroc
from testbed.plugins import Plugin
from testbed.runner.operations import access
from testbed.runner.operations.fits import fit_flags, fitted, probabilities
from testbed.runner.operations.scores import draws, each_metric, estimate_rows, score_flags, write_rows
from testbed.store import Store, Writer
from testbed.types import Array, Job

Scores = tuple[Array, Array]


def score_pooled(job: Job, store: Store, writer: Writer) -> None:
    """Metrics of a detector's scores: all ID sets pooled into one, against each OOD set, and the mean over these."""
    inside = [scores_of(store, digest) for digest in job.inputs["id"]]
    outside = [scores_of(store, digest)[0] for digest in job.inputs["ood"]]
    flags = score_flags(job, store)
    n = sum(len(scores) for scores, _ in inside) + sum(map(len, outside))

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        if isinstance(metric, AUROC) and metric.interval == "delong":
            return estimate_rows(position, pooled_auroc(inside, outside), ";".join(flags))
        pool = np.concatenate([scores for scores, _ in inside])
        shared = draws(job.recipe["seed"], len(pool), job.recipe["intervals"]["replicates"])
        found = [listed(metric(pool, other, draws=shared)) for other in outside]
        means = [e[0] if len(e) == 1 else replace(mean_estimate(e), n=n) for e in zip(*found, strict=True)]
        dependent = ["interval:pooled rows taken as independent"] if len(inside) > 1 else []
        return estimate_rows(position, means, ";".join(flags + dependent))

    write_rows(writer, each_metric(job, store, n, one))


def score_failures(job: Job, store: Store, writer: Writer) -> None:
    """Metrics that count wrong predictions and OOD examples as failures."""
    inside = np.concatenate([scores_of(store, digest)[0] for digest in job.inputs["id"]])
    outside = np.concatenate([scores_of(store, digest)[0] for digest in job.inputs["ood"]])
    right = np.concatenate([correct(job, store, digest) for digest in job.inputs["outputs"]])
    shared = draws(job.recipe["seed"], len(inside), job.recipe["intervals"]["replicates"])
    flags = ";".join(filter(None, (*score_flags(job, store), fit_flags(job, store))))

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        return estimate_rows(position, metric(inside, outside, right, draws=shared), flags)

    write_rows(writer, each_metric(job, store, len(inside) + len(outside), one))


def over_seeds(job: Job, store: Store, writer: Writer) -> None:
    """Mean and spread over training seeds of every row of these score jobs, which hold the same metrics in order."""
    tables = [store.table(digest, "rows").to_pylist() for digest in job.inputs["rows"]]
    rows = []
    for same in zip(*tables, strict=True):
        mean, spread = repeats_estimates([np.nan if one["value"] is None else one["value"] for one in same], same)
        rows += estimate_rows(2 * same[0]["position"], mean)
        rows += estimate_rows(2 * same[0]["position"] + 1, spread)
    write_rows(writer, rows)


def repeats_estimates(
    values: Sequence[float], rows: Sequence[Mapping[str, Any]], over: str = "training seeds"
) -> tuple[Estimate, Estimate]:
    """Mean with Student's interval, and sample standard deviation, of one number over training seeds or restarts.

    >>> rows = [{"convention": "top-1; clopper-pearson 95%", "n": 10}] * 3
    >>> for one in repeats_estimates([0.90, 0.92, 0.94], rows): print(one)
    0.92 [0.8703, 0.9697] (n=10; mean over 3 training seeds; top-1; clopper-pearson 95%; Student 95% over seeds)
    0.02 no interval (n=10; standard deviation (n - 1) over 3 training seeds; top-1; clopper-pearson 95%)
    """
    from scipy.stats import t

    numbers = np.asarray(values, dtype=np.float64)
    k, n = len(numbers), rows[0]["n"]
    words = [row["convention"].split("; ") for row in rows]
    shared = "; ".join(w for w in words[0] if all(w in others for others in words))
    mean, std = float(numbers.mean()), float(numbers.std(ddof=1))
    half = float(t.ppf(0.975, k - 1)) * std / np.sqrt(k)
    convention = f"mean over {k} {over}; {shared}; Student 95% over {over.split()[-1]}"
    return (
        Estimate(mean, mean - half, mean + half, convention, n),
        Estimate(std, np.nan, np.nan, f"standard deviation (n - 1) over {k} {over}; {shared}", n),
    )


def scores_of(store: Store, digest: str) -> Scores:
    """A detector's scores of one set, and the example ids."""
    kept = store.tensors(digest, "scores")
    return kept["scores"], kept["ids"]


def correct(job: Job, store: Store, digest: str) -> Array:
    """bool `[n]`: whether each example is classified correctly, through the job's calibrator where it has one."""
    recipe = job.recipe.get("calibrator")
    data = access.outputs(store, digest, features=access.needs_features(recipe, store))
    decided = probabilities(fitted(job, store)[0], data).argmax(axis=1) if recipe else data.predicted
    right: Array = decided == np.asarray(data.labels)
    return right


def listed(estimates: Estimate | Sequence[Estimate]) -> list[Estimate]:
    """One estimate, or several conventions side by side, as a list."""
    return [estimates] if isinstance(estimates, Estimate) else list(estimates)

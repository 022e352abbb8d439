"""Jobs and cells over several sets or several training seeds; the numbers are those of published tables.

mean(GROUP)     unweighted mean over the OOD sets of a group under one condition, where it holds several
full_spectrum   clean and shifted ID sets as one, so that a shifted example counts as ID
:seed_mean/std  mean and sample standard deviation of any number over the training seeds of a model
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from testbed.grid.jobs import Jobs
from testbed.grid.plan import Cell
from testbed.grid.resolved import Bound, OodEntry

SEED_MEAN, SEED_STD = ":seed_mean", ":seed_std"


def mean_name(group: str) -> str:
    """What stands in `ood_set` for the mean over a group.

    >>> mean_name("near")
    'mean(near)'
    """
    return f"mean({group})"


def groups(sets: Sequence[OodEntry], labels: Mapping[str, str]) -> dict[tuple[str, str], list[OodEntry]]:
    """(group, condition) -> its OOD sets, where a named group holds several under one condition.

    labels  condition_id -> label (`Resolved.ood_labels`)
    """
    found: dict[tuple[str, str], list[OodEntry]] = {}
    for entry in sets:
        if entry.group:
            found.setdefault((entry.group, labels[entry.condition.id]), []).append(entry)
    return {key: entries for key, entries in found.items() if len(entries) > 1}


def score_pooled(
    jobs: Jobs, metrics: Sequence[Bound], inside: Sequence[str], outside: Sequence[str], seed: int, label: str
) -> str:
    """Metrics of scores: one ID set against one OOD set, or ID sets pooled, or the mean over OOD sets, or both."""
    if len(inside) == len(outside) == 1:
        return jobs.score_ood(metrics, inside[0], outside[0], seed, label)
    return jobs.add("score_pooled", jobs.metrics(metrics, seed), {"id": inside, "ood": outside}, f"score {label}")


def score_failures(
    jobs: Jobs,
    metrics: Sequence[Bound],
    scores: tuple[Sequence[str], Sequence[str]],
    outputs: Sequence[str],
    calibrator: tuple[Mapping[str, Any], Sequence[str]],
    seed: int,
    label: str,
) -> str:
    """Metrics that count wrong ID predictions and OOD examples as failures.

    scores      jobs with the scores of ID and of OOD sets
    outputs     the ID sets' outputs, in that order, which say what is right
    calibrator  its recipe and its fitted job, both empty where there is none
    """
    code, fitted = calibrator
    inputs = {"id": scores[0], "ood": scores[1], "outputs": outputs, "calibrator": fitted}
    return jobs.add("score_failures", {**jobs.metrics(metrics, seed), **code}, inputs, f"failures {label}")


def seed_cells(cells: Sequence[Cell], jobs: Jobs) -> Iterator[Cell]:
    """The cells of mean and spread over training seeds, for every number that several seeds of a model have."""
    same: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        if cell.row["train_seed"] is not None and cell.row["metric"] != "audit":
            key = tuple((name, value) for name, value in cell.row.items() if name != "train_seed")
            same.setdefault(key, []).append(cell)
    for found in same.values():
        digests = [cell.digest for cell in found]
        if len(set(digests)) < 2 or len({cell.metric for cell in found}) > 1:
            continue
        row = {**found[0].row, "train_seed": None}
        spread = jobs.add("over_seeds", {}, {"rows": digests}, f"{len(digests)} seeds of {row['model']}")
        for place, suffix in enumerate((SEED_MEAN, SEED_STD)):
            yield Cell({**row, "metric": f"{row['metric']}{suffix}"}, spread, 2 * found[0].metric + place)

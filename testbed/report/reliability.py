"""Reliability diagrams: accuracy against confidence in bins, from samples.parquet.

Bins are of equal width and closed on the right, as in Guo et al. 2017: bin b of B holds confidences in (b/B, (b+1)/B].
The interval of a bin's accuracy is an exact one. Confidence and decision are those of the calibrated top class,
so a calibrator that changes predictions is judged by its own.
"""

from __future__ import annotations

from typing import Any

from testbed.metrics.bounded import clopper_pearson
from testbed.report.load import Run

BINS = 15

_SQL = f"""
WITH long AS (
    SELECT dataset, model, train_seed, seed, condition, condition_id, label, decision,
           unnest(map_entries(confidence)) AS entry
    FROM samples WHERE label >= 0
)
SELECT dataset, model, train_seed, seed, condition, condition_id, entry.key AS calibrator,
       greatest(ceil(entry.value * {BINS})::INTEGER - 1, 0) AS bin,
       count(*) AS n, avg(entry.value) AS confidence, sum((decision[entry.key] = label)::INTEGER) AS correct
FROM long WHERE isfinite(entry.value) GROUP BY ALL ORDER BY ALL
"""


def reliability(run: Run) -> list[dict[str, Any]]:
    """One entry a (data set, model, seeds, condition, calibrator): `bins` lists the bins that hold examples.

    A bin is `{"from", "to", "n", "share", "confidence", "accuracy", "low", "high"}`.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    names = ("dataset", "model", "train_seed", "seed", "condition", "calibrator")
    for row in run.select(_SQL):
        row["condition"] = run.labels.get(row["condition_id"], row["condition"])
        key = tuple(row[name] for name in names)
        entry = found.setdefault(key, {**dict(zip(names, key, strict=True)), "n": 0, "bins": []})
        low, high = clopper_pearson(row["correct"], row["n"])
        accuracy = row["correct"] / row["n"]
        entry["n"] += row["n"]
        edges = {"from": round(row["bin"] / BINS, 6), "to": round((row["bin"] + 1) / BINS, 6)}
        numbers = {"confidence": row["confidence"], "accuracy": accuracy, "low": low, "high": high}
        entry["bins"].append({**edges, "n": row["n"], **{name: round(value, 5) for name, value in numbers.items()}})
    for entry in found.values():
        for one in entry["bins"]:
            one["share"] = round(one["n"] / entry["n"], 5)
    return list(found.values())

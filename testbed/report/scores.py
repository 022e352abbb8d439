"""OOD charts: score histograms and ROC curves of in- against out-of-distribution sets, from samples.parquet.

A set is the rows of one (data set, model, seeds, condition); an OOD set stands in samples.parquet under its own name as
data set. Scores are larger for more out-of-distribution, so a threshold t flags the scores >= t. Scores that are not
finite are counted and left out of the histogram; in the ROC an infinite score has its place and NaN has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from testbed.condition import label as condition_label
from testbed.report.load import Run
from testbed.report.samples import Key, SampleSet, sample_sets
from testbed.report.table import has_samples
from testbed.types import Float64

BINS, POINTS = 40, 120

#: Pairs of sets in one page; beyond it the rest are left out, and the page says so.
MOST_PAIRS = 400

#: Which examples are "positive" in FPR95 -> the operating point's name in the page.
OPERATING = ("95 % of OOD flagged", "95 % of ID kept")


def score_charts(run: Run) -> tuple[list[dict[str, Any]], int]:
    """Histogram and ROC of every (ID set, OOD set, detector) that the run scored, and how many pairs were left out."""
    pairs = list(_pairs(run))
    charts, shown = [], [(pair, *_keys(pair)) for pair in pairs[:MOST_PAIRS]]
    inside_sets = sample_sets(run.folder, {key: ("score",) for _, key, _ in shown}, run.of_condition)
    outside_sets = sample_sets(run.folder, {key: ("score",) for _, _, key in shown}, "condition")
    for pair, inside_key, outside_key in shown:
        inside = _scores(inside_sets.get(inside_key), pair["detector"])
        outside = _scores(outside_sets.get(outside_key), pair["detector"])
        if len(inside) and len(outside):
            named = {name: value for name, value in pair.items() if name != "key"}
            charts.append({**named, **histogram(inside, outside), **roc(inside, outside)})
    return charts, max(0, len(pairs) - MOST_PAIRS)


def _pairs(run: Run) -> Iterator[dict[str, Any]]:
    """Each (sets, detector) once; clean against clean first, so that those are shown when not all can be.

    Rows over several sets (means, pooled sets, training seeds) have no scores of their own.
    """
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in run.rows:
        if row.get("ood_set") is not None and has_samples(row):
            sets = {
                "condition": condition_label(row),
                "key": run.sample_condition(row),
                "ood_set": row["ood_set"],
                "ood_condition": row.get("ood_condition") or "clean",
            }
            pair = {name: row.get(name) for name in ("dataset", "model", "train_seed", "seed", "detector")} | sets
            seen.setdefault(tuple(pair.values()), pair)
    yield from sorted(seen.values(), key=lambda p: (p["condition"] != "clean") + (p["ood_condition"] != "clean"))


def _keys(pair: Mapping[str, Any]) -> tuple[Key, Key]:
    """The two sets of a pair in samples.parquet: the first by the run's column of conditions, the second by label."""
    model = (pair["model"], pair["train_seed"], pair["seed"])
    return Key(pair["dataset"], *model, pair["key"]), Key(pair["ood_set"], *model, pair["ood_condition"])


def _scores(one: SampleSet | None, detector: str) -> Float64:
    """float64 `[n]`; empty where samples.parquet has no such set or detector."""
    values = None if one is None else one.score.get(detector)
    return np.empty(0) if values is None else np.asarray(np.ma.compressed(values), np.float64)


def histogram(inside: Float64, outside: Float64) -> dict[str, Any]:
    """Shares of both sets in common bins over the central 99 % of all finite scores; the rest is in the end bins.

    >>> histogram(np.array([0.0, 0.0]), np.array([1.0, np.inf]))["not_finite"]
    1
    """
    both = np.concatenate([inside, outside])
    finite = both[np.isfinite(both)]
    low, high = np.quantile(finite, [0.005, 0.995]) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    shares = []
    for scores in (inside, outside):
        counts, _ = np.histogram(np.clip(scores[np.isfinite(scores)], edges[0], edges[-1]), edges)
        shares.append([_short(share) for share in counts / max(1, len(scores))])
    return {
        "edges": [_short(e) for e in edges],
        "id": shares[0],
        "ood": shares[1],
        "not_finite": int(len(both) - len(finite)),
    }


def roc(inside: Float64, outside: Float64) -> dict[str, Any]:
    """The ROC curve with OOD as positive (`fpr` share of ID flagged, `tpr` share of OOD flagged) and its two usual
    operating points, each the first threshold that reaches its rate. Ties move both rates together.

    >>> roc(np.array([0.0, 1.0]), np.array([1.0, 2.0]))["tpr"]
    [0.0, 0.5, 1.0, 1.0]
    """
    inside, outside = inside[~np.isnan(inside)], outside[~np.isnan(outside)]
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    flagged = [1 - np.searchsorted(np.sort(s), thresholds, side="left") / max(1, len(s)) for s in (inside, outside)]
    fpr, tpr = np.concatenate([[0.0], flagged[0]]), np.concatenate([[0.0], flagged[1]])
    first = int(np.argmax(tpr >= 0.95))
    last = int(len(fpr) - 1 - np.argmax(fpr[::-1] <= 0.05 + 1e-12))
    keep = _thinned(fpr, tpr)
    points = [
        {"name": name, "fpr": _short(fpr[i]), "tpr": _short(tpr[i])}
        for name, i in zip(OPERATING, (first, last), strict=True)
    ]
    return {"fpr": [_short(v) for v in fpr[keep]], "tpr": [_short(v) for v in tpr[keep]], "operating": points}


def _thinned(fpr: Float64, tpr: Float64) -> Any:
    """Positions of about `POINTS` points spread evenly along the curve, both ends among them."""
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(fpr)) + np.abs(np.diff(tpr)))])
    wanted = np.searchsorted(way, np.linspace(0, way[-1], POINTS))
    return np.unique(np.concatenate([[0], np.minimum(wanted, len(fpr) - 1), [len(fpr) - 1]]))


def _short(value: float) -> float:
    return float(f"{float(value):.5g}")

"""AUROC over several sets: the mean over OOD sets, and in-distribution sets pooled into one.

Means as OpenOOD forms its near and far numbers: one AUROC a set, unweighted. Pooled ID as in full-spectrum detection
(Yang et al., IJCV 2023): clean and shifted ID examples are one set, so that a shifted example counts as ID.

Intervals are DeLong's with two additions. The sets of a mean share the ID examples, so their ID components are averaged
before a variance is taken. Pooled ID sets hold the same examples under several shifts, so an example's components are
summed first and examples, not rows, are the independent units (the cluster variance of Obuchowski 1997, with one
cluster an example and OOD examples clusters of their own).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from testbed.errors import DataError
from testbed.metrics import delong
from testbed.metrics.bootstrap import LEVEL
from testbed.metrics.estimate import Estimate
from testbed.metrics.ood import checked, infinite
from testbed.types import Array, Float64


def pooled_auroc(id_sets: Sequence[tuple[Array, Array]], ood_sets: Sequence[Array]) -> Estimate:
    """Unweighted mean over OOD sets of the AUROC against all ID sets pooled, in [0, 1].

    id_sets   (scores `[n]`, example ids `[n]`) a set; an id that appears in several is one example
    ood_sets  scores `[m]` a set, larger = more OOD

    >>> one = (np.arange(50.0), np.arange(50))
    >>> pooled_auroc([one, one], [np.arange(25.0, 75.0)]).convention
    'ID pooled over 2 sets, examples as clusters; ood positive; ties half; delong-gamma 95%'
    """
    if not id_sets or not ood_sets:
        raise DataError(f"expected at least one ID and one OOD set, got {len(id_sets)} and {len(ood_sets)}")
    inside = np.concatenate([checked(scores, "ID") for scores, _ in id_sets])
    ids = np.concatenate([np.asarray(names) for _, names in id_sets])
    outside = [checked(scores, "OOD") for scores in ood_sets]
    parts = [delong.components(inside, scores) for scores in outside]
    value = float(np.mean([p.auroc for p in parts]))
    spread = clustered_variance(np.mean([p.id for p in parts], axis=0), ids)
    spread += sum(_variance_of_mean(p.ood) for p in parts) / len(parts) ** 2
    fewest = min(len(np.unique(ids)), *(len(scores) for scores in outside))
    low, high = delong.bounds(value, spread, fewest)
    words = [f"unweighted mean over {len(parts)} OOD sets"] if len(parts) > 1 else []
    words += [f"ID pooled over {len(id_sets)} sets, examples as clusters"] if len(id_sets) > 1 else []
    words += [f"ood positive; ties half{infinite(inside, np.concatenate(outside))}; delong-gamma {LEVEL:.0%}"]
    return Estimate(value, low, high, "; ".join(words), len(inside) + sum(map(len, outside)))


def clustered_variance(values: Float64, ids: Array) -> float:
    """Variance of the mean of `values` `[n]` where rows of one id are one cluster; NaN with a single cluster.

    >>> clustered_variance(np.array([0.0, 1.0]), np.array([1, 2]))
    0.25
    """
    _, cluster, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return float("nan")
    residual = np.bincount(cluster, weights=values) - values.mean() * counts
    return float(np.square(residual).sum() * len(counts) / (len(counts) - 1) / len(values) ** 2)


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Unweighted mean of one metric over several OOD sets; the interval is the mean of the sets' ends.

    The standard error of a mean is at most the mean of the standard errors, whatever the sets share, so this interval
    is not too narrow. The convention keeps the words that all sets have; n is the sum of theirs.

    >>> print(mean_estimate([Estimate(0.2, 0.1, 0.3, "a; b", 10), Estimate(0.4, 0.3, 0.5, "a; c", 10)]))
    0.3 [0.2, 0.4] (n=20; unweighted mean over 2 OOD sets; a; interval: mean of the sets' ends, an upper bound)
    """
    shared = [w for w in estimates[0].convention.split("; ") if all(w in e.convention.split("; ") for e in estimates)]
    words = [
        f"unweighted mean over {len(estimates)} OOD sets",
        *shared,
        "interval: mean of the sets' ends, an upper bound",
    ]
    value, low, high = (float(np.mean([getattr(e, name) for e in estimates])) for name in ("value", "low", "high"))
    return Estimate(value, low, high, "; ".join(words), sum(e.n for e in estimates))


def _variance_of_mean(values: Array) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else float("nan")

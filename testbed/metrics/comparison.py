"""Is B better or worse than A on the same examples: paired differences that hold under many comparisons.

A difference is taken replicate by replicate under shared resamples, so what both methods have in common cancels. Its
interval is the percentile bootstrap's; its p-value is normal, |difference| over the bootstrap standard error (a share
of replicates could not get below 1 / replicates, which Holm's correction would use up). Within a family of comparisons
p-values are corrected by Holm's (1979) step-down method, which bounds the chance of any false finding.

A silent regression is a slice (class or group) that became significantly worse while the whole did not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from testbed.errors import UsageError
from testbed.metrics.bootstrap import LEVEL, Draws, bounds
from testbed.metrics.inputs import probabilities
from testbed.metrics.resampled import ProbabilityMetric
from testbed.types import Array, Float64

Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Difference:
    """After minus before, of one metric on one slice.

    `change` has interval (low, high); `p` is raw, `p_holm` corrected within the family it was compared in.
    `verdict` is by p_holm at 5 % and the metric's own direction.
    """

    metric: str
    part: str
    n: int
    before: float
    after: float
    change: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: Verdict
    convention: str


class Flips(NamedTuple):
    """How predictions changed: right to wrong, wrong to right, wrong to another wrong, and examples in all."""

    lost: int
    gained: int
    moved: int
    n: int
    p: float


@dataclass(frozen=True)
class Threshold:
    """A bound on a change: "ece:+0.01" fails on a rise of more than 0.01, "accuracy:-0.02" on a fall beyond 0.02."""

    metric: str
    change: float


def paired(metric: ProbabilityMetric, before: Any, after: Any, labels: Any, draws: Draws) -> tuple[float, Float64]:
    """Difference after - before and its replicates float64 `[replicates]` (NaN where there are none).

    >>> from testbed.metrics.scores import Accuracy
    >>> a, b = np.array([[0.6, 0.4]] * 4), np.array([[0.4, 0.6]] * 4)
    >>> paired(Accuracy(), a, b, [0, 0, 0, 1], Draws(0, 4, 5))[0]
    -0.5
    """
    first, second = metric.measure(before, labels, draws), metric.measure(after, labels, draws)
    if first.replicates is None or second.replicates is None:
        return second.value - first.value, np.full(draws.replicates, np.nan)
    return second.value - first.value, np.asarray(second.replicates - first.replicates)


def p_normal(change: float, replicates: Array) -> float:
    """Two-sided normal p-value of a change against 0, by the replicates' standard deviation; 1 where it is 0.

    >>> round(p_normal(1.96, np.array([-1.0, 1.0])), 3), p_normal(0.0, np.zeros(3))
    (0.05, 1.0)
    """
    from scipy.special import ndtr

    if np.isnan(change) or np.isnan(replicates).any():
        return float("nan")
    error = float(np.std(replicates))
    if error == 0:
        return 1.0 if change == 0 else 0.0
    return float(2 * ndtr(-abs(change) / error))


def holm(p_values: Sequence[float]) -> Float64:
    """Holm's corrected p-values, in the order given; NaN stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    out = np.full(len(p), np.nan)
    rows = np.flatnonzero(~np.isnan(p))
    order = rows[np.argsort(p[rows], kind="stable")]
    running = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    out[order] = np.minimum(running, 1.0)
    return out


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p-value that as many predictions were lost as gained (binomial with 1/2).

    >>> mcnemar(0, 6)
    0.03125
    """
    from scipy.stats import binomtest

    return 1.0 if lost + gained == 0 else float(binomtest(lost, lost + gained, 0.5).pvalue)


def flips(before: Any, after: Any, labels: Any) -> Flips:
    """Changed predictions between two sets of probabilities, with McNemar's exact p-value.

    >>> flips([[0.6, 0.4], [0.6, 0.4]], [[0.4, 0.6], [0.6, 0.4]], [0, 1])
    Flips(lost=1, gained=0, moved=0, n=2, p=1.0)
    """
    (a, y), (b, _) = probabilities(before, labels, "flips"), probabilities(after, labels, "flips")
    was, now = a.argmax(axis=1), b.argmax(axis=1)
    lost = int(((was == y) & (now != y)).sum())
    gained = int(((was != y) & (now == y)).sum())
    moved = int(((was != y) & (now != y) & (was != now)).sum())
    return Flips(lost, gained, moved, len(y), mcnemar(lost, gained))


def compare(
    metrics: Mapping[str, ProbabilityMetric],
    before: Any,
    after: Any,
    labels: Any,
    draws: Draws,
    parts: Mapping[str, Array] | None = None,
) -> list[Difference]:
    """Every metric on the whole ("all") and on each part, Holm-corrected over all of them together.

    >>> from testbed.metrics.scores import Brier
    >>> a, b = np.array([[0.6, 0.4]] * 50), np.array([[0.9, 0.1]] * 50)
    >>> [d.verdict for d in compare({"brier": Brier()}, a, b, np.zeros(50, int), Draws(0, 50, 100))]
    ['better']
    """
    p, q = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    y = np.asarray(labels)
    found = []
    for part, rows in {"all": np.arange(len(y)), **(parts or {})}.items():
        if len(rows) == 0:
            continue
        shared = draws if part == "all" else draws.other(len(rows), part)
        for name, metric in metrics.items():
            first = metric.measure(p[rows], y[rows], shared)
            change, replicates = paired(metric, p[rows], q[rows], y[rows], shared)
            found.append((name, metric, part, len(rows), first.value, change, replicates, first.convention))
    raw = [p_normal(row[5], row[6]) for row in found]
    return [_difference(row, one, held) for row, one, held in zip(found, raw, holm(raw).tolist())]


def silent_regressions(differences: Sequence[Difference]) -> list[Difference]:
    """Parts that got significantly worse in a metric whose value on the whole set did not."""
    whole = {d.metric: d.verdict for d in differences if d.part == "all"}
    return [d for d in differences if d.part != "all" and d.verdict == "worse" and whole.get(d.metric) != "worse"]


def parse_threshold(text: str) -> Threshold:
    """A threshold from the command line.

    >>> parse_threshold("ece:+0.01"), parse_threshold("worst_group_accuracy:-0.02").change
    (Threshold(metric='ece', change=0.01), -0.02)
    """
    match = re.fullmatch(r"(\w+):([+-]\d*\.?\d+(?:[eE][+-]?\d+)?)", text.strip())
    if match is None:
        raise UsageError(f"--fail-on {text!r}: expected METRIC:+CHANGE or METRIC:-CHANGE, for example ece:+0.01")
    return Threshold(match[1], float(match[2]))


def breaches(threshold: Threshold, differences: Sequence[Difference]) -> list[Difference]:
    """Changes of the threshold's metric that go beyond it and are significant after correction."""
    sign = np.sign(threshold.change) or 1.0
    return [
        d
        for d in differences
        if d.metric == threshold.metric and sign * d.change > abs(threshold.change) and d.p_holm < 1 - LEVEL
    ]


def should_roll_back(metric: ProbabilityMetric, old: Any, new: Any, labels: Any, draws: Draws) -> bool:
    """Whether an update is significantly worse than what it replaced, on the labelled examples since.

    >>> from testbed.metrics.scores import Brier
    >>> old, new = np.array([[0.9, 0.1]] * 50), np.array([[0.6, 0.4]] * 50)
    >>> should_roll_back(Brier(), old, new, np.zeros(50, int), Draws(0, 50, 100))
    True
    """
    return compare({"metric": metric}, old, new, labels, draws)[0].verdict == "worse"


def _difference(row: tuple[Any, ...], p: float, corrected: float) -> Difference:
    name, metric, part, n, value, change, replicates, convention = row
    low, high = bounds(change, replicates)
    gain = change if metric.higher_is_better else -change
    verdict: Verdict = "unclear"
    if corrected < 1 - LEVEL:
        verdict = "better" if gain > 0 else "worse"
    named = f"{convention}; after - before, paired bootstrap-percentile {LEVEL:.0%} x{len(replicates)}, holm"
    return Difference(name, part, n, value, value + change, change, low, high, p, corrected, verdict, named)

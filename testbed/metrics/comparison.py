"""Is B better or worse than A on the same examples: paired differences that hold under many comparisons.

What is tested is decided by the metric: McNemar's mid-p for accuracy, sign flips for means of a number per example, for
everything else (ECE) the larger of two p-values, swaps of the two methods and |difference| over its bootstrap error
(swaps alone reject two errors that are equal but opposite in sign). See `testbed.metrics.paired_tests`. No test of
losses or ECE on fewer than 20 examples; within a family p-values are corrected by Holm after Tarone
(`testbed.metrics.families`), and a test that cannot reject there says "too few to tell".

Intervals: Bonett & Price's (2012) of a difference of paired shares, Student's of a mean difference, else the percentile
bootstrap's under resamples that both sides share.

A silent regression is a slice (class or group) that became significantly worse while the whole did not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit

from testbed.errors import UsageError
from testbed.metrics.bootstrap import LEVEL, Draws, bounds
from testbed.metrics.families import ALPHA, corrected
from testbed.metrics.inputs import probabilities
from testbed.metrics.paired_tests import (
    FEWEST,
    ROUNDING,
    SLOW_SWAPS,
    SWAPS,
    PairedTest,
    changed,
    least_p,
    mcnemar,
    sign_flips,
    swaps,
)
from testbed.metrics.power import mcnemar_power, mcnemar_visible, normal_power, normal_visible
from testbed.metrics.resampled import ProbabilityMetric
from testbed.types import Array, Float64

Verdict = Literal["better", "worse", "unclear", "too few to tell"]
Test = Literal["mcnemar", "sign flips", "swaps", "delong", "none"]

#: Bootstrap p-values from which on no swaps are made: the test is decided.
_DECIDED: Final = 2 * ALPHA
_NAN: Final = math.nan
_Z: Final = 1.959963984540054


@dataclass(frozen=True)
class Difference:
    """After minus before, of one metric on one slice.

    change, low, high  the difference and its 95 % interval
    p, p_least         raw p-value (NaN: none), and the least one that this test could give (1: too few examples)
    p_holm, verdict    corrected within the family it was compared in, NaN where it could not reject there; by 5 %
    test               which test gave p          error   standard error of the change (NaN for McNemar's test)
    differing          examples that differ by more than rounding
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
    p_least: float = 0.0
    test: Test = "none"
    error: float = _NAN
    differing: int = 0
    higher_is_better: bool = False

    @property
    def gain(self) -> float:
        """How much better the metric became: the change, by the metric's own direction."""
        return self.change if self.higher_is_better else -self.change

    def visible(self, level: float = ALPHA) -> float:
        """The smallest change that a test at `level` on these examples shows with power 0.8; NaN where none."""
        if self.test == "mcnemar":
            return mcnemar_visible(self.n, self.differing, level)
        return normal_visible(self.error, level) if self.p_least < 1 else _NAN

    def power(self, change: float, level: float = ALPHA) -> float:
        """Chance that a test at `level` on as many examples sees this change; NaN where there is no test."""
        if self.test == "mcnemar":
            both = max(self.differing / self.n, abs(change))
            return mcnemar_power(self.n, (both - abs(change)) / 2, (both + abs(change)) / 2, level)
        return normal_power(change, self.error, level) if self.p_least < 1 else _NAN


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


def mean_difference(
    metric: str, part: str, before: Float64, after: Float64, *, higher_is_better: bool = False
) -> Difference:
    """The paired difference of the means of one number per example, float64 `[n]` each.

    Shares (all numbers 0 or 1) by McNemar's mid-p test with Bonett and Price's interval, which holds 0 where the test
    does not reject; other means by sign flips with
    Student's, whose n of 1 has none.

    >>> d = mean_difference("nll", "all", np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]))
    >>> round(d.change, 3), round(d.low, 3), round(d.high, 3), d.differing, d.p_least
    (-1.0, -3.484, 1.484, 2, 1.0)
    """
    n, gap = len(before), after - before
    if np.isin(before, (0.0, 1.0)).all() and np.isin(after, (0.0, 1.0)).all():
        lost, gained = int((gap < 0).sum()), int((gap > 0).sum())
        tested = PairedTest(mcnemar(lost, gained), least_p(lost + gained, 0), lost + gained)
        low, high = share_bounds(lost, gained, n)
        if tested.p > ALPHA:  # the interval of few examples is too short: it must not contradict the test
            low, high = min(low, 0.0), max(high, 0.0)
        test: Test = "mcnemar"
        named, error = f"McNemar mid-p; bonett-price {LEVEL:.0%}", _NAN
    else:
        test, named = "sign flips", f"sign flips; student {LEVEL:.0%}"
        tested = _enough(sign_flips(np.where(changed(before, after), gap, 0.0)), n)
        error = float(gap.std(ddof=1)) / math.sqrt(n) if n > 1 else _NAN
        half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error if n > 1 else _NAN
        low, high = float(gap.mean()) - half, float(gap.mean()) + half
    ends = (float(before.mean()), float(after.mean()), float(gap.mean()), low, high)
    return Difference(metric, part, n, *ends, tested.p, tested.p, "unclear", f"after - before, paired; {named}",
                      tested.least, test, error, tested.differing, higher_is_better)  # fmt: skip


def share_bounds(lost: int, gained: int, n: int) -> tuple[float, float]:
    """95 % interval of a paired difference of shares (Bonett & Price 2012), never empty.

    >>> [round(end, 4) for end in share_bounds(0, 0, 100)], [round(end, 3) for end in share_bounds(10, 2, 100)]
    ([-0.0272, 0.0272], [-0.149, -0.008])
    """
    down, up = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    half = _Z * math.sqrt(max(down + up - (up - down) ** 2, 0.0) / (n + 2))
    change = (gained - lost) / n
    return max(-1.0, min(change, up - down - half)), min(1.0, max(change, up - down + half))


def difference(
    name: str, metric: ProbabilityMetric, part: str, before: Float64, after: Float64, labels: Array, draws: Draws
) -> Difference:
    """The paired difference of one metric between probabilities `[n, k]`; `draws` are of these n examples."""
    one, other = metric.per_example(before, labels), metric.per_example(after, labels)
    if one is None or other is None or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return _resampled(name, metric, part, before, after, labels, draws)
    found = mean_difference(name, part, one, other, higher_is_better=metric.higher_is_better)
    named = metric.measure(before, labels, Draws(draws.seed, len(labels), 1)).convention
    return replace(found, convention=f"{named}; {found.convention}")


def _resampled(
    name: str, metric: ProbabilityMetric, part: str, before: Float64, after: Float64, labels: Array, draws: Draws
) -> Difference:
    first = metric.measure(before, labels, draws)
    change, replicates = paired(metric, before, after, labels, draws)
    low, high = bounds(change, replicates)
    error = float(np.std(replicates))
    tested = _swapped(metric, before, after, labels, draws, change, error)
    convention = f"{first.convention}; after - before, paired; swaps and bootstrap; bootstrap-percentile {LEVEL:.0%}"
    return Difference(name, part, len(labels), first.value, first.value + change, change, low, high, tested.p, tested.p,
                      "unclear", f"{convention} x{draws.replicates}", tested.least,
                      "none" if math.isnan(tested.p) and tested.least < 1 else "swaps", error, tested.differing,
                      metric.higher_is_better)  # fmt: skip


def _swapped(
    metric: ProbabilityMetric, p: Float64, q: Float64, labels: Array, draws: Draws, change: float, error: float
) -> PairedTest:
    """The larger of the bootstrap's normal p-value and that of swaps, which are made only where the first is small."""
    rows = np.abs(p - q).max(axis=1) > ROUNDING
    k = int(rows.sum())
    if math.isnan(change) or math.isnan(error):
        return PairedTest(_NAN, 0.0, k)
    normal = float(2 * ndtr(-abs(change) / error)) if error > 0 else 1.0 if k == 0 or change == 0 else least_p(k)
    if normal >= _DECIDED or len(labels) < FEWEST or k == 0:
        return _enough(PairedTest(normal if k else 1.0, least_p(k), k), len(labels))
    cells = metric.cells(p, labels), metric.cells(q, labels)
    if cells[0] is not None and cells[1] is not None:
        found = swaps(change, rows, _by_cells(cells[0], cells[1], rows), SWAPS, draws.seed)
    else:
        found = swaps(change, rows, _by_measuring(metric, p, q, labels, rows, draws.seed), SLOW_SWAPS, draws.seed)
    return PairedTest(max(normal, found.p), found.least, k)


def _by_cells(before: Array, after: Array, rows: Array) -> Any:
    """Differences of sum over cells of |sum of gaps| / n under swaps; gaps `[n, cells]` of both sides."""
    base, other = (side[~rows].sum(axis=0) for side in (before, after))
    mine, theirs, n = before[rows], after[rows], len(rows)

    def swapped(signs: Array) -> Float64:
        moved = signs.astype(np.float64) @ (mine - theirs)
        kept, gone = other + theirs.sum(axis=0) + moved, base + mine.sum(axis=0) - moved
        return np.asarray((np.abs(kept).sum(axis=1) - np.abs(gone).sum(axis=1)) / n)

    return swapped


def _by_measuring(metric: ProbabilityMetric, p: Float64, q: Float64, labels: Array, rows: Array, seed: int) -> Any:
    """Differences of any metric under swaps, measured anew for each."""
    once, places = Draws(seed, len(labels), 1), np.flatnonzero(rows)

    def swapped(signs: Array) -> Float64:
        out = []
        for row in signs:
            at = places[row]
            a, b = p.copy(), q.copy()
            a[at], b[at] = q[at], p[at]
            out.append(metric.measure(b, labels, once).value - metric.measure(a, labels, once).value)
        return np.array(out)

    return swapped


def _enough(tested: PairedTest, n: int) -> PairedTest:
    """The same, without a p-value where n is below `FEWEST`."""
    return tested if n >= FEWEST else PairedTest(_NAN, 1.0, tested.differing)


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


def flips(before: Any, after: Any, labels: Any) -> Flips:
    """Changed predictions between two sets of probabilities, with McNemar's mid-p-value.

    >>> flips([[0.6, 0.4], [0.6, 0.4]], [[0.4, 0.6], [0.6, 0.4]], [0, 1])
    Flips(lost=1, gained=0, moved=0, n=2, p=0.5)
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
    """Every metric on the whole ("all") and on each part, judged as one family.

    >>> from testbed.metrics.scores import Brier
    >>> a, b = np.array([[0.6, 0.4]] * 50), np.array([[0.9, 0.1]] * 50)
    >>> [d.verdict for d in compare({"brier": Brier()}, a, b, np.zeros(50, int), Draws(0, 50, 100))]
    ['better']
    """
    p, q = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    y = np.asarray(labels)
    found = []
    for part, rows in {"all": np.arange(len(y)), **(parts or {})}.items():
        if len(rows):
            shared = draws if part == "all" else draws.other(len(rows), part)
            found += [difference(name, m, part, p[rows], q[rows], y[rows], shared) for name, m in metrics.items()]
    return judged(found)


def judged(differences: Sequence[Difference]) -> list[Difference]:
    """One family with corrected p-values and verdicts, in the order given.

    >>> from testbed.metrics.scores import Accuracy
    >>> a, b = np.array([[0.6, 0.4]] * 5), np.array([[0.4, 0.6]] * 5)
    >>> [(d.p, d.verdict) for d in compare({"accuracy": Accuracy()}, a[:3], b[:3], np.zeros(3, int), Draws(0, 3, 9))]
    [(0.125, 'too few to tell')]
    """
    found = corrected([d.p for d in differences], [d.p_least for d in differences])
    return [
        replace(d, p_holm=p, verdict=_verdict(d, p, tested))
        for d, p, tested in zip(differences, found.p.tolist(), found.tested.tolist(), strict=True)
    ]


def _verdict(d: Difference, p: float, tested: bool) -> Verdict:
    if not tested:
        return "unclear" if d.test == "none" or d.differing == 0 else "too few to tell"
    return "unclear" if not p < ALPHA else "better" if d.gain > 0 else "worse"


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
        if d.metric == threshold.metric and sign * d.change > abs(threshold.change) and d.p_holm < ALPHA
    ]

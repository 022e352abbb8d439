"""Has the stream changed: tests of a window of outputs against a reference, and how good an alarm they make.

    BBSDs  a two-sample Kolmogorov-Smirnov test on each class's probability, Bonferroni-corrected
    BBSDh  a chi-squared test of the predicted classes, rare ones taken together until five are expected of each group
    MMD    maximum mean discrepancy with a Gaussian kernel of median width, permutation p-value
           (Gretton et al. 2012; all three as in Rabanser, Guennemann & Lipton 2019, "Failing loudly")

None needs labels. A detector is as good as its delay after a real change and its false alarms before it, which is what
`alarm_quality` says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from testbed.errors import DataError
from testbed.metrics.cumulative import Outcome
from testbed.types import Array, Float64, Ints


class AlarmQuality(NamedTuple):
    """Windows from the change to the first alarm (-1: never), and the share of windows before it with an alarm."""

    delay: int
    false_alarm_rate: float


def ks_drift(reference: Any, window: Any) -> Outcome:
    """BBSDs: largest KS distance over columns of outputs `[m, k]` and `[n, k]`, Bonferroni-corrected p-value.

    >>> rng = np.random.default_rng(0)
    >>> ks_drift(rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 1).p_value < 1e-6
    True
    """
    from scipy.stats import ks_2samp

    a, b = _tables(reference, window)
    found = [ks_2samp(a[:, k], b[:, k], method="asymp") for k in range(a.shape[1])]
    return Outcome(max(float(f.statistic) for f in found), min(1.0, a.shape[1] * min(float(f.pvalue) for f in found)))


def label_drift(reference: Any, window: Any) -> Outcome:
    """BBSDh: chi-squared distance of predicted classes (argmax of outputs) and its p-value.

    Classes are taken together, rarest first, until five of each group are expected on either side (Cochran 1954): with
    rare classes by themselves the law of chi-squared does not hold, and up to 12 % of tests at 5 % are false alarms.

    >>> label_drift(np.eye(2)[[0, 1] * 50], np.eye(2)[[0] * 100]).p_value < 1e-6
    True
    """
    from scipy.stats import chi2_contingency

    a, b = _tables(reference, window)
    counts = np.stack([np.bincount(t.argmax(axis=1), minlength=a.shape[1]) for t in (a, b)])
    counts = _grouped(counts)
    if counts.shape[1] < 2:
        return Outcome(0.0, 1.0)
    found = chi2_contingency(counts, correction=False)
    return Outcome(float(found.statistic), float(found.pvalue))


def _grouped(counts: Ints, least: float = 5.0) -> Ints:
    """Counts `[2, k]` with columns added up, rarest first, until each expects `least` in the smaller row."""
    totals, share = counts.sum(axis=0), counts.sum(axis=1).min() / counts.sum()
    groups: list[Ints] = []
    open_ = np.zeros(2, np.int64)
    for k in np.argsort(totals, kind="stable").tolist():
        open_ = open_ + counts[:, k]
        if open_.sum() * share >= least:
            groups.append(open_)
            open_ = np.zeros(2, np.int64)
    if groups:
        groups[-1] = groups[-1] + open_
    return np.stack(groups or [open_], axis=1)


def mmd_drift(reference: Any, window: Any, permutations: int = 200, seed: int = 0) -> Outcome:
    """Unbiased squared MMD of outputs or features `[m, d]` and `[n, d]`, and its permutation p-value.

    >>> rng = np.random.default_rng(0)
    >>> mmd_drift(rng.normal(size=(80, 2)), rng.normal(size=(80, 2)) + 1).p_value < 0.01
    True
    """
    a, b = _tables(reference, window)
    both = np.concatenate([a, b])
    square = np.einsum("nd,nd->n", both, both)
    distance = np.maximum(square[:, None] + square - 2 * both @ both.T, 0.0)
    width = float(np.median(distance[np.triu_indices(len(both), 1)])) or 1.0
    kernel = np.exp(-distance / width)
    np.fill_diagonal(kernel, 0.0)
    member = np.zeros(len(both))
    member[: len(a)] = 1
    rng = np.random.default_rng(seed)
    shuffled = np.array([rng.permutation(member) for _ in range(permutations)])
    value, null = _mmd(kernel, member[None])[0], _mmd(kernel, shuffled)
    return Outcome(float(value), float((1 + (null >= value).sum()) / (permutations + 1)))


def alarm_quality(p_values: Array, change: int, level: float = 0.05) -> AlarmQuality:
    """Delay and false alarm rate of a detector whose window t had p-value p_values[t], the change at window `change`.

    >>> alarm_quality(np.array([0.5, 0.01, 0.4, 0.2, 0.001]), change=3)
    AlarmQuality(delay=1, false_alarm_rate=0.3333333333333333)
    """
    alarms = np.asarray(p_values) < level
    after = np.flatnonzero(alarms[change:])
    return AlarmQuality(int(after[0]) if len(after) else -1, float(alarms[:change].mean()) if change else 0.0)


def _mmd(kernel: Float64, members: Float64) -> Float64:
    """Unbiased squared MMD for each 0/1 row of `members` `[r, m + n]`; the kernel's diagonal is 0."""
    others = 1 - members
    m, n = members[0].sum(), others[0].sum()
    inside = np.einsum("ri,ri->r", members @ kernel, members)
    outside = np.einsum("ri,ri->r", others @ kernel, others)
    across = np.einsum("ri,ri->r", members @ kernel, others)
    return np.asarray(inside / (m * (m - 1)) + outside / (n * (n - 1)) - 2 * across / (m * n))


def _tables(reference: Any, window: Any) -> tuple[Float64, Float64]:
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(window, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(
            f"drift: expected reference [m, d] and window [n, d] with m, n >= 2, got {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("drift: outputs must be finite")
    return a, b

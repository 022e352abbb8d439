"""Many tests at once: Holm's correction over the tests that can reject at all (Tarone 1990).

A test of few differing examples has a least p-value: 2^-5 where five predictions changed, however they changed. One
whose least p-value is above its share of the level can never reject, so it is left out before the correction and gets
no verdict, "too few to tell". The rule is Tarone's: the smallest q such that at most q tests have a least p-value of
.05/q or below; those are tested, with Holm's (1979) step-down correction over as many as they are. Which tests those
are depends on how many examples differ and not on how, so the chance of any false finding in the family stays at 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from testbed.types import Array, Float64

#: Chance of any false finding in a family.
ALPHA: Final = 0.05


class Corrected(NamedTuple):
    """`p` float64 `[m]`: corrected, NaN where not tested. `tested` bool `[m]`. `size`: how many were tested."""

    p: Float64
    tested: Array
    size: int


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


def corrected(p_values: Sequence[float], least: Sequence[float]) -> Corrected:
    """Holm after Tarone: `least` holds the smallest p-value that each test could have had.

    Three tests of which one could not fall below .5: the others are corrected as two.

    >>> found = corrected([0.01, 0.02, 0.5], [1e-9, 1e-9, 0.5])
    >>> found.p.round(6).tolist(), found.tested.tolist(), found.size
    ([0.02, 0.02, nan], [True, True, False], 2)
    """
    p, lowest = np.asarray(p_values, dtype=np.float64), np.asarray(least, dtype=np.float64)
    defined = ~np.isnan(p)
    tested = defined & (lowest <= ALPHA / divisor(lowest[defined]))
    return Corrected(holm(np.where(tested, p, np.nan).tolist()), tested, int(tested.sum()))


def divisor(least: Array) -> int:
    """Tarone's q: the smallest number such that at most q of the least p-values `[m]` are .05/q or below; at least 1.

    >>> divisor(np.array([1e-9, 1e-9, 0.02, 0.5]))
    3
    """
    ordered = np.sort(np.asarray(least, dtype=np.float64))
    q = 1
    while np.searchsorted(ordered, ALPHA / q, side="right") > q:
        q += 1
    return q

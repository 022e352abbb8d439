"""What a paired comparison could have shown: its power against a difference, and the smallest one it shows.

Accuracy: exact, by McNemar's mid-p test over every number of changed predictions that n examples can give. All else:
normal, with the standard error of the measured difference. "Shows" means with power 0.8 at the level that the family
leaves for one test.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from testbed.metrics.families import ALPHA
from testbed.types import Array

#: Power with which the smallest visible difference is seen.
POWER: Final = 0.8


def mcnemar_power(n: int, lost: float, gained: float, level: float = ALPHA) -> float:
    """Chance that McNemar's mid-p test rejects at `level`, where shares `lost` and `gained` of n predictions change.

    >>> round(mcnemar_power(300, 0.01, 0.06), 2), round(mcnemar_power(300, 0.05, 0.10), 2)
    (0.94, 0.62)
    """
    share = lost + gained
    if share <= 0:
        return 0.0
    half = 8 * math.sqrt(n * share * (1 - min(share, 1.0))) + 8
    m = np.arange(max(1, math.floor(n * share - half)), min(n, math.ceil(n * share + half)) + 1)
    most = _critical(m, level)
    tails = binom.cdf(most, m, lost / share) + binom.cdf(most, m, gained / share)
    return float(min(1.0, (binom.pmf(m, n, min(share, 1.0)) * np.where(most >= 0, tails, 0.0)).sum()))


@lru_cache(maxsize=4096)
def mcnemar_visible(n: int, differing: int, level: float = ALPHA) -> float:
    """Smallest change of accuracy seen with power 0.8 at `level` if as many predictions change as did, or just enough.

    Within 2 % of itself; NaN where even a change of every example is not seen.

    >>> round(mcnemar_visible(300, 21), 2), round(mcnemar_visible(300, 0), 2)
    (0.04, 0.02)
    """
    share = differing / n

    def seen(change: float) -> bool:
        both = max(share, change)
        return mcnemar_power(n, (both - change) / 2, (both + change) / 2, level) >= POWER

    high = min(1.0, normal_visible(math.sqrt(max(share, 1 / n) / n), level))
    while not seen(high):
        if high == 1.0:
            return math.nan
        high = min(1.0, 1.3 * high)
    low = high / 2
    while seen(low):
        low, high = low / 2, low
    while high > 1.02 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high


def normal_power(change: float, error: float, level: float = ALPHA) -> float:
    """Chance that a two-sided normal test rejects at `level` where the truth is `change`, with standard error `error`.

    >>> round(normal_power(2.8, 1.0), 2)
    0.8
    """
    if not error > 0:
        return math.nan
    edge, far = -float(ndtri(level / 2)), abs(change) / error
    return float(ndtr(far - edge) + ndtr(-far - edge))


def normal_visible(error: float, level: float = ALPHA) -> float:
    """Smallest change seen with power 0.8 at `level`; NaN where nothing differs, so that there is no error to go by.

    >>> round(normal_visible(0.01), 4)
    0.028
    """
    return (-float(ndtri(level / 2)) + float(ndtri(POWER))) * error if error > 0 else math.nan


def _critical(m: Array, level: float) -> Array:
    """Largest number of changes in the rarer direction, of `m`, at which the mid-p is at most `level`; -1: none."""
    start = binom.ppf(level / 2, m, 0.5).astype(np.int64) + 1
    found = np.full(len(m), -1)
    for k in (start - 3, start - 2, start - 1, start):
        sound = (k >= 0) & (2 * k < m)
        p = 2 * binom.cdf(k, m, 0.5) - binom.pmf(k, m, 0.5)
        found = np.where(sound & (p <= level), k, found)
    return found

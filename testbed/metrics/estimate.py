"""What every metric returns: a number with its interval, its convention and its n."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Estimate:
    """One measured number.

    value       the metric on the whole set
    low, high   ends of its 95 % interval unless `convention` names another level; NaN where none can be given
    convention  every choice that changes the number: binning, edges, orientation, treatment of zeros, kind of interval
    n           examples it was measured on
    flags       what to know about it, for the `flags` column of its row

    >>> Estimate(0.951, 0.944, 0.957, "top-1; wilson 95%", 5000)
    Estimate(value=0.951, low=0.944, high=0.957, convention='top-1; wilson 95%', n=5000)
    >>> print(Estimate(0.951, 0.944, 0.957, "top-1; wilson 95%", 5000))
    0.951 [0.944, 0.957] (n=5000; top-1; wilson 95%)
    """

    value: float
    low: float
    high: float
    convention: str
    n: int
    flags: str = field(default="", repr=False)

    def __str__(self) -> str:
        ends = "no interval" if math.isnan(self.low) else f"[{self.low:.4g}, {self.high:.4g}]"
        return f"{self.value:.4g} {ends} (n={self.n}; {self.convention})"

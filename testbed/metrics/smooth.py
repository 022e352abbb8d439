"""Smooth calibration error, smECE (Blasiok & Nakkiran 2024, "Smooth ECE: principled reliability diagrams").

The residuals correct - confidence, placed at their confidence on [0, 1], are smoothed by a Gaussian kernel with
reflecting ends, and the absolute value is integrated:

    smECE_s = integral over t of | 1/n sum_i K_s(t, c_i) (r_i - c_i) | dt,

and the bandwidth is the one that equals its own error, s = smECE_s, found by bisection (smECE_s falls as s grows).
No bins, and a consistent measure of the distance to calibration.

Smoothing with reflecting ends is diagonal in the cosine basis: coefficient j is multiplied by exp(-(pi j s)^2 / 2).
Confidences are spread linearly over a grid of 1,001 points, as the paper's discretisation of 1e-3.

Interval: 300 fixed draws of normal noise of each grid point's variance, smoothed at the bandwidth of the value. Lower
end: the value less the 97.5 % quantile of the noise, which counts with the sign of the curve where that is beyond two
deviations and in full elsewhere. Upper end: the value and a score interval of the signed noise. It is wide near 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from testbed.metrics.bootstrap import LEVEL, Draws, Interval
from testbed.metrics.estimate import Estimate
from testbed.metrics.inputs import probabilities, top_label
from testbed.metrics.resampled import Analytic, Measured
from testbed.types import Array, Float64, Paper

_GRID: Final = 1001
_NOISE: Final = 300
_Z: Final = 1.959963984540054
_WORDS: Final = "reflected Gaussian kernel, own bandwidth, top label"


def smooth_ece(p: Any, y: Any) -> float:
    """smECE of the top label of probabilities `[n, k]` against labels `[n]`, in [0, 1].

    >>> smooth_ece([[0.1, 0.9]] * 10, [1] * 10).__round__(2)
    0.1
    """
    values, hits = top_label(*probabilities(p, y, "smooth_ece"))
    return solve(_spread(values) @ (hits - values) / len(values))[0]


@dataclass(frozen=True)
class SmoothEce(Analytic):
    """smECE with an interval that covers; the bandwidth of the whole set is kept for it and for the resamples."""

    interval: ClassVar[Interval] = "basic"
    reference: ClassVar[Paper] = Paper(
        "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing",
        "Blasiok and Nakkiran",
        2024,
        "ICLR",
        "2309.12236",
    )

    def measure(self, probs: Any, labels: Any, draws: Draws) -> Measured:
        values, hits = top_label(*probabilities(probs, labels, "smooth_ece"))
        table = _spread(values)
        value, bandwidth = solve(table @ (hits - values) / len(values))
        sums = draws.sums(table.multiply(hits - values).T.tocsr()) / len(values)
        return Measured(value, np.abs(smoothed(sums, bandwidth)).sum(axis=-1), _WORDS)

    def estimate(self, probs: Any, labels: Any) -> Estimate:
        values, hits = top_label(*probabilities(probs, labels, "smooth_ece"))
        table, n = _spread(values), len(values)
        residual = table @ (hits - values) / n
        value, bandwidth = solve(residual)
        variance = table @ np.maximum((hits - values) ** 2, values * (1 - values)) / n**2
        low, high = noise_interval(value, smoothed(residual, bandwidth), variance, bandwidth, n, float(hits.mean()))
        return Estimate(value, low, high, f"{_WORDS}; noise bound {LEVEL:.0%}", n)


def noise_interval(
    value: float, curve: Float64, variance: Float64, bandwidth: float, n: int, accuracy: float
) -> tuple[float, float]:
    """The interval of smECE from its smoothed curve and the noise variance of the residual mass, `[grid]` each."""
    drawn = np.random.default_rng(0).normal(size=(_NOISE, _GRID)) * np.sqrt(variance)
    noise = smoothed(drawn, bandwidth)
    clear = np.abs(curve) > 2 * noise.std(axis=0)
    lifted = np.where(clear, np.sign(curve) * noise, np.abs(noise)).sum(axis=1)
    low = value - float(np.quantile(lifted, (1 + LEVEL) / 2))
    signed = float((np.sign(curve) * noise).sum(axis=1).var())
    over = _Z * np.sqrt(signed + _Z * _Z / (4 * n * n)) + _Z * _Z * abs(1 - 2 * accuracy) / (2 * n)
    return max(0.0, min(low, value)), min(1.0, value + float(over))


def solve(residual: Float64) -> tuple[float, float]:
    """smECE and its bandwidth of residual mass `[grid]` (already divided by n)."""
    low, high = 1e-4, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.abs(smoothed(residual, middle)).sum() < middle:
            high = middle
        else:
            low = middle
    return float(np.abs(smoothed(residual, high)).sum()), high


def smoothed(residual: Array, bandwidth: float) -> Float64:
    """Residual mass `[..., grid]` after a reflected Gaussian of this bandwidth (in units of confidence)."""
    from scipy.fft import dct, idct

    j = np.arange(residual.shape[-1])
    return np.asarray(idct(dct(residual, axis=-1) * np.exp(-((np.pi * j * bandwidth) ** 2) / 2), axis=-1))


def _spread(values: Float64) -> Any:
    """Sparse `[grid, n]`: each confidence's unit mass on its two neighbouring grid points."""
    from scipy import sparse

    at = np.clip(values, 0, 1) * (_GRID - 1)
    left = np.minimum(at.astype(np.int64), _GRID - 2)
    part = at - left
    n = np.arange(len(values))
    return sparse.csr_array(
        (np.concatenate([1 - part, part]), (np.concatenate([left, left + 1]), np.tile(n, 2))),
        shape=(_GRID, len(values)),
    )

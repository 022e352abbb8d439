"""Motion blur of ImageNet-C: ImageMagick's one-sided streak (Hendrycks and Dietterich 2019).

With angle a ~ U(-45, 45) degrees, n = 2 round(radius) + 1 taps and weights w_i ~ exp(-i^2 / (2 sigma^2)), i = 0..n-1,
normalised to 1: x'(y, x) = floor(sum_i w_i x(y + ceil(i sin a - 0.5), x + ceil(i cos a - 0.5))), edges replicated.
Quirks kept in compat mode: the kernel is one-sided, so the image also moves by about 0.8 sigma pixels, and the result
is cut to uint8. Without compat the taps run on both sides, i = -radius..radius, and the result is rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .tables import Setting


@dataclass(frozen=True)
class MotionBlur(Corruption):
    """Motion blur along a random direction within 45 degrees of the horizontal."""

    name = "motion_blur"
    zero = {"radius": 0.0, "sigma": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """angle: degrees, uniform on [-45, 45)."""
        return {"angle": rng.uniform((), -45.0, 45.0, name="angle")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """The streak along each image's own angle."""
        from . import kernels

        if at["sigma"] == 0:
            return images.copy()
        radius = at.whole("radius")
        weights, offsets = streak(np.asarray(draws["angle"], np.float64), radius, at["sigma"], one_sided=self.compat)
        return kernels.taps(images, weights, offsets, 1e-3 if self.compat else 0.5)


def streak(
    degrees: NDArray[np.float64], radius: int, sigma: float, *, one_sided: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Weights float32 `[taps]` and offsets (dy, dx) int64 `[n taps 2]` of the streaks at these angles.

    >>> weights, offsets = streak(np.array([0.0]), 1, 1.0, one_sided=True)
    >>> weights.round(3), offsets[0].tolist()
    (array([0.574, 0.348, 0.078], dtype=float32), [[0, 0], [0, 1], [0, 2]])
    """
    steps = np.arange(2 * radius + 1) - (0 if one_sided else radius)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    radians = degrees[:, None] * (math.pi / 180)
    offsets = np.stack([np.ceil(steps * np.sin(radians) - 0.5), np.ceil(steps * np.cos(radians) - 0.5)], axis=-1)
    return (weights / weights.sum()).astype(np.float32), offsets.astype(np.int64)

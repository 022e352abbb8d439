"""How far a shifted image is from the clean one: PSNR and SSIM, an image at a time.

PSNR = 10 log10(255^2 / mean squared difference) in dB. SSIM (Wang et al. 2004, "Image quality assessment: from error
visibility to structural similarity", eq. 13) with a uniform 7 x 7 window (smaller for smaller images), sample
covariances, K1 = 0.01, K2 = 0.03, mean over the positions where the window lies inside the image and over channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Bytes


def psnr(clean: Bytes, shifted: Bytes) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB, float64 `[n]`, larger = closer; inf where nothing changed.

    >>> psnr(np.zeros((1, 1, 2, 1), np.uint8), np.array([[[[0], [255]]]], np.uint8)).round(4)
    array([3.0103])
    """
    squares = ((clean.astype(np.int64) - shifted) ** 2).reshape(len(clean), -1)
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / squares.mean(axis=1)))


def ssim(clean: Bytes, shifted: Bytes) -> NDArray[np.float64]:
    """Structural similarity, float64 `[n]` in [-1, 1], 1 = equal.

    >>> image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    >>> ssim(image, image), ssim(image, image[:, ::-1]).round(3)
    (array([1.]), array([-0.749]))
    """
    from scipy.ndimage import uniform_filter

    sides = [min(7, size) for size in clean.shape[1:3]]
    window = (1, *sides, 1)
    inside = tuple(slice(s // 2, size - (s - 1) // 2) for s, size in zip(sides, clean.shape[1:3], strict=True))
    points = sides[0] * sides[1]

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(uniform_filter(values, window)[:, inside[0], inside[1]])

    x, y = clean.astype(np.float64), shifted.astype(np.float64)
    mx, my = mean(x), mean(y)
    scale = points / max(points - 1, 1)
    vx, vy, vxy = (scale * (mean(a * b) - mean(a) * mean(b)) for a, b in ((x, x), (y, y), (x, y)))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))

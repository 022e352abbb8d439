"""Small linear filters that several shifts share: Gaussian weights, Gaussian blur, box zoom about the centre.

OpenCV does the work where it is fastest; it is imported when first used.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def gaussian_weights(sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """Normalised Gaussian weights of radius int(truncate sigma + 0.5), as scikit-image and SciPy cut them.

    >>> gaussian_weights(0.4).round(4)
    array([0.    , 0.0404, 0.9192, 0.0404, 0.    ])
    """
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return np.asarray(weights / weights.sum())


def gaussian_blur(plane: NDArray[np.uint8] | Float32, sigma: float, sideways: bool = True) -> Float32:
    """One image `[h w]` or `[h w c]` blurred, edges replicated, float32 on the scale of the input.

    sideways   off, only the columns are blurred
    """
    import cv2

    weights = gaussian_weights(sigma).astype(np.float32)
    across = weights if sideways else np.ones(1, np.float32)
    blurred: Float32 = cv2.sepFilter2D(plane, cv2.CV_32F, across, weights, borderType=cv2.BORDER_REPLICATE)
    return blurred.reshape(plane.shape)


@lru_cache(maxsize=32)
def smoothing_matrix(size: int, sigma: float, truncate: float) -> Float32:
    """Gaussian smoothing of `size` points with mirrored edges (d c b a | a b c d | d c b a) as a matrix `[size size]`.

    It costs the same for any sigma, also for those far above the size that the published elastic tables hold.

    >>> smoothing_matrix(3, 1.0, 3.0).sum(axis=1).round(5)
    array([1., 1., 1.], dtype=float32)
    """
    weights = gaussian_weights(sigma, truncate)
    radius = len(weights) // 2
    matrix = np.zeros((size, size))
    for row in range(size):
        folded = np.arange(row - radius, row + radius + 1) % (2 * size)
        np.add.at(matrix[row], np.where(folded < size, folded, 2 * size - 1 - folded), weights)
    return matrix.astype(np.float32)


@lru_cache(maxsize=256)
def zoom_line(size: int, factor: float) -> tuple[NDArray[np.int64], Float32]:
    """Where an axis is read when its centre is magnified: the lower neighbours, and the weights of the upper ones.

    The centre crop has ceil(size / factor) pixels, is stretched to round(crop factor) with the corner pixels kept in
    place (order-1 zoom), and is trimmed to `size` about the centre.

    >>> lower, upper = zoom_line(4, 2.0)
    >>> (lower + upper).round(3).tolist()
    [1.0, 1.333, 1.667, 2.0]
    """
    crop = math.ceil(size / factor)
    stretched = max(size, round(crop * factor))
    first, trim = (size - crop) // 2, (stretched - size) // 2
    at = first + (np.arange(size) + trim) * ((crop - 1) / (stretched - 1) if stretched > 1 else 0.0)
    lower = np.clip(np.floor(at), 0, max(size - 2, 0)).astype(np.int64)
    return lower, (at - lower).astype(np.float32)

"""The blurs of ImageNet-C with a fixed kernel: Gaussian, defocus and zoom; and glass (Hendrycks and Dietterich 2019).

    gaussian_blur  normal kernel of radius int(4 sigma + 0.5), edges replicated
    defocus_blur   disk of `radius` on a 17 x 17 grid (a (2r+1)^2 one above radius 8), normalised, then smoothed by a
                   3 x 3 (5 x 5) normal kernel of sigma `alias`; edges mirrored without repeating the edge pixel
    zoom_blur      mean of the image and of `count` magnifications 1, 1 + step, 1 + 2 step, ... about its centre
    glass_blur     Gaussian blur, cut to uint8, then `iterations` passes in which each pixel takes a neighbour's
    value at
                   most `delta` away, then Gaussian blur again

Quirks kept in compat mode: a defocus kernel of radius 8 or more loses its normalisation in the smoothing (radius
10 makes
the image 1 % brighter); glass blur copies the neighbour over the pixel instead of swapping the two, and its offsets run
over -delta..delta-1; MNIST-C's does swap, and leaves every second pixel alone. MNIST-C's Gaussian and glass blur of a
grey image blur the columns alone, because its code has the last axis, the width, taken for channels. Without compat
kernels sum to 1, pixels swap, and both axes are blurred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .filters import gaussian_blur, gaussian_weights, zoom_line
from .tables import Setting

#: Keeps a flat area at its value when float32 sums are cut to uint8.
EDGE = 1e-3

#: Pixels up to which zoom blur is one sparse matrix; above it would be large, and two passes are as fast.
SMALL = 64 * 64

#: Passes that glass blur makes at most.
PASSES = 3


@dataclass(frozen=True)
class GaussianBlur(Corruption):
    """Blur by a normal kernel."""

    name = "gaussian_blur"
    version = 2
    zero = {"sigma": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """The blurred images."""
        half = EDGE if self.compat else 0.5
        out, sideways = np.empty_like(images), not columns_alone(images, at, self.compat)
        for image, into in zip(images, out, strict=True):
            blurred = gaussian_blur(image, at["sigma"], sideways)
            blurred += np.float32(half)
            np.minimum(blurred, 255, out=blurred)
            into[...] = blurred
        return out


def columns_alone(images: Bytes, at: Setting, compat: bool) -> bool:
    """Whether these are grey images under MNIST-C's parameters and quirks: it blurs them along axis 0 and no other."""
    return compat and at.taken == "mnist28" and images.shape[3] == 1


@dataclass(frozen=True)
class DefocusBlur(Corruption):
    """Blur by a disk: a lens out of focus."""

    name = "defocus_blur"
    zero = {"radius": 0.0, "alias": 0.0}  # noqa: RUF012

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """The blurred images."""
        import cv2

        kernel = disk(at["radius"], at["alias"], normalised=not self.compat)
        half = EDGE if self.compat else 0.5
        out = np.empty_like(images)
        for image, into in zip(images, out, strict=True):
            plane = image.astype(np.float32)  # OpenCV's way from bytes to floats is several times slower
            blurred = cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REFLECT_101).reshape(image.shape)
            blurred += np.float32(half)
            np.clip(blurred, 0, 255, out=blurred)
            into[...] = blurred
        return out


def disk(radius: float, alias: float, *, normalised: bool) -> NDArray[np.float32]:
    """The defocus kernel, cut to the square that holds all of it.

    >>> round(float(disk(10, 0.5, normalised=False).sum()), 4), disk(1, 0.1, normalised=False).shape
    (1.0108, (3, 3))
    """
    import cv2

    reach = 8 if radius <= 8 else math.ceil(radius)
    line = np.arange(-reach, reach + 1)
    kernel = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float32)
    kernel /= kernel.sum()
    if alias > 0:
        size = 3 if radius <= 8 else 5
        kernel = cv2.GaussianBlur(kernel, (size, size), sigmaX=alias)
    if normalised:
        kernel /= kernel.sum()
    used = int(np.abs(line)[kernel.sum(axis=0) > 1e-9].max())
    return kernel[reach - used : reach + used + 1, reach - used : reach + used + 1]


@dataclass(frozen=True)
class ZoomBlur(Corruption):
    """Blur by moving towards the scene."""

    name = "zoom_blur"
    zero = {"count": 0.0}  # noqa: RUF012

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """(x + sum of the magnified images) / (count + 1)."""
        from . import kernels

        stride = (
            1 + at["step"]
        ) - 1  # as np.arange counts: 1 + 25 (1.01 - 1) lies above 1.25, which rounds to a pixel more
        factors = [1 + stride * k for k in range(at.whole("count"))]
        if not factors:
            return images.copy()
        half = EDGE if self.compat else 0.5
        if math.prod(images.shape[1:3]) <= SMALL:
            return operated(images, zoom_operator(images.shape[1], images.shape[2], tuple(factors)), half)
        rows, columns = ([zoom_line(size, z) for z in factors] for size in images.shape[1:3])
        lower_y, upper_y = np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
        lower_x, upper_x = np.stack([c[0] for c in columns]), np.stack([c[1] for c in columns])
        return kernels.zoom_mean(images, lower_y, upper_y, lower_x, upper_x, half)


@lru_cache(maxsize=16)
def zoom_operator(height: int, width: int, factors: tuple[float, ...]) -> Any:
    """Zoom blur as one sparse matrix `[h w, h w]` (CSR, float32); its rows sum to 1.

    >>> zoom_operator(4, 4, (1.0, 2.0)).sum(axis=1).round(5).min()
    np.float32(1.0)
    """
    from scipy import sparse

    total = sparse.identity(height * width, dtype=np.float32, format="csr")
    for factor in factors:
        sides = []
        for size in (height, width):
            lower, upper = zoom_line(size, factor)
            ends = np.stack([lower, np.minimum(lower + 1, size - 1)])
            at = (np.tile(np.arange(size), 2), ends.reshape(-1))
            sides.append(sparse.csr_matrix((np.concatenate([1 - upper, upper]), at), shape=(size, size)))
        total = total + sparse.kron(*sides, format="csr")
    return (total / np.float32(len(factors) + 1)).tocsr().astype(np.float32)


def operated(images: Bytes, operator: Any, half: float) -> Bytes:
    """A linear operator on the pixels of each channel of each image."""
    n, h, w, c = images.shape
    columns = images.transpose(1, 2, 0, 3).reshape(h * w, n * c).astype(np.float32)
    values = operator @ columns
    values += np.float32(half)
    np.minimum(values, 255, out=values)
    return np.ascontiguousarray(values.astype(np.uint8).reshape(h, w, n, c).transpose(2, 0, 1, 3))


@dataclass(frozen=True)
class GlassBlur(Corruption):
    """Frosted glass: pixels shuffled within a small window, between two Gaussian blurs."""

    name = "glass_blur"
    version = 2
    zero = {"sigma": 0.0, "delta": 0.0, "iterations": 0.0}  # noqa: RUF012

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """offset: uniform on [0, 1), for each pass and pixel a row and a column offset."""
        return {"offset": rng.uniform((PASSES, *shape[:2], 2), name="offset")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Blur, shuffle, blur."""
        from . import kernels

        passes = min(at.whole("iterations"), PASSES)
        mnist, half = at.taken == "mnist28", 0.0 if self.compat else 0.5
        weights = gaussian_weights(at["sigma"])
        weights = weights[len(weights) // 2 :]
        sideways = np.ones(1) if columns_alone(images, at, self.compat) else weights
        blurred = kernels.separable(images, weights, sideways, half)
        offsets = np.asarray(draws["offset"], np.float32)
        kernels.shuffle(blurred, offsets, passes, at.whole("delta"), mnist or not self.compat, mnist)
        return kernels.separable(blurred, weights, sideways, half)

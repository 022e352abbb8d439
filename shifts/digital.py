"""Pixelation and JPEG compression of ImageNet-C (Hendrycks and Dietterich 2019), exact for the same Pillow and libjpeg.

    pixelate          box filter down to int(fraction h) x int(fraction w), box filter up again
    jpeg_compression  JPEG at `quality` with 4:2:0 chroma, decoded again; also a natural shift: re-coding

Images of 1 or 3 channels are coded as grey or colour, others one channel at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from testbed.types import Ints

from .base import Bytes, Corruption, Draws
from .tables import Setting


@dataclass(frozen=True)
class Pixelate(Corruption):
    """A coarser grid of pixels."""

    name = "pixelate"
    zero = {"fraction": 1.0}  # noqa: RUF012 - a ClassVar of the base

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Box filter down and up."""
        from . import pixels

        height, width = images.shape[1:3]
        rows, columns = (box_line(size, max(1, int(size * at["fraction"]))) for size in (height, width))
        return pixels.pixelated(images, *rows, *columns)


@lru_cache(maxsize=64)
def box_line(size: int, small: int) -> tuple[Ints, NDArray[np.int32], Ints]:
    """Pillow's box filter along an axis from `size` to `small` points, and back.

    Returns the first point of each small point, int64 `[small]`, its weights, int32 `[small taps]` in units of 2^-22 as
    Pillow rounds them, and the small point that each point shows, int64 `[size]`. A window that would reach beyond the
    end begins earlier, with weights of 0.

    >>> first, weights, back = box_line(4, 2)
    >>> first.tolist(), (weights / 2**22).tolist(), back.tolist()
    ([0, 1], [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]], [0, 0, 1, 1])
    """
    scale = size / small
    reach = 0.5 * max(scale, 1.0)
    taps = math.ceil(reach) * 2 + 1
    first, weights = np.zeros(small, np.int64), np.zeros((small, taps), np.int64)
    for at in range(small):
        centre = (at + 0.5) * scale
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        offset = (np.arange(low, high) - centre + 0.5) / max(scale, 1.0)
        inside = ((offset > -0.5) & (offset <= 0.5)).astype(np.float64)
        first[at] = min(low, size - taps) if size >= taps else 0
        shares = inside / inside.sum() * 2**22
        weights[at, low - first[at] : high - first[at]] = np.floor(shares + 0.5).astype(np.int64)
    back = np.floor((np.arange(size) + 0.5) * (small / size)).astype(np.int64)
    used = min(int(np.flatnonzero(weights.any(axis=0)).max()) + 1, size)
    return first, np.ascontiguousarray(weights[:, :used], dtype=np.int32), back


@dataclass(frozen=True)
class JpegCompression(Corruption):
    """Loss of detail and block edges by JPEG.

    quality  the JPEG quality itself, in 1..100, in the table's stead; then severities below 1 mix the coded image in
    """

    quality: Annotated[int, Interval(ge=0, le=100)] | None = None

    name = "jpeg_compression"

    def setting(self, shape: tuple[int, ...]) -> Setting:
        """The quality in force."""
        if self.quality is None:
            return super().setting(shape)
        return Setting({"quality": float(self.quality)}, "", min(self.severity, 1.0))

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Each image coded and decoded."""
        quality = min(max(at.whole("quality"), 1), 100)
        return each_picture(images, lambda picture: recoded(picture, quality))


def recoded(picture: Bytes, quality: int) -> Bytes:
    """One picture `[h w]` or `[h w 3]` (RGB) through JPEG."""
    import cv2

    grey = picture.ndim == 2
    given = picture if grey else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, coded = cv2.imencode(".jpg", given, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR))
    return decoded if grey else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def each_picture(images: Bytes, change: Callable[[Bytes], Bytes]) -> Bytes:
    """`change` on every image as colour `[h w 3]` where it has 3 channels, else on each channel `[h w]`."""
    out = np.empty_like(images)
    for image, into in zip(images, out, strict=True):
        if image.shape[2] == 3:
            into[...] = change(image)
        else:
            for channel in range(image.shape[2]):
                into[:, :, channel] = change(np.ascontiguousarray(image[:, :, channel]))
    return out

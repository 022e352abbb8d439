"""Pixelation and JPEG compression of ImageNet-C (Hendrycks and Dietterich 2019), exact for the same Pillow and libjpeg.

    pixelate          box filter down to int(fraction h) x int(fraction w), box filter up again
    jpeg_compression  JPEG at `quality` with 4:2:0 chroma, decoded again; also a natural shift: re-coding

Images of 1 or 3 channels are coded as grey or colour, others one channel at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .base import Bytes, Corruption, Draws
from .tables import Setting


@dataclass(frozen=True)
class Pixelate(Corruption):
    """A coarser grid of pixels."""

    name = "pixelate"
    zero = {"fraction": 1.0}  # noqa: RUF012 - a ClassVar of the base

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Box filter down and up."""
        height, width = images.shape[1:3]
        small = (max(1, int(width * at["fraction"])), max(1, int(height * at["fraction"])))
        return each_picture(images, lambda picture: boxed(picture, small))


def boxed(picture: Bytes, small: tuple[int, int]) -> Bytes:
    """One picture `[h w]` or `[h w 3]` through a box filter to `small` (width, height) and back."""
    from PIL import Image

    whole = Image.fromarray(picture)
    return np.asarray(whole.resize(small, Image.Resampling.BOX).resize(whole.size, Image.Resampling.BOX))


@dataclass(frozen=True)
class JpegCompression(Corruption):
    """Loss of detail and block edges by JPEG.

    quality  the JPEG quality itself, in 1..100, in the table's stead; then severities below 1 mix the coded image in
    """

    quality: int | None = None

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
    _, coded = cv2.imencode(".jpg", picture if grey else picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR))
    return decoded if grey else decoded[:, :, ::-1]


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

"""The strokes and edges of MNIST-C: stripe, dotted_line, zigzag and canny_edges (Mu and Gilmer 2019).

    stripe       the left and the right quarter of the columns inverted
    dotted_line  a line of dashes from a random row at the left to a random row at the right
    zigzag       a zigzag of period 4 and height 2 along such a line
    canny_edges  the edges of Canny (1986) with sigma 1 and thresholds 0.1 and 0.2, white on black

A line has the profile 1 + ln(1 - d / 2.3), d the vertical distance in pixels, and is added to the image. Lengths
are pixels
at 28 x 28 and grow with the image. One level each, at severity 3; milder ones mix the clean image in, and stronger ones
are the same. Several channels get the same stroke; edges are found in each. Quirk kept: the zigzag's last stroke
ends where the script's mistake puts it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array, Paper

from .base import MNIST_C, Bytes, Corruption, Draws, to_bytes
from .tables import Setting

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Stripe(Corruption):
    """The outer quarters of the columns, inverted.

    >>> image = np.zeros((1, 1, 8, 1), np.uint8)
    >>> Stripe().change(image, {}, Stripe().setting((28, 28, 1)))[0, 0, :, 0].tolist()
    [255, 255, 0, 0, 0, 0, 255, 255]
    """

    name = "stripe"
    reference: ClassVar[Paper] = MNIST_C

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """255 - x there."""
        out, width = images.copy(), images.shape[2]
        outer = np.abs(np.arange(width) * 2 - (width - 1)) >= width / 2
        out[:, :, outer] = 255 - out[:, :, outer]
        return out


@dataclass(frozen=True)
class DottedLine(Corruption):
    """A dashed white line across the image."""

    name = "dotted_line"
    reference: ClassVar[Paper] = MNIST_C

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """row: 0..26, `[n 2]`: where the line starts and ends, in rows of a 28-pixel image."""
        return {"row": rng.integers(0, 27, (2,), name="row")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + line."""
        rows, columns = grid(images.shape[1]), grid(images.shape[2])
        dashes = np.floor(columns / 2) % 2 == 1
        lines = np.stack([stroke(rows, columns, 0, a, 27, b) * dashes for a, b in np.asarray(draws["row"], np.float64)])
        return added(images, lines, self.compat)


@dataclass(frozen=True)
class Zigzag(Corruption):
    """A white zigzag across the image."""

    name = "zigzag"
    reference: ClassVar[Paper] = MNIST_C

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """row: 0..26, where it starts; slope: -5..4, how many rows further it ends."""
        return {"row": rng.integers(0, 27, name="row"), "slope": rng.integers(-5, 5, name="slope")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + strokes."""
        rows, columns = grid(images.shape[1]), grid(images.shape[2])
        drawn = []
        for row, slope in zip(draws["row"].tolist(), draws["slope"].tolist(), strict=True):
            corners = zigzag_corners(row, slope)
            drawn.append(sum(stroke(rows, columns, a[0], a[1], b[0], b[1]) for a, b in pairwise(corners)))
        return added(images, np.stack(drawn), self.compat)


def zigzag_corners(row: float, slope: float) -> list[tuple[float, float]]:
    """The corners (column, row) of MNIST-C's zigzag from (2, row) towards (25, row + slope).

    >>> [(round(c, 1), round(r, 1)) for c, r in zigzag_corners(10, 0)][:4]
    [(2.0, 10.0), (4.0, 12.0), (8.0, 8.0), (12.0, 12.0)]
    """
    half, height, angle = 2.0, 2.0, math.atan2(slope, 23)
    length = 23 / math.cos(angle)
    along = [(0.0, 0.0)]
    for i in range(int((length - half) // (2 * half)) + 1):
        along.append(((2 * i + 1) * half, (-1) ** i * height))
    whole = 2 * half * (length // (2 * half))
    if length != whole:
        along.append((length, along[-1][1] / (2 * (length - whole))))
    cos, sin = math.cos(angle), math.sin(angle)
    return [(2 + cos * c - sin * r, row + sin * c + cos * r) for c, r in along]


def grid(size: int) -> Float64:
    """Centres of `size` pixels in the coordinates of 28."""
    return np.asarray((np.arange(size) + 0.5) * (28 / size) - 0.5, np.float64)


def stroke(rows: Float64, columns: Float64, c0: float, r0: float, c1: float, r1: float) -> Float64:
    """Brightness `[rows columns]` in [0, 1] of a line from (c0, r0) to (c1, r1); nothing where it would be vertical."""
    if c0 == c1:
        return np.zeros((len(rows), len(columns)))
    line = (r1 - r0) / (c1 - c0) * (columns - c0) + r0
    distance = np.minimum(np.abs(rows[:, None] - line), 2.3 - 1e-10)
    bright = np.maximum(np.log(1 - distance / 2.3) + 1, 0)
    bright[:, (columns < math.floor(c0)) | (columns >= math.ceil(c1))] = 0
    return np.asarray(bright)


def added(images: Bytes, lines: Float64, compat: bool) -> Bytes:
    """The images plus white lines `[n h w]`."""
    return to_bytes((images + 255 * lines[..., None]).astype(np.float32), compat)


@dataclass(frozen=True)
class CannyEdges(Corruption):
    """The image replaced by its edges."""

    name = "canny_edges"
    reference: ClassVar[Paper] = MNIST_C

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """255 on an edge, 0 elsewhere."""
        planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3])
        found = np.stack([canny(plane / 255) for plane in planes])
        n, h, w, c = images.shape
        return np.ascontiguousarray(found.reshape(n, c, h, w).transpose(0, 2, 3, 1)).astype(np.uint8) * np.uint8(255)


def canny(plane: Float64) -> NDArray[np.bool_]:
    """Canny's edges of a plane `[h w]` in [0, 1]: smoothing, Sobel, thinning, hysteresis; never in the outer pixels."""
    from scipy import ndimage

    from . import kernels

    inside = ndimage.gaussian_filter(np.ones_like(plane), 1.0, mode="constant")
    smooth = ndimage.gaussian_filter(plane, 1.0, mode="constant") / (inside + np.finfo(float).eps)
    down, across = ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1)
    ridge = kernels.thinned(down, across, np.hypot(down, across), 0.1)
    labels, count = ndimage.label(ridge > 0, np.ones((3, 3)))
    strong = np.zeros(count + 1, bool)
    strong[np.unique(labels[ridge >= 0.2])] = True
    strong[0] = False
    return np.asarray(strong[labels])

"""The warps of C-bar (Mintun et al. 2021; see `shifts.cbar`); p is a pixel (row, column), reads outside are black.

    pinch_and_twirl                  3 x 3 discs (5 x 5 from 128 px): read at distance d sin(pi d / 2)^-a and
    turned by b (1 - d)^2,
                                     d relative to the radius, a = 0.04 level + 0.1, b = +- pi level / 20
    ripple                           read at p + 0.0025 level size sin(2 pi p / wavelength + phase)
    circular_motion_blur             mean of 21 rotations within +- 1.5 level degrees, weights exp(-2 t^2)
    transverse_chromatic_abberation  channels magnified by 1, 1 + s / 2 and 1 + s in random order, s = level / 20
    caustic_refraction               read through, and lit by, the pattern of light under water

Quirk kept: the magnifications use cubic B-splines without their prefilter, so every channel is also blurred. Accepted
trade-off: each disc of pinch_and_twirl reads the clean image, in the script it reads what the discs before it left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Draws, to_bytes
from .blur import SMALL
from .cbar import CBar, Float64, grid, per_image, side
from .tables import Setting

#: Rotations that circular_motion_blur averages.
TURNS = 21

#: Discs along an axis at most.
DISCS = 5


def bilinear(images: Array, rows: Float64, columns: Float64) -> Float64:
    """float64 `[n h w c]`: images read at rows, columns `[n h w]`, black outside."""
    n, h, w, _ = images.shape
    image = np.arange(n)[:, None, None]
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    total = np.zeros((*rows.shape, images.shape[3]))
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = top + dy, left + dx
            inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
            weight = np.abs(1 - dy - (rows - top)) * np.abs(1 - dx - (columns - left)) * inside
            total += weight[..., None] * images[image, np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)]
    return total


@dataclass(frozen=True)
class PinchAndTwirl(CBar):
    """Discs pinched and turned."""

    name = "pinch_and_twirl"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """way: -1 or 1, `[n 5 5]`: which way each disc turns."""
        return {"way": 2 * rng.integers(0, 2, (DISCS, DISCS), name="way") - 1}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Read along the twirl."""
        h, w = images.shape[1:3]
        discs = DISCS if side((h, w)) >= 128 else 3
        y, x = grid((h, w))
        high, wide = max(h // discs, 1), max(w // discs, 1)
        radius = min(high, wide) / 2
        row, column = (np.minimum(a // size, discs - 1) for a, size in ((y, high), (x, wide)))
        dy, dx = y - (row * high + high / 2), x - (column * wide + wide / 2)
        near = np.hypot(dy, dx) / radius
        moved = (near <= 1) & (near * radius >= 5e-4) & (y < high * discs) & (x < wide * discs)
        inside = np.where(moved, near, 1.0)
        stretch = np.sin(math.pi / 2 * inside) ** -(0.04 * at["level"] + 0.1)
        way = np.asarray(draws["way"])[:, row.astype(int)[0], column.astype(int)[0]]
        turn = way * (math.pi / 20 * at["level"]) * (1 - inside) ** 2
        cos, sin = np.cos(turn), np.sin(turn)
        rows = np.where(moved, y - dy + stretch * (dy * cos - dx * sin), y)
        columns = np.where(moved, x - dx + stretch * (dy * sin + dx * cos), x)
        return to_bytes(bilinear(images, rows, columns).astype(np.float32), self.compat)


@dataclass(frozen=True)
class Ripple(CBar):
    """Waves along both axes."""

    name = "ripple"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """wave: uniform, `[n 2 2]`: wavelength and phase, for rows and for columns."""
        return {"wave": rng.uniform((2, 2), name="wave")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Read along the waves."""
        wave, size = np.asarray(draws["wave"], np.float64), side(images.shape[1:3])
        height, moves = 0.0025 * at["level"] * size, []
        for axis, a in enumerate(grid(images.shape[1:])):
            turns = a / per_image((0.1 + 0.2 * wave[:, axis, 0]) * size) + per_image(wave[:, axis, 1])
            moves.append(a + height * np.sin(2 * math.pi * turns))
        rows, columns = moves
        shape = images.shape[:3]
        moved = bilinear(images, np.broadcast_to(rows, shape), np.broadcast_to(columns, shape))
        return to_bytes(moved.astype(np.float32), self.compat)


@dataclass(frozen=True)
class CircularMotionBlur(CBar):
    """Rotation during exposure."""

    name = "circular_motion_blur"
    version = 2

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Weighted mean of rotations."""
        from scipy import ndimage

        n, h, w, c = images.shape
        degrees = 1.5 * at["level"]
        unit = images.astype(np.float32) / 255
        if h * w <= SMALL and min(h, w) > 1:
            splines = [ndimage.spline_filter1d(np.eye(size), 3, axis=0) for size in (h, w)]
            planes = unit.transpose(0, 3, 1, 2).reshape(-1, h, w).astype(np.float64)
            smooth = np.stack([splines[0] @ plane @ splines[1].T for plane in planes])
            turned = turning(h, w, degrees) @ smooth.reshape(n * c, h * w).T
            mean = turned.T.reshape(n, c, h, w).transpose(0, 2, 3, 1)
        else:
            mean = turned_mean(unit, degrees)
        return to_bytes((255 * mean).astype(np.float32), self.compat)


def turned_mean(unit: Array, degrees: float) -> Array:
    """float32 `[n h w c]`: what `turning` gives, without its matrix, whose size and making cost more than the image."""
    from scipy import ndimage

    from .paths import turn_mean

    angles = [(math.radians(t * degrees), share) for t, share in turn_shares()]
    turns = np.array([[math.sin(angle), math.cos(angle), share] for angle, share in angles])
    n, h, w, c = unit.shape
    planes = unit.transpose(1, 2, 0, 3).reshape(h, w, n * c)
    for axis in (0, 1):
        planes = ndimage.spline_filter1d(planes, 3, axis=axis, output=np.float64)
    out = np.empty(planes.shape, np.float32)
    turn_mean(np.pad(planes.astype(np.float32), ((2, 2), (2, 2), (0, 0)), "reflect"), turns, out)
    return out.reshape(h, w, n, c).transpose(2, 0, 1, 3)


def turn_shares() -> list[tuple[float, float]]:
    """(t, weight) of the rotations by t times the largest angle."""
    steps = np.linspace(-1, 1, TURNS)
    weights = np.exp(-2 * steps**2)
    return list(zip(steps.tolist(), (weights / weights.sum()).tolist(), strict=True))


@lru_cache(maxsize=8)
def turning(height: int, width: int, degrees: float) -> Any:
    """The mean of rotations as one sparse matrix `[h w, h w]` on spline coefficients (SciPy's `rotate` of order 3)."""
    from scipy import sparse

    y, x = (a.reshape(-1) for a in np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    cy, cx = (height - 1) / 2, (width - 1) / 2
    total = sparse.csr_matrix((height * width, height * width))
    for t, share in turn_shares():
        angle = math.radians(t * degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        rows, columns = cos * (y - cy) + sin * (x - cx) + cy, cos * (x - cx) - sin * (y - cy) + cx
        seen = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
        for i in range(4):
            for j in range(4):
                (yy, wy), (xx, wx) = spline_tap(rows, i, height), spline_tap(columns, j, width)
                entries = (share * wy * wx * seen, (y * width + x, yy * width + xx))
                total = total + sparse.csr_matrix(entries, shape=total.shape)
    return total


def spline_tap(at: Float64, tap: int, size: int) -> tuple[Array, Float64]:
    """Index (mirrored into 0..size-1) and cubic B-spline weight of one of the four coefficients about `at`.

    >>> [round(float(spline_tap(np.array([5.0]), tap, 9)[1][0]), 4) for tap in range(4)]
    [0.1667, 0.6667, 0.1667, 0.0]
    """
    index = np.floor(at).astype(np.int64) - 1 + tap
    far = np.abs(at - index)
    weight = np.where(far < 1, 2 / 3 - far**2 + far**3 / 2, np.maximum(2 - far, 0) ** 3 / 6)
    period = max(2 * size - 2, 1)
    folded = index % period
    return np.where(folded < size, folded, period - folded), np.asarray(weight)


@dataclass(frozen=True)
class TransverseChromaticAbberation(CBar):
    """Colours of different magnification."""

    name = "transverse_chromatic_abberation"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """order: uniform, `[n 3]`: sorts the magnifications onto the channels."""
        return {"order": rng.uniform((3,), name="order")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Each channel through its own lens."""
        largest = at["level"] / 20
        rank = np.argsort(draws["order"], axis=1, kind="stable")
        lenses = [[magnifier(size, 1 + largest * k / 2) for size in images.shape[1:3]] for k in range(3)]
        out = np.empty_like(images)
        for i, image in enumerate(images):
            for k in range(images.shape[3]):
                down, across = lenses[rank[i, k % 3]]
                seen = down @ image[:, :, k].astype(np.float64) @ across.T
                out[i, :, :, k] = np.clip(seen + 0.5, 0, 255)
        return out


@lru_cache(maxsize=32)
def magnifier(size: int, factor: float) -> Float64:
    """Magnification about the centre along an axis, `[size size]`: cubic B-splines, no prefilter.

    >>> magnifier(8, 1.0)[3].round(4).tolist()
    [0.0, 0.0, 0.1667, 0.6667, 0.1667, 0.0, 0.0, 0.0]
    """
    stretched = max(round(size * factor), size)
    at = np.asarray((np.arange(size) + (stretched - size) // 2) * ((size - 1) / max(stretched - 1, 1)), np.float64)
    matrix = np.zeros((size, size))
    for tap in range(4):
        index, weight = spline_tap(at, tap, size)
        np.add.at(matrix, (np.arange(size), index), weight)
    return matrix


@dataclass(frozen=True)
class CausticRefraction(CBar):
    """Seen through moving water."""

    name = "caustic_refraction"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """water: uniform, `[n 2]`: time and size of the pattern."""
        return {"water": rng.uniform((2,), name="water")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Refracted by the slope of the pattern (index 4), and lit by it."""
        from scipy.ndimage import gaussian_filter

        shape, size, water = images.shape[1:3], side(images.shape[1:3]), np.asarray(draws["water"], np.float64)
        pattern = caustics(shape, 0.5 + 1.5 * water[:, 0], (0.75 + 0.5 * water[:, 1]) * size)
        smooth = np.pad(np.stack([gaussian_filter(p, 1.0) for p in pattern]), ((0, 0), (1, 1), (1, 1)))
        down, across = smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1], smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2]
        slope = np.hypot(down, across)
        length = np.sqrt(slope**2 + 1)
        steep = 1 / length < 1 - 1e-3
        sine = np.where(steep, slope / length, 0)
        bent = np.arcsin(sine / 4)  # from the normal, towards the axis
        tilt = np.where(steep, np.sin(np.arcsin(sine) - bent), 0)
        unit = np.where(slope > 0, slope, 1)
        lens = 0.05 * at["level"] * size
        y, x = grid(shape)
        rows, columns = y + np.round(lens * tilt * down / unit, 3), x + np.round(lens * tilt * across / unit, 3)
        light = 0.2 * at["level"] * (down - across)
        return to_bytes((bilinear(images, rows, columns) + 255 * light[..., None]).astype(np.float32), self.compat)


def caustics(shape: tuple[int, ...], time: Float64, size: Float64) -> Float64:
    """The pattern of light under water, `[n h w]` in [0, 1], for each image's time and size `[n]`."""
    py, px = ((a / per_image(size) % 1) * 2 * math.pi - 250 + np.zeros((1, *shape)) for a in grid(shape))
    iy, ix, total = py, px, np.ones_like(py)
    for fold in range(5):
        t = per_image(time) * (1 - 3.5 / (fold + 1))
        iy, ix = py + np.cos(t - iy) + np.sin(t + ix), px + np.sin(t - ix) + np.cos(t + iy)
        total = total + 1 / (0.005 * np.hypot(py / np.sin(iy + t), px / np.cos(ix + t)))
    bright = 1.17 - (total / 5) ** 1.4
    return np.asarray(np.clip(np.abs(bright) ** 8, 0, 1))

"""The rays and lines of C-bar: sparkles, inverse_sparkles and lines (Mintun et al. 2021; see `shifts.cbar`).

A star at c has rays of lengths l; in the direction of a pixel at distance d the length is interpolated between its
two rays, f their fraction, and the light is clip((1 - (f - 1/2)^2) (l^2 / (d^2 + 1e-4))^e, 0, 1).

    sparkles          five white stars, rays N(r, r / 4) with r = level / 100 of the size, at least a pixel, e = 1
    inverse_sparkles  white but for one star of radius 1/4, e = 0.13 level
    lines             level / 10 x size grey lines, anti-aliased, at angles about a common one

Accepted trade-off: a line's anti-aliasing is 1 - distance to its axis, the published one is Bresenham's; the mean
PSNR of 200 images at 32 px is within 0.1 dB of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Draws, to_bytes
from .cbar import CBar, Float64, grid, per_image, side
from .tables import Setting

#: Rays a star has at most.
RAYS = 200

STARS = 5


def starlight(shape: tuple[int, ...], centre: Float64, lengths: Float64, count: Float64, power: float) -> Float64:
    """Light `[n h w]` of a star an image: centre `[n 2]` (row, column), lengths of rays `[n 200]`, how many `[n]`."""
    y, x = grid(shape)
    dy, dx = y - per_image(centre[:, 0]), x - per_image(centre[:, 1])
    rays = per_image(count)
    turn = (np.arctan2(dx, dy) + math.pi) / (2 * math.pi) * rays
    ray = np.floor(turn)
    part = turn - ray
    image = np.arange(len(count))[:, None, None]
    one, two = (lengths[image, ((ray + k) % rays).astype(np.int64)] for k in (0, 1))
    reach = one + part * (two - one)
    bright = (reach**2 / (dy**2 + dx**2 + 1e-4)) ** power
    return np.asarray(np.clip((1 - (part - 0.5) ** 2) * bright, 0, 1))


@dataclass(frozen=True)
class Sparkles(CBar):
    """White stars."""

    name = "sparkles"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """centre: uniform, `[n 5 2]`; rays: 50..199, `[n 5]`; ray: standard normal, `[n 5 200]`."""
        return {
            "centre": rng.uniform((STARS, 2), name="centre"),
            "rays": rng.integers(50, RAYS, (STARS,), name="rays"),
            "ray": rng.normal((STARS, RAYS), name="ray"),
        }

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + light (255 - x), a star after the other."""
        shape = images.shape[1:]
        radius = at["level"] / 100 * side(shape)
        out = images.astype(np.float64)
        for star in range(STARS):
            centre = np.asarray(draws["centre"], np.float64)[:, star] * np.array(shape[:2])
            lengths = np.maximum(radius + radius / 4 * np.asarray(draws["ray"], np.float64)[:, star], 1)
            light = starlight(shape, centre, lengths, np.asarray(draws["rays"], np.float64)[:, star], 1.0)
            out += light[..., None] * (255 - out)
        return to_bytes(out.astype(np.float32), self.compat)


@dataclass(frozen=True)
class InverseSparkles(CBar):
    """White everywhere but in one star."""

    name = "inverse_sparkles"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """centre: uniform on [1/4, 3/4), `[n 2]`; rays: 50..199; ray: standard normal, `[n 200]`."""
        return {
            "centre": rng.uniform((2,), 0.25, 0.75, name="centre"),
            "rays": rng.integers(50, RAYS, name="rays"),
            "ray": rng.normal((RAYS,), name="ray"),
        }

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """255 + light (x - 255)."""
        shape = images.shape[1:]
        centre = np.asarray(draws["centre"], np.float64) * np.array(shape[:2])
        lengths = side(shape) / 4 * (1 + np.asarray(draws["ray"], np.float64) / 4)
        light = starlight(shape, centre, lengths, np.asarray(draws["rays"], np.float64), 0.13 * at["level"])
        return to_bytes((255 + light[..., None] * (images - 255.0)).astype(np.float32), self.compat)


@dataclass(frozen=True)
class Lines(CBar):
    """Grey lines across the image."""

    name = "lines"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """way: uniform, `[n 2]`: angle and its spread; line: uniform, `[n lines 3]`: a point and an angle each."""
        return {"way": rng.uniform((2,), name="way"), "line": rng.uniform((math.ceil(side(shape)), 3), name="line")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x (1 - cover) + 128 cover, a line after the other."""
        from .paths import draw_lines

        shape, way, line = images.shape[1:], *(np.asarray(draws[name], np.float64) for name in ("way", "line"))
        line = line[:, : int(at["level"] / 10 * side(shape))]
        angle = 2 * math.pi * (way[:, :1] + (0.1 + 0.9 * way[:, 1:]) * (line[..., 2] - 0.5))
        points = [np.floor(line[..., i] * shape[i]) for i in (0, 1)]
        out = images.astype(np.float64)
        draw_lines(out, np.stack([*points, np.sin(angle), np.cos(angle)], axis=-1))
        return to_bytes(out.astype(np.float32), self.compat)

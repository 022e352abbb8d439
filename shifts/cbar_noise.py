"""The additive and obscuring shifts of C-bar with a formula a pixel (Mintun et al. 2021; see `shifts.cbar`).

    single_frequency_greyscale  + 19.6 level sin(f . p + phase)
    cocentric_sine_waves        + 12.8 level (sawtooth of the wavy distance to a point)
    plasma_noise                mixed with a folded sine plasma, share 6.4 level / 255
    perlin_noise                mixed with the turbulence of gradient noise, share level / 20
    brownish_noise              + 6.4 level x a field with amplitude spectrum 1 / (r^2 + 1), a channel its own
    blue_noise_sample           pixels set to black where a field with spectrum r lies below 0.3 level - 2.5
    checkerboard_cutout         a tenth of `level` of the black squares of a turned chess-board set to grey

Quirks kept: the plasma's fourth term stays 0; phases of the spectra are mirrored so that the field is only half real.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Draws, to_bytes
from .cbar import CBar, Float64, grid, per_image, plus, side
from .tables import Setting

#: Side of the lattice of chances that a chess-board takes its squares from: the smallest squares need 40.
CELLS = 40

#: Points of the gradient noise's table.
LATTICE = 256


def columns(draws: Draws, name: str) -> list[Float64]:
    """The columns of a draw `[n k]`, each as `[n 1 1]`."""
    return [per_image(column) for column in np.asarray(draws[name], np.float64).T]


@dataclass(frozen=True)
class SingleFrequencyGreyscale(CBar):
    """One plane wave."""

    name = "single_frequency_greyscale"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """wave: uniform, `[n 4]`: larger frequency, smaller one, which goes along x, phase."""
        return {"wave": rng.uniform((4,), name="wave")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + wave."""
        large, small, first, phase = columns(draws, "wave")
        one = math.pi * (2 * large - 1)
        two = np.abs(one) * (2 * small - 1)
        fx, fy = np.where(first < 0.5, one, two), np.where(first < 0.5, two, one)
        y, x = grid(images.shape[1:])
        return plus(images, 19.6 * at["level"] * np.sin(x * fx + y * fy + 2 * math.pi * phase), self.compat)


@dataclass(frozen=True)
class CocentricSineWaves(CBar):
    """Rings with a wavy edge about a random point."""

    name = "cocentric_sine_waves"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """ring: uniform, `[n 5]`: centre x and y, waves a turn, their height, width of a ring."""
        return {"ring": rng.uniform((5,), name="ring")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + rings."""
        cx, cy, waves, height, width = columns(draws, "ring")
        y, x = grid(images.shape[1:])
        size = side(images.shape[1:3])
        dx, dy = x - cx * images.shape[2], y - cy * images.shape[1]
        wavy = np.hypot(dx, dy) + np.sin(np.arctan2(dx, dy) * 10 * waves) * height * size / 10
        ring = np.maximum(width * size / 10, 1e-3)
        return plus(images, 12.8 * at["level"] * ((wavy % ring) / ring - 0.5), self.compat)


@dataclass(frozen=True)
class PlasmaNoise(CBar):
    """Coloured plasma of folded sines."""

    name = "plasma_noise"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """plasma: uniform, `[n 4]`: time, number of folds, sharpness, scale."""
        return {"plasma": rng.uniform((4,), name="plasma")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """(1 - m) x + m 255 plasma, m = 6.4 level / 255."""
        time, folds, sharp, scale = columns(draws, "plasma")
        time, sharp = 6 * math.pi * time, 0.5 + 0.5 * sharp
        y, x = (a / ((0.075 + 0.125 * scale) * side(images.shape[1:3])) for a in grid(images.shape[1:]))
        x, y = (a + np.zeros(images.shape[:3]) for a in (x, y))
        slow, wide, steep = 1.0, 1.0, np.ones_like(time)
        for fold in range(6):
            across, down = np.cos(y * slow + time / wide) / steep, np.sin(x * slow + time / wide) / steep
            going = fold < 4 + np.floor(3 * folds)
            x, y = x + going * (across - 0.3 * down), y + going * (down + 0.3 * across)
            slow, wide, steep = slow * 1.93, wide * 1.15, steep * (2.25 - sharp)
        colours = (np.sin(x - time), np.sin((x + y + np.sin(time)) * 0.5), np.sin(y + time))
        plasma = np.stack([colours[min(k, 2)] for k in range(images.shape[3])], axis=-1)
        amount = 6.4 * at["level"]
        return to_bytes(((1 - amount / 255) * images + amount * plasma).astype(np.float32), self.compat)


@dataclass(frozen=True)
class PerlinNoise(CBar):
    """Grey clouds: turbulence of five octaves of gradient noise (Perlin 1985)."""

    name = "perlin_noise"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """order: uniform, `[n 256]`, sorts the lattice; slope: uniform, `[n 256]`, the angles of its gradients."""
        return {"order": rng.uniform((LATTICE,), name="order"), "slope": rng.uniform((LATTICE,), name="slope")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """(1 - level / 20) x + level / 20 clouds."""
        order = np.argsort(draws["order"], axis=1, kind="stable")
        angles = 2 * math.pi * np.asarray(draws["slope"], np.float64)
        y, x = (a / (32 * side(images.shape[1:3]) / 224) for a in grid(images.shape[1:]))
        clouds = sum(np.abs(gradient_noise(y * 2**k, x * 2**k, order, angles)) / 2**k for k in range(5))
        grey = np.clip(0.5 * np.asarray(clouds) + 0.5, 0, 1)[..., None]
        share = at["level"] / 20
        return to_bytes(((1 - share) * images + 255 * share * grey).astype(np.float32), self.compat)


def gradient_noise(y: Float64, x: Float64, order: Array, angles: Float64) -> Float64:
    """Gradient noise `[n h w]` at y `[1 h 1]`, x `[1 1 w]`; each image has its own permutation and angles `[n 256]`."""
    image = np.arange(len(order))[:, None, None]
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = y - top, x - left

    def corner(dy: int, dx: int) -> Float64:
        at = order[image, (order[image, (top + dy) % LATTICE] + left + dx) % LATTICE]
        angle = angles[image, at]
        return np.asarray((down - dy) * np.cos(angle) + (right - dx) * np.sin(angle))

    sy, sx = (t * t * (3 - 2 * t) for t in (down, right))
    high = corner(0, 0) + sy * (corner(1, 0) - corner(0, 0))
    low = corner(0, 1) + sy * (corner(1, 1) - corner(0, 1))
    return np.asarray(1.5 * (high + sx * (low - high)))


def spectral_field(phases: Array, power: Float64) -> Float64:
    """A field `[h w]` of standard deviation 1 with this amplitude spectrum (centred) and these phases `[h ceil(w /
    2)]`.

    The right half's phases are the left half's turned by 180 degrees. One image at a time, so the batch cannot matter.
    """
    h, w = power.shape
    half = np.asarray(phases, np.float64)[:, : w // 2]
    middle = np.asarray(phases, np.float64)[:, w // 2 : w // 2 + w % 2]
    whole = np.concatenate([half, middle, half[::-1, ::-1]], axis=1)
    spectrum = np.roll(power * np.exp(1j * whole), (h // 2, w // 2), axis=(0, 1))
    field = np.real(np.fft.ifft2(spectrum))
    return np.asarray(field / max(field.std(), 1e-12))


def distance_to_centre(shape: tuple[int, ...]) -> Float64:
    """float64 `[h w]`."""
    y, x = grid(shape)
    return np.asarray(np.hypot(y - shape[0] / 2, x - shape[1] / 2)[0])


@dataclass(frozen=True)
class BrownishNoise(CBar):
    """Smooth coloured noise."""

    name = "brownish_noise"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """phase: uniform on [0, 2 pi), a channel `[h ceil(w / 2)]`."""
        return {"phase": rng.uniform((shape[2], shape[0], (shape[1] + 1) // 2), 0.0, 2 * math.pi, name="phase")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + 6.4 level field."""
        power = 1 / (distance_to_centre(images.shape[1:3]) ** 2 + 1)
        fields = np.stack([np.stack([spectral_field(p, power) for p in one], axis=-1) for one in draws["phase"]])
        return plus(images, 6.4 * at["level"] * fields, self.compat)


@dataclass(frozen=True)
class BlueNoiseSample(CBar):
    """Black holes, spread evenly."""

    name = "blue_noise_sample"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """phase: uniform on [0, 2 pi), `[h ceil(w / 2)]`."""
        return {"phase": rng.uniform((shape[0], (shape[1] + 1) // 2), 0.0, 2 * math.pi, name="phase")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x where the field is above the threshold."""
        power = distance_to_centre(images.shape[1:3])
        seen = np.stack([spectral_field(p, power) > 0.3 * at["level"] - 2.5 for p in draws["phase"]])
        return images * seen[..., None].astype(np.uint8)


@dataclass(frozen=True)
class CheckerboardCutout(CBar):
    """Grey squares of a turned chess-board."""

    name = "checkerboard_cutout"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """board: uniform, `[n 2]`: angle, size of a square; square: uniform, a cell of the board."""
        return {"board": rng.uniform((2,), name="board"), "square": rng.uniform((CELLS, CELLS), name="square")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """128 on the drawn squares of one colour."""
        angle, scale = columns(draws, "board")
        size = side(images.shape[1:3])
        edge = np.maximum((0.1 + 0.15 * scale) * size, 1)
        y, x = grid(images.shape[1:])
        cos, sin = np.cos(2 * math.pi * angle), np.sin(2 * math.pi * angle)
        along, over = (cos * y + sin * x) / edge, (cos * x - sin * y) / edge
        cells = np.maximum(np.floor(4 * size / edge), 1)
        cell = [(np.trunc(a) % cells).astype(np.int64) % CELLS for a in (along, over)]
        drawn = np.asarray(draws["square"])[np.arange(len(images))[:, None, None], cell[0], cell[1]]
        hidden = (np.floor(along % 2) == np.floor(over % 2)) & (drawn < at["level"] / 10)
        return np.where(hidden[..., None], np.uint8(128), images)

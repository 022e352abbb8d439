"""The four noises of ImageNet-C: Gaussian, shot, impulse and speckle (Hendrycks and Dietterich 2019).

x = pixel / 255, every element (channel) on its own:
    gaussian_noise   x + N(0, sd)
    shot_noise       Poisson(c x) / c, c photons at full white
    impulse_noise    with probability `amount` 0 or 1, each as likely
    speckle_noise    x + x N(0, sd)

A value has one draw for all severities: shot noise inverts the Poisson distribution function at one uniform number, and
impulse noise takes its two tails, so a stronger severity hits the pixels of a weaker one and more.
Accepted trade-off: the uniform numbers have 24 bits, so events rarer than 6e-8 a value never come.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws, to_bytes
from .tables import Setting

#: Buckets of the uniform number from which the search in a Poisson distribution function starts.
BUCKETS = 256


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Additive normal noise (electronic noise at low light).

    >>> from testbed.perturb.shift import Shift
    >>> from testbed.plugins import read
    >>> grey = np.full((1, 32, 32, 3), 128, np.uint8)
    >>> noisy = Shift(read("shift", "gaussian_noise"), {"severity": 5, "params": "cifar32"})(grey, ids=[0])
    >>> bool(abs(noisy.std() / 255 - 0.10) < 0.005)
    True
    """

    name = "gaussian_noise"
    zero = {"sd": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """noise: standard normal, one a value."""
        return {"noise": rng.normal(shape, name="noise")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x + sd noise."""
        values = draws["noise"] * np.float32(255 * at["sd"])
        values += images
        return to_bytes(values, self.compat)


@dataclass(frozen=True)
class SpeckleNoise(Corruption):
    """Multiplicative normal noise: black stays black.

    >>> from testbed.seeding import Rng
    >>> int(SpeckleNoise(severity=5)(np.zeros((1, 8, 8, 1), np.uint8), rng=Rng("speckle_noise", 1, 0, [0])).max())
    0
    """

    name = "speckle_noise"
    zero = {"sd": 0.0}  # noqa: RUF012

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """noise: standard normal, one a value."""
        return {"noise": rng.normal(shape, name="noise")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x (1 + sd noise)."""
        values = draws["noise"] * np.float32(at["sd"])
        values += 1
        values *= images
        return to_bytes(values, self.compat)


@dataclass(frozen=True)
class ShotNoise(Corruption):
    """Poisson noise of few photons; `photons` is the mean count at full white."""

    name = "shot_noise"
    zero = {"photons": float("inf")}  # noqa: RUF012
    reciprocal = ("photons",)

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """level: uniform on [0, 1), one a value; the quantile at which the Poisson law is read."""
        return {"level": rng.uniform(shape, name="level")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Poisson(c x) / c."""
        from . import pixels

        below, start = poisson_table(at["photons"])
        shown = np.clip(np.arange(below.shape[1]) * (255 / at["photons"]) + (0.0 if self.compat else 0.5), 0, 255)
        return pixels.shot(images, np.asarray(draws["level"], np.float32), below, start, shown.astype(np.uint8))


@lru_cache(maxsize=16)
def poisson_table(photons: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """P(count <= j) for each pixel value v, float32 `[256 counts]`, and where to start looking, int32 `[256 BUCKETS]`.

    >>> below, start = poisson_table(3.0)
    >>> [round(float(p), 4) for p in below[255, :3]]  # 3 photons: exp(-3), 4 exp(-3), 8.5 exp(-3)
    [0.0498, 0.1991, 0.4232]
    """
    from scipy.special import pdtr

    mean = np.arange(256)[:, None] * (photons / 255)
    counts = np.arange(int(photons + 7 * photons**0.5 + 20))
    below = pdtr(counts, mean).astype(np.float32)
    below[:, -1] = 1
    edges = np.arange(BUCKETS) / np.float32(BUCKETS)
    start = np.stack([np.searchsorted(row, edges, side="right") for row in below])
    return below, start.astype(np.int32)


@dataclass(frozen=True)
class ImpulseNoise(Corruption):
    """Salt and pepper on single channel values (not on whole pixels, as in the published sets)."""

    name = "impulse_noise"
    zero = {"amount": 0.0}  # noqa: RUF012

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """level: uniform on [0, 1), one a value; its lower tail is salt, its upper tail pepper."""
        return {"level": rng.uniform(shape, name="level")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """1 where level < amount / 2, 0 where level >= 1 - amount / 2."""
        half, level = np.float32(at["amount"] / 2), draws["level"]
        salted = images | np.negative((level < half).view(np.uint8))
        return salted & np.negative((level < 1 - half).view(np.uint8))

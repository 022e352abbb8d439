"""The four noises of ImageNet-C: Gaussian, shot, impulse and speckle (Hendrycks and Dietterich 2019).

x = pixel / 255, every element (channel) on its own:
    gaussian_noise   x + N(0, sd)
    shot_noise       Poisson(c x) / c, c photons at full white
    impulse_noise    with probability `amount` 0 or 1, each as likely
    speckle_noise    x + x N(0, sd)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws, to_bytes
from .tables import Setting


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

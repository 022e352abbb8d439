"""Fog of ImageNet-C: a plasma fractal laid over the image (Hendrycks and Dietterich 2019).

The fractal is a diamond-square height map on a torus of side m (a power of two): level k = 0, 1, ... sets the centres
of squares, then the centres of diamonds, to the mean of their four neighbours plus U(-w^2, w^2) with w = 100 / decay^k,
and the map is scaled to [0, 1]. With its top-left crop p: x' = (x + amount p) max(x) / (max(x) + amount).

Each map point has its own draw, so the fractals of two severities are alike. The map is at least as large as the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .tables import Setting


@dataclass(frozen=True)
class Fog(Corruption):
    """Fog. The map's side follows the table (256 for imagenet224 and mnist28, which is cropped to the image).

    >>> from testbed.seeding import Rng
    >>> black = np.zeros((1, 32, 32, 1), np.uint8)
    >>> Fog(severity=3, params="cifar32")(black, rng=Rng("fog", 1, 0, [0])).max()  # max(x) = 0 leaves black black
    np.uint8(0)
    """

    name = "fog"
    zero = {"amount": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """wibble: uniform on [-1, 1), one a point of the map."""
        side = self.side(shape)
        return {"wibble": rng.uniform((side, side), -1.0, 1.0, name="wibble")}

    def side(self, shape: tuple[int, ...]) -> int:
        """Side of the height map: the table's power of two, or the next that covers the image."""
        need = max(2, *shape[:2], round(self.setting(shape)["map"]))
        return 1 << (need - 1).bit_length()

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """(x + amount p) max / (max + amount)."""
        from . import kernels

        return kernels.fog(
            images, np.asarray(draws["wibble"], np.float32), at["amount"], at["decay"], 0.0 if self.compat else 0.5
        )

"""Rotations: the sweep of Ovadia et al. (2019) and MNIST-C's. Bilinear, about the centre, black outside.

Positive angles turn counter-clockwise as displayed. A quarter turn of a square image is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array, Paper

from .base import Bytes, Corruption, Draws
from .tables import Setting, setting

OVADIA = Paper(
    "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift",
    "Ovadia, Y. and others",
    2019,
    "NeurIPS",
    "1906.02530",
)


@dataclass(frozen=True)
class Rotate(Corruption):
    """Rotation by `degrees` times the severity: severity 1 turns by `degrees`, and the default levels are 15..75.

    degrees  angle of one severity step; None is 15, or for `params="mnist28"` MNIST-C's: 0.4 radians at severity 3, in
             a direction drawn for each image

    >>> from testbed.seeding import Rng
    >>> image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)
    >>> Rotate(severity=1, degrees=90)(image, rng=Rng("rotate", 1, 0, [0]))[0, :, :, 0].tolist()
    [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    """

    degrees: float | None = None

    name = "rotate"
    reference: ClassVar[Paper] = OVADIA

    def setting(self, shape: tuple[int, ...]) -> Setting:
        """The angle in degrees, at this severity."""
        if self.degrees is None and self.params == "mnist28":
            return setting("rotate", "mnist28", shape, self.severity, {"degrees": 0.0})
        return Setting({"degrees": self.severity * (15.0 if self.degrees is None else self.degrees)}, "")

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """sign: -1 or 1; used by MNIST-C's rotation only."""
        return {"sign": 2 * rng.integers(0, 2, name="sign") - 1}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Each image turned about its centre."""
        sign = np.asarray(draws["sign"], np.float64) if at.taken == "mnist28" else np.ones(len(images))
        radians = sign * (at["degrees"] * math.pi / 180)
        cos, sin = np.round(np.cos(radians), 15), np.round(np.sin(radians), 15)
        linear = np.stack([cos, sin, -sin, cos], axis=-1).reshape(-1, 2, 2).astype(np.float64)
        return warped(images, linear)


def warped(images: Bytes, linear: NDArray[np.float64], offset: NDArray[np.float64] | None = None) -> Bytes:
    """Each image resampled at `centre + linear (p - centre) + offset`; p = (row, column), black outside, rounded.

    linear  float64 `[n 2 2]`; offset float64 `[n 2]` in pixels
    """
    from . import kernels

    centre = (np.array(images.shape[1:3], np.float64) - 1) / 2
    moved = centre - linear @ centre + (0 if offset is None else offset)
    maps = np.concatenate([linear, moved[:, :, None]], axis=2)
    return kernels.affine(images, np.ascontiguousarray(np.broadcast_to(maps, (len(images), 2, 3))), 0.5)

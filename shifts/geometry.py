"""Rotation, shear, scaling and translation: the sweeps of Ovadia et al. (2019) and MNIST-C's. Bilinear, black outside.

Positive angles turn counter-clockwise as displayed. A quarter turn of a square image is exact. MNIST-C (Mu and Gilmer
2019) has one level of each, which is severity 3 here; in compat mode its values are cut to uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array, Paper

from .base import MNIST_C, Bytes, Corruption, Draws
from .blur import EDGE
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
        return warped(images, linear, cut=self.compat and at.taken == "mnist28")


@dataclass(frozen=True)
class Shear(Corruption):
    """Shear along the rows by 0.4 radians at severity 3, to a side drawn for each image.

    Quirk kept in compat mode: the map is that of scikit-image before 0.19, which also shrinks columns by cos(angle).
    """

    name = "shear"
    zero = {"radians": 0.0}  # noqa: RUF012 - a ClassVar of the base
    reference: ClassVar[Paper] = MNIST_C

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """sign: -1 or 1."""
        return {"sign": 2 * rng.integers(0, 2, name="sign") - 1}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Column c of row r is read at c - sin(angle) r, both from the centre."""
        radians = np.asarray(draws["sign"], np.float64) * at["radians"]
        linear = np.zeros((len(images), 2, 2))
        linear[:, 0, 0] = np.cos(radians) if self.compat else 1
        linear[:, 1, 0], linear[:, 1, 1] = -np.sin(radians), 1
        return warped(images, linear, cut=self.compat)


@dataclass(frozen=True)
class Scale(Corruption):
    """Shrinking about the centre: at severity 3 to 0.7 of the size. Factor 0.5 doubles the size."""

    name = "scale"
    zero = {"factor": 1.0}  # noqa: RUF012
    reference: ClassVar[Paper] = MNIST_C

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Read at `factor` times the distance from the centre."""
        linear = np.broadcast_to(np.eye(2) * at["factor"], (len(images), 2, 2))
        return warped(images, linear, cut=self.compat)


@dataclass(frozen=True)
class Translate(Corruption):
    """Translation by `pixels` times the severity along both axes, each to a side drawn for each image.

    pixels  of one severity step; None is MNIST-C's 1 (3 pixels at severity 3)
    """

    pixels: float | None = None

    name = "translate"
    zero = {"pixels": 0.0}  # noqa: RUF012
    reference: ClassVar[Paper] = MNIST_C

    def setting(self, shape: tuple[int, ...]) -> Setting:
        """The distance at this severity."""
        return super().setting(shape) if self.pixels is None else Setting({"pixels": self.severity * self.pixels}, "")

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """sign: -1 or 1, `[n 2]`: down, right."""
        return {"sign": 2 * rng.integers(0, 2, (2,), name="sign") - 1}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Read at an offset."""
        linear = np.broadcast_to(np.eye(2), (len(images), 2, 2))
        return warped(images, linear, np.asarray(draws["sign"], np.float64) * at["pixels"], cut=self.compat)


def warped(
    images: Bytes, linear: NDArray[np.float64], offset: NDArray[np.float64] | None = None, *, cut: bool = False
) -> Bytes:
    """Each image resampled at `centre + linear (p - centre) + offset`; p = (row, column), black outside, rounded
    or `cut`.

    linear  float64 `[n 2 2]`; offset float64 `[n 2]` in pixels
    """
    from . import kernels

    centre = (np.array(images.shape[1:3], np.float64) - 1) / 2
    moved = centre - linear @ centre + (0 if offset is None else offset)
    maps = np.concatenate([linear, moved[:, :, None]], axis=2)
    return kernels.affine(
        images, np.ascontiguousarray(np.broadcast_to(maps, (len(images), 2, 3))), EDGE if cut else 0.5
    )

"""What the shifts of ImageNet-C-bar and CIFAR-10-C-bar share (Mintun, Kirillov and Xie 2021).

Their severity is a number in 0..10 that scales one maximum a shift. The tables hold the numbers of the published
levels 1 to
5, ten shifts for `cifar32`, ten for `imagenet224`, five of them in both. Lengths are fractions of the image's
size, for a rectangle the geometric mean of its sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.types import Paper

from .base import Bytes, Corruption, to_bytes

MINTUN = Paper(
    "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness",
    "Mintun, E. and Kirillov, A. and Xie, S.",
    2021,
    "NeurIPS",
    "2102.11273",
)

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class CBar(Corruption):
    """Base: the table's one parameter is `level`, in 0..10."""

    zero = {"level": 0.0}  # noqa: RUF012 - a ClassVar of the base
    reference: ClassVar[Paper] = MINTUN


def side(shape: tuple[int, ...]) -> float:
    """The size that lengths are fractions of."""
    return math.sqrt(shape[0] * shape[1])


def grid(shape: tuple[int, ...]) -> tuple[Float64, Float64]:
    """Rows `[1 h 1]` and columns `[1 1 w]` of the pixels."""
    return np.arange(shape[0], dtype=np.float64)[None, :, None], np.arange(shape[1], dtype=np.float64)[None, None, :]


def per_image(values: NDArray[np.generic]) -> Float64:
    """One number an image as `[n 1 1]`."""
    return np.asarray(values, np.float64)[:, None, None]


def plus(images: Bytes, noise: Float64, compat: bool) -> Bytes:
    """Images plus noise on the 0..255 scale, `[n h w]` for all channels alike or `[n h w c]`."""
    added = noise[..., None] if noise.ndim == 3 else noise
    return to_bytes((images + added).astype(np.float32), compat)

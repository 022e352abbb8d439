"""The perturbation sequences of CIFAR-10-P and ImageNet-P (Hendrycks and Dietterich 2019, section 4.4).

Each image becomes a short film under one slowly growing change; what counts is how often the decision flips between
frames (`flip_probability`, `top5_distance` and the means over sequences). i is the frame, 0 to 30 unless said.

                cifar                                    imagenet
    gaussian    N(0, 0.02) (0.04, 0.06)                  the same                      frame 0 is clean
    shot        700 (400, 200) photons                   300 (120, 60)                 frame 0 is clean
    speckle     x N(0, 0.05)                             the same                      frame 0 is clean
    motion      radius 6, sigma 1.8, 9 (i - 20) deg      10, 3, 4 (i - 30) deg         cifar: 21 frames
    zoom        mean of the magnifications 1 ... 1 + 0.004 i
    snow        N(0.05, 0.3), zoom 2, threshold 0.5, mix 0.85, angle 4 i - 150; radius 10, sigma 2 (14, 4)
    brightness  V + 0.015 (i - 15)                       0.02 (i - 15)
    blur        sigma 0.3 + 0.015 i                      0.25 + 0.035 i
    spatter     water, its layer one pixel further down a frame, (0.2, 0.8) between old and moved
    translate   i - 7 px, 16 frames                      i - 20 px, 41 frames
    rotate      i - 15 degrees                           the same
    shear       i - 15 degrees                           the same
    tilt        0.75 (i - 15) degrees about both axes    1 (i - 15)
    scale       2 i + 70 %                               2.5 i + 40 %

In brackets the values of difficulty 2 and 3, which for noise are other levels and for all else the metric's stride.
Choices of this project where the source is silent: edges are mirrored (published images are cropped after the change),
warps are bilinear, the camera of `tilt` is one image diagonal away, spatter has its first 32 px level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.parameters import Checked
from testbed.seeding import Rng
from testbed.types import Array, Paper

from .base import HENDRYCKS, Bytes, to_bytes
from .blur import EDGE, GaussianBlur
from .filters import gaussian_blur, zoom_line
from .light import Brightness
from .motion import MotionBlur, streak
from .noise import ShotNoise
from .spatter import WATER, water
from .tables import Setting


@dataclass(frozen=True)
class FrameSequence(Checked):
    """Base: uint8 `[n h w c]` to uint8 `[n frames h w c]`.

    params      cifar or imagenet; auto takes cifar up to 64 px
    difficulty  1, 2 or 3: the noise level of the noise sequences; all others have their difficulty in the metric
    """

    params: Literal["auto", "cifar", "imagenet"] = "auto"
    difficulty: Literal[1, 2, 3] = 1

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    level: ClassVar[str] = "frames"
    reference: ClassVar[Paper] = HENDRYCKS
    #: Noise sequences compare every frame with the first, all others with the one before.
    noise: ClassVar[bool] = False

    def small(self, images: Bytes) -> bool:
        """Whether the CIFAR parameters hold."""
        return self.params == "cifar" or (self.params == "auto" and max(images.shape[1:3]) <= 64)

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        """The frames in order, uint8 `[n h w c]` each."""
        raise NotImplementedError

    def __call__(self, images: Bytes, *, rng: Rng) -> Bytes:
        """All frames, uint8 `[n frames h w c]`."""
        return np.stack(list(self.frames(images, rng)), axis=1)


@dataclass(frozen=True)
class GaussianNoiseSequence(FrameSequence):
    """The clean image, then 30 frames with fresh normal noise."""

    noise: ClassVar[bool] = True

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        yield images
        for i in range(1, 31):
            drawn = rng.normal(images.shape[1:], name=f"noise{i}")
            yield to_bytes(drawn * np.float32(255 * (0.02, 0.04, 0.06)[self.difficulty - 1]) + images, True)


@dataclass(frozen=True)
class SpeckleNoiseSequence(FrameSequence):
    """The clean image, then 30 frames with fresh multiplicative noise."""

    noise: ClassVar[bool] = True

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        yield images
        for i in range(1, 31):
            drawn = rng.normal(images.shape[1:], name=f"noise{i}")
            yield to_bytes((drawn * np.float32(0.05) + 1) * images, True)


@dataclass(frozen=True)
class ShotNoiseSequence(FrameSequence):
    """The clean image, then 30 frames of few photons."""

    noise: ClassVar[bool] = True

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        photons = ((700.0, 400.0, 200.0) if self.small(images) else (300.0, 120.0, 60.0))[self.difficulty - 1]
        yield images
        for i in range(1, 31):
            level = rng.uniform(images.shape[1:], name=f"level{i}")
            yield ShotNoise().change(images, {"level": level}, Setting({"photons": photons}, ""))


@dataclass(frozen=True)
class MotionBlurSequence(FrameSequence):
    """A streak that turns."""

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        count, first, step = (21, 20, 9) if self.small(images) else (31, 30, 4)
        radius, sigma = (6.0, 1.8) if self.small(images) else (10.0, 3.0)
        at = Setting({"radius": radius, "sigma": sigma}, "")
        for i in range(count):
            angle = np.full(len(images), float((i - first) * step), np.float32)
            yield MotionBlur().change(images, {"angle": angle}, at)


@dataclass(frozen=True)
class ZoomBlurSequence(FrameSequence):
    """A zoom that goes on."""

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        total = images.astype(np.float32)
        yield images
        for i in range(1, 31):
            (low_y, up_y), (low_x, up_x) = (zoom_line(size, 1 + 0.004 * i) for size in images.shape[1:3])
            x = images.astype(np.float32)
            x = between(x, low_y, up_y, 1)
            total += between(x, low_x, up_x, 2)
            yield to_bytes(total / np.float32(i + 1) + np.float32(EDGE), True)


def between(x: NDArray[np.float32], lower: Array, share: Array, axis: int) -> NDArray[np.float32]:
    """Linear interpolation along an axis at `lower + share`."""
    upper = np.minimum(lower + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = len(lower)
    weight = np.asarray(share, np.float32).reshape(shape)
    return np.asarray(x.take(lower, axis) * (1 - weight) + x.take(upper, axis) * weight, np.float32)


@dataclass(frozen=True)
class SnowSequence(FrameSequence):
    """One fall of snow whose wind turns."""

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        from . import kernels, pixels

        radius, sigma = (10, 2.0) if self.small(images) else (14, 4.0)
        rows, columns = (zoom_line(size, 2.0) for size in images.shape[1:3])
        layer = rng.normal(images.shape[1:3], name="layer") * np.float32(0.3) + np.float32(0.05)
        flakes = pixels.flakes(layer, *rows, *columns, 0.5)
        for i in range(31):
            angle = np.full(len(images), 4.0 * i - 150)
            weights, offsets = streak(angle, radius, sigma, one_sided=True)
            yield pixels.snowed(images, kernels.taps(flakes[..., None], weights, offsets, 1e-3)[..., 0], 0.85, True)


@dataclass(frozen=True)
class BrightnessSequence(FrameSequence):
    """From dark to bright."""

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        step = 0.015 if self.small(images) else 0.02
        for i in range(31):
            yield Brightness().change(images, {}, Setting({"add": step * (i - 15)}, ""))


@dataclass(frozen=True)
class GaussianBlurSequence(FrameSequence):
    """A blur that grows."""

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        first, step = (0.3, 0.015) if self.small(images) else (0.25, 0.035)
        for i in range(31):
            yield GaussianBlur().change(images, {}, Setting({"sigma": first + step * i}, ""))


@dataclass(frozen=True)
class SpatterSequence(FrameSequence):
    """Water that runs down the lens."""

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        from . import pixels

        layers = rng.normal(images.shape[1:3], name="layer") * np.float32(0.1) + np.float32(0.62)
        layers = np.stack([gaussian_blur(layer, 0.7) for layer in layers])
        colour = np.array([WATER[min(k, 2)] for k in range(images.shape[3])], np.float32)
        for _ in range(31):
            cover = np.stack([water(np.where(one < 0.7, np.float32(0), one), 0.5) for one in layers])
            yield pixels.covered(images, cover.astype(np.float32), colour, False, EDGE)
            moved = np.concatenate([layers[:, :1], layers[:, :-1]], axis=1)
            layers = np.float32(0.2) * layers + np.float32(0.8) * moved


def seen_through(images: Bytes, matrix: NDArray[np.float64]) -> Bytes:
    """Each image under the projective map `matrix` `[3 3]` on (x, y, 1) about its centre, bilinear, edges mirrored."""
    import cv2

    h, w = images.shape[1:3]
    centre = np.array([[1.0, 0.0, (w - 1) / 2], [0.0, 1.0, (h - 1) / 2], [0.0, 0.0, 1.0]])
    whole = centre @ matrix @ np.linalg.inv(centre)
    out = np.empty_like(images)
    for image, into in zip(images, out, strict=True):
        for k in range(images.shape[3]):  # OpenCV takes at most four channels at once
            plane = np.ascontiguousarray(image[..., k])
            into[..., k] = cv2.warpPerspective(plane, whole, (w, h), borderMode=cv2.BORDER_REFLECT_101)
    return out


@dataclass(frozen=True)
class WarpSequence(FrameSequence):
    """Base of the sequences in which the image moves: `matrix(i, small, size)` is its map in frame i."""

    def count(self, small: bool) -> int:
        """Frames."""
        return 31

    def matrix(self, i: int, small: bool, diagonal: float) -> NDArray[np.float64]:
        """Projective map `[3 3]` on (x, y, 1), the centre at 0."""
        raise NotImplementedError

    def frames(self, images: Bytes, rng: Rng) -> Iterator[Bytes]:
        small, diagonal = self.small(images), math.hypot(*images.shape[1:3])
        for i in range(self.count(small)):
            yield seen_through(images, self.matrix(i, small, diagonal))


@dataclass(frozen=True)
class TranslateSequence(WarpSequence):
    """To the right, a pixel a frame."""

    def count(self, small: bool) -> int:
        return 16 if small else 41

    def matrix(self, i: int, small: bool, diagonal: float) -> NDArray[np.float64]:
        return np.array([[1.0, 0.0, i - (7 if small else 20)], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class RotateSequence(WarpSequence):
    """A turn of a degree a frame, counter-clockwise as displayed."""

    def matrix(self, i: int, small: bool, diagonal: float) -> NDArray[np.float64]:
        cos, sin = math.cos(math.radians(i - 15)), math.sin(math.radians(i - 15))
        return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class ShearSequence(WarpSequence):
    """A shear along the rows."""

    def matrix(self, i: int, small: bool, diagonal: float) -> NDArray[np.float64]:
        return np.array([[1.0, math.tan(math.radians(i - 15)), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class ScaleSequence(WarpSequence):
    """From small to large."""

    def matrix(self, i: int, small: bool, diagonal: float) -> NDArray[np.float64]:
        factor = (2 * i + 70) / 100 if small else (2.5 * i + 40) / 100
        return np.diag([factor, factor, 1.0])


@dataclass(frozen=True)
class TiltSequence(WarpSequence):
    """The picture plane turns about both of its axes."""

    def matrix(self, i: int, small: bool, diagonal: float) -> NDArray[np.float64]:
        angle = math.radians((0.75 if small else 1.0) * (i - 15))
        cos, sin = math.cos(angle), math.sin(angle)
        about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
        about_y = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
        plane = (about_x @ about_y)[:, :2]  # where the picture's points go in space
        return np.column_stack([plane * [[1], [1], [1 / diagonal]], [0.0, 0.0, 1.0]])

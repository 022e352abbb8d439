"""OOD unit tests: seventeen kinds of images without content, that any detector should refuse (NINCO, ICML 2023).

    uniform rademacher gaussian_mixed                     independent values; uniform is in `generated`
    blobs_mixed low_frequency low_frequency_channels low_frequency_colours      smooth noise
    pixel_permutation smooth_permutation                  the in-distribution test images, pixels in a random order
    black white grey monochrome                           one colour
    tricolour tricolour_primary horizontal_stripes vertical_stripes             few flat stripes

The recipes are those of Bitterwolf, Mueller & Hein, "In or Out? Fixing ImageNet Out-of-Distribution Detection
Evaluation", 400 images a kind; what they draw from a list (sigma, number of stripes, colours) is drawn an example here.
They write for ImageNet: a blur's sigma, in pixels, is meant for an image of 224 and scaled to the one at hand (at least
half a pixel), and stripes are no thinner than a pixel. A detector fails a unit test where its FPR95 is over one tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from testbed.data.generated import Generated, quantise
from testbed.errors import UsageError
from testbed.parameters import Checked, Count, Share
from testbed.seeding import Rng
from testbed.types import Array, Examples, Floats, Paper, Spec

NINCO: Final = Paper(
    "In or Out? Fixing ImageNet Out-of-Distribution Detection Evaluation",
    "Julian Bitterwolf, Maximilian Mueller, Matthias Hein", 2023, "ICML", "2306.00826",
)  # fmt: skip
MEANT_FOR: Final = 224

Sigmas = tuple[float, ...]


@dataclass(frozen=True)
class UnitTest(Generated):
    """What the unit tests share: 400 images."""

    n: Count = 400

    reference: ClassVar[Paper] = NINCO


@dataclass(frozen=True)
class Rademacher(UnitTest):
    """Every value 0 or 1, equally likely.

    >>> np.unique(Rademacher(n=1).draw(Spec("image", (8, 8, 1), 10), Rng("rademacher", 1, 0, [0]))).tolist()
    [0, 255]
    """

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one an id of `rng`."""
        return quantise((rng.uniform(like.shape, name="value") < 0.5).astype(np.float32), like)


@dataclass(frozen=True)
class GaussianMixed(UnitTest):
    """Values ~ N(1/2, std^2), clipped to [0, 1], with a std drawn an example."""

    stds: Sigmas = (0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one an id of `rng`."""
        std = chosen(self.stds, rng).reshape(-1, *(1,) * len(like.shape))
        return quantise(rng.normal(like.shape, name="value") * std + np.float32(0.5), like)


@dataclass(frozen=True)
class BlobsMixed(UnitTest):
    """Bernoulli(p) noise, blurred, with values below the threshold set to 0; sigma drawn an example, in pixels."""

    p: Share = 0.7
    threshold: Share = 0.75
    sigmas: Sigmas = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one an id of `rng`."""
        noise = (rng.uniform(like.shape, name="value") < self.p).astype(np.float32)
        smooth = blurred(noise, chosen(self.sigmas, rng))
        smooth[smooth < self.threshold] = 0.0
        return quantise(smooth, like)


@dataclass(frozen=True)
class LowFrequency(UnitTest):
    """Blurred uniform noise, stretched to all of [0, 1].

    stretch  "image": by the extremes of the image; "channel": by those of each channel; "colour": by the middle 95 %
             of each channel, onto a random colour plus or minus a random deviation in [0.1, 0.3]
    """

    sigmas: Sigmas = (10.0, 15.0, 25.0, 40.0, 60.0, 85.0)
    stretch: Literal["image", "channel", "colour"] = "image"

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one an id of `rng`."""
        smooth = blurred(rng.uniform(like.shape, name="value"), scaled(chosen(self.sigmas, rng), like))
        if self.stretch == "colour":
            centre = rng.uniform((1, 1, like.shape[-1]), name="colour")
            deviation = rng.uniform((1, 1, 1), low=0.1, high=0.3, name="deviation")
            low, high = np.quantile(smooth, [0.025, 0.975], axis=(1, 2), keepdims=True)
            return quantise(centre + deviation * (2 * unit(smooth, low, high) - 1), like)
        axes = (1, 2) if self.stretch == "channel" else (1, 2, 3)
        return quantise(unit(smooth, smooth.min(axes, keepdims=True), smooth.max(axes, keepdims=True)), like)


@dataclass(frozen=True)
class LowFrequencyChannels(LowFrequency):
    """Blurred uniform noise, each channel stretched by itself."""

    stretch: Literal["image", "channel", "colour"] = "channel"


@dataclass(frozen=True)
class LowFrequencyColours(LowFrequency):
    """Blurred uniform noise around a random colour."""

    stretch: Literal["image", "channel", "colour"] = "colour"


@dataclass(frozen=True)
class Monochrome(UnitTest):
    """One random colour an image."""

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one an id of `rng`."""
        colour = self.colour(like.shape[-1], rng)
        return quantise(np.broadcast_to(colour.reshape(-1, 1, 1, like.shape[-1]), (len(rng), *like.shape)), like)

    def colour(self, channels: int, rng: Rng) -> Floats:
        """Colours `[n channels]` in [0, 1]."""
        return rng.uniform((channels,), name="colour")


@dataclass(frozen=True)
class Grey(Monochrome):
    """One random grey an image."""

    def colour(self, channels: int, rng: Rng) -> Floats:
        """The same value for each channel."""
        return np.repeat(rng.uniform((1,), name="colour"), channels, axis=1)


@dataclass(frozen=True)
class Black(Monochrome):
    """All values 0: every image is the same."""

    def colour(self, channels: int, rng: Rng) -> Floats:
        """Zeros."""
        return np.zeros((len(rng), channels), dtype=np.float32)


@dataclass(frozen=True)
class White(Monochrome):
    """All values 1: every image is the same."""

    def colour(self, channels: int, rng: Rng) -> Floats:
        """Ones."""
        return np.ones((len(rng), channels), dtype=np.float32)


@dataclass(frozen=True)
class Stripes(UnitTest):
    """Flat stripes of equal width, the last one to the edge; their number is drawn an example.

    along    "horizontal", "vertical", or "either", drawn an example
    counts   numbers of stripes to draw from
    primary  whether a colour's channels are 0 or 1 instead of in between
    """

    along: Literal["horizontal", "vertical", "either"] = "either"
    counts: tuple[Count, ...] = (4, 5, 7, 10, 15, 20)
    primary: bool = False

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one an id of `rng`."""
        h, w, channels = like.shape
        colours = rng.uniform((max(self.counts), channels), name="colour")
        colours = (colours < 0.5).astype(np.float32) if self.primary else colours
        counts, turns = chosen(self.counts, rng), rng.uniform(name="turn") < 0.5
        out = np.empty((len(rng), h, w, channels), dtype=np.float32)
        for image, palette, count, turn in zip(out, colours, counts, turns, strict=True):
            vertical = bool(turn) if self.along == "either" else self.along == "vertical"
            size = w if vertical else h
            stripe = palette[np.minimum(np.arange(size) // max(1, size // int(count)), int(count) - 1)]
            image[...] = stripe[None, :] if vertical else stripe[:, None]
        return quantise(out, like)


@dataclass(frozen=True)
class HorizontalStripes(Stripes):
    """Stripes from left to right."""

    along: Literal["horizontal", "vertical", "either"] = "horizontal"


@dataclass(frozen=True)
class VerticalStripes(Stripes):
    """Stripes from top to bottom."""

    along: Literal["horizontal", "vertical", "either"] = "vertical"


@dataclass(frozen=True)
class Tricolour(Stripes):
    """Three stripes, as of a flag."""

    counts: tuple[Count, ...] = (3,)


@dataclass(frozen=True)
class TricolourPrimary(Tricolour):
    """Three stripes of colours whose channels are 0 or 1."""

    primary: bool = True


@dataclass(frozen=True)
class PixelPermutation(Checked):
    """The in-distribution test images with their pixels in a random order, then blurred with a drawn sigma, if any.

    >>> from testbed.data.packaged import Digits
    >>> few = Digits().load("all").take(slice(3))
    >>> odd = PixelPermutation().derive(few, Rng("pixel_permutation", 1, 0, few.ids))
    >>> bool((np.sort(odd.reshape(3, -1)) == np.sort(few.x.reshape(3, -1))).all())
    True
    """

    sigmas: Sigmas = ()

    version: ClassVar[int] = 1
    source: ClassVar[Literal["spec", "id"]] = "id"
    reference: ClassVar[Paper] = NINCO

    def sizes(self) -> dict[str, int]:
        """No parts of its own: it has as many examples as the set it is made from."""
        return {}

    def derive(self, given: Examples, rng: Rng) -> Array:
        """uint8 images like `given.x`, one an id of `rng` (the ids of `given`)."""
        if given.spec.kind != "image":
            raise UsageError(f"pixel-permutation takes images; this set is {given.spec.kind}")
        n, h, w, channels = given.x.shape
        orders = [generator.permutation(h * w) for generator in rng.generators(name="order")]
        mixed = np.take_along_axis(given.x.reshape(n, h * w, channels), np.stack(orders)[:, :, None], axis=1)
        mixed = mixed.reshape(given.x.shape)
        if not self.sigmas:
            return mixed
        smooth = blurred(mixed.astype(np.float32) / 255, scaled(chosen(self.sigmas, rng), given.spec))
        return quantise(smooth, given.spec)


@dataclass(frozen=True)
class SmoothPermutation(PixelPermutation):
    """The in-distribution test images with their pixels in a random order, blurred."""

    sigmas: Sigmas = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def chosen(values: Sequence[float], rng: Rng) -> Floats:
    """float32 `[n]`: one of `values` an example."""
    picks: Floats = np.asarray(values, dtype=np.float32)[rng.integers(0, len(values), name="chosen")]
    return picks


def scaled(sigmas: Floats, like: Spec) -> Floats:
    """Sigmas meant for an image of 224 pixels, for one of `like`'s height, at least half a pixel."""
    pixels: Floats = np.maximum(sigmas * np.float32(like.shape[0] / MEANT_FOR), np.float32(0.5))
    return pixels


def blurred(images: Floats, sigmas: Floats) -> Floats:
    """float32 `[n h w c]`: each image blurred over space with its own sigma, as if it went on periodically."""
    from scipy.ndimage import gaussian_filter

    out = np.empty(images.shape, dtype=np.float32)
    for place, image, sigma in zip(out, images, sigmas, strict=True):
        gaussian_filter(image, sigma=(float(sigma), float(sigma), 0), mode="wrap", output=place)
    return out


def unit(values: Floats, low: Array, high: Array) -> Floats:
    """(values - low) / (high - low); 1/2 where they are equal."""
    spread = high - low
    stretched: Floats = np.where(spread > 0, (values - low) / np.where(spread > 0, spread, 1), 0.5).astype(np.float32)
    return stretched

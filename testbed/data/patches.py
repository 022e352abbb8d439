"""Out-of-distribution images with natural statistics.

    natural-patches    squares cut at random from the two photographs that scikit-learn ships (china.jpg, flower.jpg,
                       427x640 RGB, CC BY 2.0), each reduced by averaging blocks of `scale` x `scale` pixels
    scrambled-patches  the in-distribution test images themselves, cut into `grid` x `grid` tiles which are put back
                       in a random order (never the original one): same pixels, same edges, no object

Both follow the size and channels of the set they stand beside. There are only two photographs, so patches overlap
and are not independent draws of natural scenes: intervals speak of patches of these two pictures. Scrambled images
are made from the very images that the in-distribution scores come from, so the two sides are dependent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from testbed.data.adapt import to_channels
from testbed.data.base import package_file
from testbed.data.generated import Generated
from testbed.errors import UsageError
from testbed.parameters import Checked, Count
from testbed.seeding import Rng
from testbed.types import Array, Examples, Spec


@dataclass(frozen=True)
class NaturalPatches(Generated):
    """Patches of `scale * h` x `scale * w` pixels, averaged down to h x w; half from each photograph."""

    scale: Count = 2

    def files(self) -> tuple[Path, ...]:
        return tuple(
            package_file("sklearn", f"datasets/images/{name}.jpg", "natural-patches") for name in ("china", "flower")
        )

    def identity(self) -> dict[str, str]:
        from PIL import features

        return {"libjpeg": str(features.version("libjpeg_turbo") or features.version("jpg"))}

    def draw(self, like: Spec, rng: Rng) -> Array:
        """uint8 images of `like`'s shape, one an id of `rng`."""
        from PIL import Image

        photos = [np.asarray(Image.open(path).convert("RGB")) for path in self.files()]
        h, w, channels = like.shape
        tall, wide = h * self.scale, w * self.scale
        if tall > photos[0].shape[0] or wide > photos[0].shape[1]:
            raise UsageError(
                f"natural-patches: {tall}x{wide} pixels do not fit in a photograph of "
                f"{photos[0].shape[0]}x{photos[0].shape[1]}; use a smaller scale"
            )
        where = rng.uniform((2,), name="corner")
        out = np.empty((len(rng), h, w, channels), dtype=np.uint8)
        for row, (example, (down, right)) in enumerate(zip(rng.ids, where, strict=True)):
            photo = photos[int(example) % 2]
            top, left = int(down * (photo.shape[0] - tall + 1)), int(right * (photo.shape[1] - wide + 1))
            patch = photo[top : top + tall, left : left + wide].reshape(h, self.scale, w, self.scale, 3)
            mean = np.floor(patch.mean(axis=(1, 3), dtype=np.float64) + 0.5).astype(np.uint8)
            out[row] = to_channels(mean, channels)
        return out


@dataclass(frozen=True)
class ScrambledPatches(Checked):
    """The in-distribution images with their tiles in another order.

    A tile is h // grid x w // grid pixels; what is left over at the lower and right edge stays where it is.

    >>> from testbed.data.packaged import Digits
    >>> few = Digits().load("all").take(slice(3))
    >>> odd = ScrambledPatches(grid=2).derive(few, Rng("scrambled_patches", 1, 0, few.ids))
    >>> bool((odd.sum() == few.x.sum()) and (odd != few.x).any(axis=(1, 2, 3)).all())
    True
    """

    grid: Count = 4

    version: ClassVar[int] = 1
    source: ClassVar[Literal["spec", "id"]] = "id"

    def sizes(self) -> dict[str, int]:
        """No parts of its own: it has as many examples as the set it is made from."""
        return {}

    def derive(self, given: Examples, rng: Rng) -> Array:
        """uint8 images like `given.x`, one an id of `rng` (the ids of `given`)."""
        _, h, w, _ = given.x.shape
        tile_h, tile_w = h // self.grid, w // self.grid
        if self.grid < 2 or not tile_h or not tile_w:
            raise UsageError(
                f"scrambled-patches: a grid of {self.grid} does not cut a {h}x{w} image into tiles; use 2..{min(h, w)}"
            )
        corners = [(r * tile_h, c * tile_w) for r in range(self.grid) for c in range(self.grid)]
        out = given.x.copy()
        for image, scrambled, generator in zip(given.x, out, rng.generators(name="tiles"), strict=True):
            for (top, left), source in zip(corners, moved(len(corners), generator), strict=True):
                from_top, from_left = corners[source]
                scrambled[top : top + tile_h, left : left + tile_w] = image[
                    from_top : from_top + tile_h, from_left : from_left + tile_w
                ]
        return out


def moved(count: int, generator: np.random.Generator) -> Array:
    """A random order of `count` things that is not the original order."""
    while True:
        found = np.argsort(generator.random(count), kind="stable")
        if (found != np.arange(count)).any():
            return found

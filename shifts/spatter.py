"""Spatter of ImageNet-C: drops of water or mud (Hendrycks and Dietterich 2019).

A layer N(loc, sd) is smoothed by a Gaussian of `sigma` and set to 0 below `threshold`.
    mud    m = Gaussian(layer > threshold, `strength`), 0 below 0.8;  x (1 - m) + m (63, 42, 20) / 255
    water  the layer as 8 bits; distance to its Canny(50, 150) edges, at most 20, box-blurred 3 x 3, histogram
    equalised,
           embossed by ((-2 -1 0) (-1 1 1) (0 1 2)), box-blurred; m = layer distance / its maximum times `strength`;
           x + m (175, 238, 238) / 255
Images of fewer channels take the first colours, those of more repeat the last one (MNIST-C's mud is 63 / 255).
Accepted trade-off: smoothing is in float32, so a Canny edge may fall elsewhere in a few pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .blur import EDGE
from .filters import gaussian_blur
from .tables import Setting

MUD, WATER = (63.0, 42.0, 20.0), (175.0, 238.0, 238.0)
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)


@dataclass(frozen=True)
class Spatter(Corruption):
    """Drops on the lens."""

    name = "spatter"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """layer: standard normal, one a pixel."""
        return {"layer": rng.normal(shape[:2], name="layer")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Water below mud = 0.5, mud from there."""
        from . import pixels

        layers = np.asarray(draws["layer"], np.float32) * np.float32(at["sd"])
        layers += np.float32(at["loc"])
        muddy = at["mud"] >= 0.5
        cover = np.empty_like(layers)
        for layer, into in zip(layers, cover, strict=True):
            liquid = gaussian_blur(layer, at["sigma"])
            liquid[liquid < at["threshold"]] = 0
            into[...] = mud(liquid, at["threshold"], at["strength"]) if muddy else water(liquid, at["strength"])
        colour = np.array([(MUD if muddy else WATER)[min(k, 2)] for k in range(images.shape[3])], np.float32)
        return pixels.covered(images, cover, colour, muddy, EDGE if self.compat else 0.5)


def mud(liquid: NDArray[np.float32], threshold: float, sigma: float) -> NDArray[np.float32]:
    """How much of each pixel mud covers, `[h w]` in [0, 1]."""
    cover = gaussian_blur((liquid > threshold).astype(np.float32), sigma)
    cover[cover < 0.8] = 0
    return cover


def water(liquid: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """How much water is added to each pixel, `[h w]` in [0, strength]; zeros where the layer is empty."""
    import cv2

    drops = (np.clip(liquid, 0, 1) * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    near = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    embossed = cv2.blur(cv2.filter2D(cv2.equalizeHist(near), cv2.CV_8U, EMBOSS), (3, 3))
    wet: NDArray[np.float32] = drops * embossed.astype(np.float32)
    most = wet.max()
    return wet * np.float32(strength / most) if most > 0 else wet

"""Snow of ImageNet-C (Hendrycks and Dietterich 2019).

1. A layer of N(loc, sd) a pixel, magnified by `zoom` about its centre, set to 0 below `threshold`, clipped and cut
to 8 bits. 2. Motion blur of the layer (radius, sigma) at an angle of U(-135, -45) degrees (see `shifts.motion`).
3. Pixels are whitened, x mix + (1 - mix) max(x, 1.5 grey + 0.5), and the layer and the layer turned by 180 degrees
added. Grey is 0.299 R + 0.587 G + 0.114 B, for other channel counts the channels' mean. Quirk kept in compat mode: the
flakes of the layer come twice, the second time upside down; without it once, and with a two-sided motion blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .filters import zoom_line
from .motion import streak
from .tables import Setting


@dataclass(frozen=True)
class Snow(Corruption):
    """Falling snow: blurred flakes over a whitened image."""

    name = "snow"

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """layer: standard normal, one a pixel; angle: degrees, uniform on [-135, -45)."""
        return {"layer": rng.normal(shape[:2], name="layer"), "angle": rng.uniform((), -135.0, -45.0, name="angle")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Flakes, streaks, white."""
        from . import kernels, pixels

        rows, columns = (zoom_line(size, max(at["zoom"], 1.0)) for size in images.shape[1:3])
        layer = np.asarray(draws["layer"], np.float32) * np.float32(at["sd"])
        layer += np.float32(at["loc"])
        flakes = pixels.flakes(layer, *rows, *columns, at["threshold"])
        angle, radius = np.asarray(draws["angle"], np.float64), at.whole("radius")
        weights, offsets = streak(angle, radius, at["sigma"], one_sided=self.compat)
        streaks = kernels.taps(flakes[..., None], weights, offsets, 1e-3)[..., 0]
        return pixels.snowed(images, streaks, at["mix"], self.compat)

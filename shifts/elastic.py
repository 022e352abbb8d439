"""Elastic transform of ImageNet-C: a random affine map, then a smooth displacement (Hendrycks and Dietterich 2019).

1. Three points (the centre c plus (q, q), (q, -q), (-q, -q), q a third of the shorter side) move by U(-affine, affine)
   pixels each; the affine map through them is applied, edges mirrored without repeating the edge pixel.
2. dx, then dy: U(-1, 1) a pixel, smoothed by a Gaussian of `sigma` cut at 3 sigma, edges mirrored, times `alpha`; the
   pixel at p takes the value at p + (dy, dx), bilinear, edges mirrored.

Quirks kept in compat mode: the image is resampled twice, and the imagenet224 table is 244, not 224, times the published
fractions ("inception299" is 360 times). The levels are not in order: at 32 px the image gets closer to the clean
one from level 1 to 5, at 224 px from level 2 to 3. Without compat both maps are one, resampled once.
Accepted trade-off: the affine map is resampled in floating point where OpenCV rounds positions to 1/32 pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .blur import EDGE
from .filters import smoothing_matrix
from .tables import Setting


@dataclass(frozen=True)
class ElasticTransform(Corruption):
    """Rubber-sheet distortion."""

    name = "elastic_transform"
    zero = {"alpha": 0.0, "affine": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """points: uniform on [-1, 1), `[n 3 2]`, moves of the points; field: the same, `[n 2 h w]`, dx then dy."""
        points = rng.uniform((3, 2), -1.0, 1.0, name="points")
        return {"points": points, "field": rng.uniform((2, *shape[:2]), -1.0, 1.0, name="field")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """Affine map, then displacement."""
        from . import kernels

        h, w = images.shape[1:3]
        maps = point_maps(np.asarray(draws["points"], np.float64) * at["affine"], h, w)
        across, down = (smoothing_matrix(size, at["sigma"], 3.0) for size in (w, h))
        field = np.matmul(np.matmul(down, np.asarray(draws["field"], np.float32)), across.T) * np.float32(at["alpha"])
        return kernels.elastic(images, maps, field, self.compat, EDGE if self.compat else 0.5)


def point_maps(moves: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Inverse affine maps `[n 2 3]` on (row, column, 1): of the maps that move the points by `moves` `[n 3 2]` (x, y).

    >>> point_maps(np.full((1, 3, 2), 2.0), 32, 32)[0].round(9).tolist()  # all points by +2: look 2 up, 2 left
    [[1.0, 0.0, -2.0], [-0.0, 1.0, -2.0]]
    """
    reach = max(min(height, width) // 3, 1)
    centre = np.array([width // 2, height // 2], np.float64)
    points = centre + reach * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    corners = np.linalg.inv(np.column_stack([points, np.ones(3)]))
    forward = np.einsum("ij,njk->nki", corners, points + moves)  # x, y of the target from (x, y, 1)
    linear, shift = forward[:, :, :2], forward[:, :, 2]
    a, b, c, d = linear[:, 0, 0], linear[:, 0, 1], linear[:, 1, 0], linear[:, 1, 1]
    scale = 1 / (a * d - b * c)
    to_x = np.stack([-b * scale, d * scale, (b * shift[:, 1] - d * shift[:, 0]) * scale], axis=1)
    to_y = np.stack([a * scale, -c * scale, (c * shift[:, 0] - a * shift[:, 1]) * scale], axis=1)
    return np.stack([to_y, to_x], axis=1)

"""Brightness, contrast and saturation of ImageNet-C (Hendrycks and Dietterich 2019).

    brightness  HSV value V = max of the channels; V' = min(V + add, 1), pixel x' = x V' / V (black becomes grey V')
    contrast    (x - mean) factor + mean, mean of the image a channel
    saturate    HSV saturation S = (V - min) / V; S' = clip(factor S + add, 0, 1), x' = V - (V - x) S' / S

Hue and value do not change, so neither needs the way to HSV and back. Both hold for any number of channels; a single
channel has no saturation and `saturate` leaves it alone. Quirk kept in compat mode: where S = 0 (grey) the hue is
undefined and read as red, so `saturate` with add > 0 tints grey red. Without compat grey stays grey.
"""

from __future__ import annotations

from dataclasses import dataclass

from .base import Bytes, Corruption, Draws
from .blur import EDGE
from .tables import Setting


@dataclass(frozen=True)
class Brightness(Corruption):
    """A constant added to the HSV value.

    >>> import numpy as np
    >>> Brightness(severity=5, params="imagenet224").change(np.array([[[[100, 50, 0]]]], np.uint8), {},
    ...     Brightness(severity=5, params="imagenet224").setting((1, 1, 3)))[0, 0, 0].tolist()
    [227, 113, 0]
    """

    name = "brightness"
    zero = {"add": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """x V' / V."""
        from . import pixels

        return pixels.brightness(images, 255 * at["add"], EDGE if self.compat else 0.5)


@dataclass(frozen=True)
class Contrast(Corruption):
    """Distance from the channel's mean, scaled."""

    name = "contrast"
    zero = {"factor": 1.0}  # noqa: RUF012

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """(x - mean) factor + mean."""
        from . import pixels

        return pixels.contrast(images, at["factor"], EDGE if self.compat else 0.5)


@dataclass(frozen=True)
class Saturate(Corruption):
    """HSV saturation scaled and raised."""

    name = "saturate"
    zero = {"factor": 1.0, "add": 0.0}  # noqa: RUF012

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """V - (V - x) S' / S."""
        from . import pixels

        return pixels.saturate(images, at["factor"], at["add"], self.compat, EDGE if self.compat else 0.5)

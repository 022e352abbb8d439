"""Frost of ImageNet-C: ice crystals on the pane (Hendrycks and Dietterich 2019), on textures of our own.

x' = keep x + ice texture, the texture cut at a random place; `scale` is how far it is shrunk first (0.2 at 32 px),
by taking single pixels as OpenCV's bilinear resize does.

The published set uses photographs whose origin nobody states, so they are not here. Each of the four textures is a
periodic random field with the radial power spectrum of one of them, mapped to its quantiles a channel
(`tables/frost.json`
holds these figures): 512 x 512, from a fixed seed. It is frost in brightness, contrast, colour and grain, not in shape:
crystals are oriented, this field is not. Quirk kept in compat mode: of the five photographs drawn from, two are the
same, so one texture has probability 0.4; without compat all four are as likely.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from testbed.seeding import Rng
from testbed.types import Array

from .base import Bytes, Corruption, Draws
from .blur import EDGE
from .tables import Setting

SIDE: Final = 512

#: The five published files and the textures that stand for them.
DRAWN: Final = (0, 1, 1, 2, 3)


@dataclass(frozen=True)
class Frost(Corruption):
    """Ice crystals over the image."""

    name = "frost"
    zero = {"keep": 1.0, "ice": 0.0}  # noqa: RUF012 - a ClassVar of the base

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """place: uniform on [0, 1), `[n 3]`: which texture, and row and column of the cut."""
        return {"place": rng.uniform((3,), name="place")}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """keep x + ice texture."""
        from . import pixels

        place = np.asarray(draws["place"], np.float64)
        drawn = np.array(DRAWN if self.compat else sorted(set(DRAWN)))
        which = drawn[(place[:, 0] * len(drawn)).astype(np.int64)]
        start = (place[:, 1:] * SIDE).astype(np.int64)
        ice = textures(images.shape[3])
        return pixels.frosted(
            images, ice, which, start, at["keep"], at["ice"], at["scale"], EDGE if self.compat else 0.5
        )


@lru_cache(maxsize=4)
def textures(channels: int) -> Bytes:
    """The textures, uint8 `[4 side side channels]`: RGB, its grey for one channel, the last colour repeated for more.

    >>> textures(3).shape, textures(3).mean(axis=(1, 2)).round()[1].tolist()
    ((4, 512, 512, 3), [200.0, 204.0, 213.0])
    """
    facts = json.loads((Path(__file__).parent / "tables" / "frost.json").read_text(encoding="utf-8"))
    colour = np.stack([_texture(one, facts["quantiles_at"]) for one in facts["textures"]])
    if channels == 1:
        return np.asarray(np.rint(colour @ np.array([0.299, 0.587, 0.114]))[..., None], np.uint8)
    return np.ascontiguousarray(colour[..., np.minimum(np.arange(channels), 2)])


def _texture(facts: dict[str, Any], at: list[float]) -> Bytes:
    """One texture: common field g and own field e mixed a channel, then each mapped to the channel's quantiles."""
    from scipy.special import ndtr

    rng = np.random.Generator(np.random.Philox(key=facts["seed"]))
    common, own = (_field(rng, facts["frequency"], facts["log_power"]) for _ in range(2))
    out = np.empty((SIDE, SIDE, 3), np.uint8)
    for channel, (unlike, quantiles) in enumerate(zip(facts["unlike"], facts["quantiles"], strict=True)):
        field = ndtr((1 - unlike**2) ** 0.5 * common + unlike * own)
        out[:, :, channel] = np.rint(np.interp(field, at, quantiles))
    return out


def _field(rng: np.random.Generator, frequency: list[float], log_power: list[float]) -> NDArray[np.float64]:
    """A periodic Gaussian field with this radial spectrum, mean 0, variance 1."""
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    radius[0, 0] = frequency[0]
    amplitude = 10 ** (np.interp(np.log(radius), np.log(frequency), log_power) / 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * amplitude, s=(SIDE, SIDE))
    return np.asarray((field - field.mean()) / field.std())

"""MNIST-1D: ten digits as one-dimensional strokes of 40 points, drawn by the published recipe (Greydanus 2020).

A class is a template of 12 points. An example pads it with 36 to 60 zeros, stretches it to 72 points, scales it by up
to +-20 %, turns it round by up to 47 places, fills the padding with smooth noise (normal, sd 0.25, Gaussian filter of
sigma 2), adds white noise (sd 0.02), tilts it by up to +-0.375 over its length and takes 40 points by interpolation.
The published set then standardises itself as a whole; here the constants `MEAN` and `STD` do that (measured on
200,000 examples), so that an example is a function of (seed, id) alone. The draws are this project's: the
distribution is that of the published set, the examples are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from testbed.data.base import check_part, ids_of
from testbed.data.packaged import DIGITS
from testbed.parameters import Checked, Count, Seed
from testbed.seeding import Rng
from testbed.types import Array, Examples, Float64, Ints, Paper, Spec

#: The strokes of the digits 0 to 9, as published; each starts and ends at 5.
STROKES: Final = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)

PADDING, TURN, SCALE, TILT = (36, 60), 48, 0.4, 0.75
SMOOTH_NOISE, WHITE_NOISE, SIGMA = 0.25, 0.02, 2.0
STROKE, LONG, POINTS = 12, 12 + PADDING[1], 40
#: Mean and standard deviation of all points before standardising.
MEAN, STD = -0.00605, 0.1546
#: Values are cut to this after standardising; none of 200,000 examples reached it.
LIMIT: Final = 5.0


@dataclass(frozen=True)
class Mnist1d(Checked):
    """MNIST-1D: series of 40 points of one channel, 4,000 for training and 1,000 for testing, classes in turn.

    seed  which set is drawn

    >>> Mnist1d(train_size=20, test_size=10).load("test").x.shape
    (10, 40, 1)
    """

    train_size: Count = 4000
    test_size: Count = 1000
    seed: Seed = 42

    version: ClassVar[int] = 1
    draws: ClassVar[int] = 1
    reference: ClassVar[Paper] = Paper("Scaling down Deep Learning", "Sam Greydanus", 2020, "arXiv", "2011.14439")

    def sizes(self) -> dict[str, int]:
        return {"train": self.train_size, "test": self.test_size}

    def spec(self) -> Spec:
        return Spec("series", (POINTS, 1), 10, "float32", "tc", ((-LIMIT, LIMIT),), class_names=DIGITS)

    def files(self) -> tuple[Path, ...]:
        return ()

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "mnist1d")
        ids = ids_of(part, range(self.sizes()[part]))
        y = np.arange(len(ids), dtype=np.int64) % 10
        values = (drawn(y, Rng("mnist1d", self.draws, self.seed, ids)) - MEAN) / STD
        return Examples(np.clip(values, -LIMIT, LIMIT).astype(np.float32)[:, :, None], y, ids, self.spec())


def templates() -> Float64:
    """float64 `[10, 12]`: the strokes, standardised, from 0 to 0, divided by 6."""
    x = np.array(STROKES, np.float64)
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    return np.asarray((x - x[:, :1]) / 6)


def drawn(y: Ints, rng: Rng) -> Float64:
    """float64 `[n, 40]`: one example of each label of `y`, before standardising."""
    from scipy.ndimage import gaussian_filter1d

    unit = rng.uniform(4, name="shape").astype(np.float64)
    noise = rng.normal((2, LONG), name="noise").astype(np.float64)
    lengths = STROKE + PADDING[0] + (unit[:, 0] * (PADDING[1] - PADDING[0] + 1)).astype(np.int64)
    x = np.stack([stretched(stroke, length) for stroke, length in zip(templates()[y], lengths, strict=True)])
    x *= 1 + SCALE * (unit[:, 1:2] - 0.5)
    turns = (unit[:, 2] * TURN).astype(np.int64)
    x = np.take_along_axis(x, (np.arange(LONG) - turns[:, None]) % LONG, axis=1)
    smooth = gaussian_filter1d(SMOOTH_NOISE * noise[:, 0], SIGMA, axis=1)
    x = np.where(x != 0, x, smooth) + WHITE_NOISE * noise[:, 1]
    x -= TILT * (unit[:, 3:4] - 0.5) * np.linspace(-0.5, 0.5, LONG)
    return sampled(x, POINTS)


def stretched(stroke: Array, length: int) -> Float64:
    """The stroke and zeros up to `length`, interpolated to 72 points; the stroke is never exactly 0, its padding is."""
    padded = np.concatenate([stroke + 1e-8, np.zeros(length - len(stroke))])
    return np.asarray(sampled(padded[None], LONG)[0])


def sampled(x: Array, points: int) -> Float64:
    """Each row of `[n, m]` at `points` even places, by linear interpolation.

    >>> sampled(np.array([[0.0, 1.0, 2.0]]), 5).tolist()
    [[0.0, 0.5, 1.0, 1.5, 2.0]]
    """
    place = np.linspace(0, x.shape[1] - 1, points)
    left = np.minimum(place.astype(np.int64), x.shape[1] - 2)
    share = place - left
    return np.asarray(x[:, left] * (1 - share) + x[:, left + 1] * share)

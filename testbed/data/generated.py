"""Out-of-distribution sets made from random numbers, with the size and channels of the set they stand beside.

    gaussian  every value ~ N(mean, std^2), clipped to [0, 1]
    uniform   every value ~ U[0, 1)
    blobs     shapeless spots with sharp edges: Bernoulli(p) noise, blurred with a Gaussian of sigma pixels, values
              below the threshold set to 0 (the recipe of Hendrycks et al. 2019, appendix)
Values become uint8 by rounding value * 255. Example i is a function of (set, seed, i): it does not depend on how
many are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from testbed.parameters import Checked, Count, NonNegative, Share
from testbed.seeding import Rng
from testbed.types import Array, Floats, Paper, Spec

_OE = Paper(
    "Deep Anomaly Detection with Outlier Exposure",
    "Dan Hendrycks, Mantas Mazeika, Thomas Dietterich",
    2019,
    "ICLR",
    "1812.04606",
)


@dataclass(frozen=True)
class Generated(Checked):
    """What generated sets share: `n` examples, no labels, the spec of the set they stand beside."""

    n: Count = 1000

    version: ClassVar[int] = 1
    source: ClassVar[Literal["spec", "id"]] = "spec"

    def sizes(self) -> dict[str, int]:
        return {"all": self.n}


@dataclass(frozen=True)
class Gaussian(Generated):
    """Gaussian noise. The MSP paper's set is `mean: 0.5, std: 1`.

    >>> Gaussian(n=2).draw(Spec("image", (4, 4, 1), 10), Rng("gaussian", 1, 0, [0, 1])).shape
    (2, 4, 4, 1)
    """

    mean: float = 0.5
    std: NonNegative = 1.0

    reference: ClassVar[Paper] = Paper(
        "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks",
        "Dan Hendrycks, Kevin Gimpel",
        2017,
        "ICLR",
        "1610.02136",
    )

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Values of `like`'s shape and dtype, one row an id of `rng`."""
        return quantise(rng.normal(like.shape, name="value") * np.float32(self.std) + np.float32(self.mean), like)


@dataclass(frozen=True)
class Uniform(Generated):
    """Uniform noise."""

    reference: ClassVar[Paper] = Gaussian.reference

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Values of `like`'s shape and dtype, one row an id of `rng`."""
        return quantise(rng.uniform(like.shape, name="value"), like)


@dataclass(frozen=True)
class Blobs(Generated):
    """Random spots with sharp edges; images only."""

    p: Share = 0.7
    sigma: NonNegative = 1.5
    threshold: Share = 0.75

    reference: ClassVar[Paper] = _OE

    def draw(self, like: Spec, rng: Rng) -> Array:
        """Images of `like`'s shape, one row an id of `rng`."""
        from scipy.ndimage import gaussian_filter

        noise = (rng.uniform(like.shape, name="value") < self.p).astype(np.float32)
        smooth = gaussian_filter(noise, sigma=(0, self.sigma, self.sigma, 0), truncate=4.0)
        smooth[smooth < self.threshold] = 0.0
        return quantise(smooth, like)


def quantise(values: Floats, like: Spec) -> Array:
    """Values in [0, 1] (clipped to it) as `like` stores them: uint8, or float32 spread over its bounds."""
    unit: Array = np.clip(values, 0.0, 1.0)
    if like.dtype == "uint8":
        return (unit * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    low, high = (np.array(side, dtype=np.float32) for side in zip(*like.bounds, strict=True))
    spread: Array = (low + unit * (high - low)).astype(np.float32)
    return spread

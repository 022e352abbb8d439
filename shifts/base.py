"""What the built-in image shifts have in common: parameters, the split into draws and their use, the way to uint8.

A shift says `sample(shape, rng)` (its draws for images of shape `(h, w, c)`: a dict of arrays, one row an example) and
`change(images, draws)` (what it does to them). No draw depends on the severity or the parameter set, so the points of a
severity curve differ by the severity alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.parameters import Checked, Severity
from testbed.seeding import Rng
from testbed.types import Array, Paper

from .tables import SetName, Setting, setting

HENDRYCKS = Paper(
    "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    "Hendrycks, D. and Dietterich, T.",
    2019,
    "ICLR",
    "1903.12261",
)
MNIST_C = Paper(
    "MNIST-C: A Robustness Benchmark for Computer Vision",
    "Mu, N. and Gilmer, J.",
    2019,
    "ICML Workshop on Uncertainty and Robustness",
    "1906.02337",
)

Bytes = NDArray[np.uint8]
Draws = Mapping[str, Array]


@dataclass(frozen=True)
class Corruption(Checked):
    """Base of the shifts that have severity tables.

    severity  in [0, 5]; 0 is the identity, 1 to 5 are the published levels, fractions lie between them
    params    which published table; auto takes it by the image's size (see `shifts.tables`)
    compat    keep the quirks of the published scripts that change published numbers (each is named at its shift);
              the one all share: values are cut, not rounded, to uint8
    """

    severity: Severity = 3.0
    params: SetName = "auto"
    compat: bool = True

    version: ClassVar[int] = 1
    draws: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    level: ClassVar[str] = "example"
    reference: ClassVar[Paper] = HENDRYCKS
    #: name of the table; parameter values that change nothing; parameters that interpolate as 1/value
    name: ClassVar[str] = ""
    zero: ClassVar[Mapping[str, float]] = {}
    reciprocal: ClassVar[tuple[str, ...]] = ()

    def setting(self, shape: tuple[int, ...]) -> Setting:
        """The parameter values in force for images of shape `(h, w, c)`."""
        return setting(self.name, self.params, shape, self.severity, self.zero, self.reciprocal)

    def taken(self, shape: tuple[int, ...]) -> str:
        """Which parameter set that is."""
        return self.setting(shape).taken

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """The draws for images of shape `(h, w, c)`: none unless a shift says otherwise."""
        return {}

    def change(self, images: Bytes, draws: Draws, at: Setting) -> Bytes:
        """The images under the shift, with these draws and parameter values."""
        raise NotImplementedError

    def apply(self, images: Bytes, draws: Draws) -> Bytes:
        """The images under the shift with these draws; uint8 `[n h w c]` to the same."""
        at = self.setting(images.shape[1:])
        changed = self.change(images, draws, at)
        return changed if at.mix == 1 else mixed(images, changed, at.mix)

    def __call__(self, images: Bytes, *, rng: Rng) -> Bytes:
        """The images under the shift with fresh draws."""
        return self.apply(images, self.sample(images.shape[1:], rng))


def mixed(clean: Bytes, changed: Bytes, share: float) -> Bytes:
    """`(1 - share) clean + share changed`, rounded: severities below the first level where no parameter reaches zero.

    >>> mixed(np.array([100], np.uint8), np.array([200], np.uint8), 0.25)
    array([125], dtype=uint8)
    """
    away = changed.astype(np.float32) - clean
    return np.rint(clean + np.float32(share) * away).astype(np.uint8)


def to_bytes(values: NDArray[np.float32], compat: bool) -> Bytes:
    """Float values on the 0..255 scale as uint8, in place: clipped, then cut as the published scripts do, or rounded.

    >>> to_bytes(np.array([-3, 7.9, 300], np.float32), compat=True)
    array([  0,   7, 255], dtype=uint8)
    """
    np.clip(values, 0, 255, out=values)
    if not compat:
        np.rint(values, out=values)
    return values.astype(np.uint8)

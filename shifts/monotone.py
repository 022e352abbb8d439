"""A corruption whose severity is set by what it does to the image, not by the published table.

The published tables are not monotone: elastic_transform gets milder at 32 and at 224 px, and at 32 px glass_blur and
frost have milder levels above stronger ones. Here the severity s asks for a quality of each image,

    ssim   1 - 0.16 s        0.84 0.68 0.52 0.36 0.20 at s = 1..5
    psnr   35 - 4 s dB       31 27 23 19 15

and the corruption's own continuous severity t is raised from 0 until the image has it: the first crossing on a grid of
steps of 0.2, then bisection. Where t = 5 does not reach it, the strongest point of the way stands. The draws of an
image are those that the corruption itself has, for all t, so quality never rises with s. Images are treated alone.
Accepted trade-off: about 30 evaluations of the corruption an image; between grid points a milder stretch is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.errors import UsageError
from testbed.parameters import Checked, Severity
from testbed.plugins import read
from testbed.seeding import Rng
from testbed.types import Array, Paper

from .base import HENDRYCKS, Bytes, Corruption, Draws
from .quality import psnr, ssim
from .tables import SetName

GRID = 25
BISECTIONS = 5


@dataclass(frozen=True)
class Monotone(Checked):
    """The corruption `of` at the strength that gives each image the quality its severity asks for.

    >>> image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    >>> found = Monotone("gaussian_noise", severity=2, by="psnr")(image, rng=Rng("monotone", 1, 0, [0]))
    >>> bool(abs(psnr(image, found)[0] - 27) < 0.2)
    True
    """

    of: str
    severity: Severity = 3.0
    by: Literal["ssim", "psnr"] = "ssim"
    params: SetName = "auto"

    name: ClassVar[str] = "monotone"
    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    level: ClassVar[str] = "example"
    reference: ClassVar[Paper] = HENDRYCKS

    @cached_property
    def inner(self) -> Corruption:
        """The corruption at its strongest level. Raises UsageError where `of` names none with severity tables."""
        plugin = read("shift", self.of)
        built = plugin.build(params=self.params) if self.params != "auto" else plugin.build()
        if not isinstance(built, Corruption):
            raise UsageError(f"monotone: {self.of!r} has no severity table; name a corruption, as fog")
        return replace(built, severity=5.0)

    def identity(self) -> dict[str, Any]:
        """The version of the corruption, for the digest."""
        return {"version": self.inner.version}

    @property
    def target(self) -> float:
        """The quality that the severity asks for."""
        return 1 - 0.16 * self.severity if self.by == "ssim" else 35 - 4 * self.severity

    def quality(self, clean: Bytes, shifted: Bytes) -> NDArray[np.float64]:
        """Quality of each image, larger = closer to the clean one."""
        return ssim(clean, shifted) if self.by == "ssim" else psnr(clean, shifted)

    def at(self, images: Bytes, draws: Draws, strength: float) -> Bytes:
        """The corruption at its own severity `strength`."""
        return images.copy() if strength == 0 else replace(self.inner, severity=strength).apply(images, draws)

    def __call__(self, images: Bytes, *, rng: Rng) -> Bytes:
        """Each image at the strength that it needs."""
        return self.apply(images, self.sample(images.shape[1:], rng))

    def sample(self, shape: tuple[int, ...], rng: Rng) -> dict[str, Array]:
        """The draws that the corruption itself has."""
        return self.inner.sample(shape, Rng(self.of, self.inner.draws, rng.seed, rng.ids))

    def apply(self, images: Bytes, draws: Draws) -> Bytes:
        """Each image at the strength that it needs, with these draws."""
        if self.severity == 0:
            return images.copy()
        grid = np.linspace(0, 5, GRID + 1)
        values = np.stack([self.quality(images, self.at(images, draws, float(t))) for t in grid])
        out = np.empty_like(images)
        for i, way in enumerate(values.T):
            one, mine = images[i : i + 1], {name: drawn[i : i + 1] for name, drawn in draws.items()}
            out[i] = self.at(one, mine, self.found(one, mine, grid, way))[0]
        return out

    def found(self, image: Bytes, draws: Draws, grid: NDArray[np.float64], way: NDArray[np.float64]) -> float:
        """The strength at which one image first has the quality asked for; `way` is its quality on the grid."""
        reached = np.flatnonzero(way <= self.target)
        if not len(reached):
            return float(grid[np.argmin(way)])
        low, high = float(grid[max(reached[0] - 1, 0)]), float(grid[reached[0]])
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self.quality(image, self.at(image, draws, middle))[0] <= self.target:
                high = middle
            else:
                low = middle
        return high

"""Kernel PCA reconstruction errors (Fang et al., NeurIPS 2024).

Features are mapped, centred and projected on their leading principal components U; the score is what is left,
||(I - U U')(phi(z) - mean phi)||.

    cop    phi(z) = z / ||z||, whose products are the cosine kernel
    corp   phi(z) = random Fourier features of z / ||z|| for the Gaussian kernel exp(-gamma ||a - b||^2)

The number of components is the smallest that explains `variance` of the training variance. The authors tune it, and
gamma, by data set; the defaults here are their CIFAR-10 ResNet-18 ones (ImageNet ResNet-50: 0.99 for cop; 0.5 and
gamma 3 for corp).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from annotated_types import Ge

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.numeric import unit_rows
from testbed.errors import DataError
from testbed.parameters import OpenShare, Positive, Seed
from testbed.seeding import Rng
from testbed.types import Float64, Outputs, Paper

_PAPER: Final = Paper(
    "Kernel PCA for Out-of-Distribution Detection",
    "Kun Fang, Qinghua Tao, Kexin Lv, Mingzhen He, Xiaolin Huang, Jie Yang", 2024, "NeurIPS", "2402.02949",
)  # fmt: skip


@dataclass(frozen=True)
class CoP(Detector):
    """Reconstruction error under the cosine kernel, >= 0; consumes features, fitted on training outputs.

    variance  share of the training variance that the kept components explain, in (0, 1)
    """

    variance: OpenShare = 0.85

    consumes = ("features",)
    fitted_on = "train"
    reference: ClassVar[Paper] = _PAPER

    def __post_init__(self) -> None:
        require(0 < self.variance < 1, "variance", "a number in (0, 1)", self.variance)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """Mean `[m]` and components `[m r]` of the mapped features."""
        return principal_components(unit_rows(np.asarray(outputs.features)), self.variance)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The reconstruction error."""
        z = np.asarray(outputs.features)
        same_width(z, len(state["mean"]), "cop")
        return reconstruction_error(unit_rows(z), state)


@dataclass(frozen=True)
class CoRP(CoP):
    """Reconstruction error under the cosine-Gaussian kernel, >= 0; consumes features, fitted on training outputs.

    variance  share of the training variance that the kept components explain, in (0, 1)
    gamma     of the kernel exp(-gamma ||a - b||^2) between unit vectors
    features  how many random Fourier features; null = 4 a feature, as the authors have (2048 for 512)
    seed      of the random frequencies
    """

    variance: OpenShare = 0.8
    gamma: Positive = 2.0
    features: Annotated[int, Ge(2)] | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gamma > 0, "corp.gamma", "a positive number", self.gamma)
        require(self.features is None or self.features >= 2, "corp.features", "at least 2, or null", self.features)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """As CoP, and the frequencies `[d m]` and phases `[m]`."""
        unit = unit_rows(np.asarray(outputs.features))
        basis = random_basis(unit.shape[1], self.features or 4 * unit.shape[1], self.gamma, self.seed)
        return basis | principal_components(fourier(unit, basis), self.variance)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The reconstruction error."""
        z = np.asarray(outputs.features)
        same_width(z, len(state["frequencies"]), "corp")
        return reconstruction_error(fourier(unit_rows(z), state), state)


def random_basis(width: int, features: int, gamma: float, seed: int) -> dict[str, Any]:
    """Frequencies `[width, features]`, normal with variance 2 gamma, and phases `[features]`, uniform on [0, 2 pi)."""
    rng = Rng("corp", 1, seed, np.arange(features))
    frequencies = np.sqrt(2 * gamma) * rng.normal((width,), name="frequency").astype(np.float64).T
    phases = rng.uniform((), 0.0, 2 * np.pi, name="phase").astype(np.float64)
    return {"frequencies": np.ascontiguousarray(frequencies), "phases": phases}


def fourier(unit: Float64, basis: State) -> Float64:
    """sqrt(2 / m) cos(x omega + phase), float64 `[n m]` (Rahimi & Recht 2007)."""
    waves: Float64 = np.cos(unit @ basis["frequencies"] + basis["phases"])
    waves *= np.sqrt(2.0 / len(basis["phases"]))
    return waves


def principal_components(mapped: Float64, variance: float) -> dict[str, Any]:
    """Mean and the leading components that explain `variance` of the variance; DataError where there is none."""
    mean = mapped.mean(axis=0)
    centred = mapped - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(mapped))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if not values[0] > 0:
        raise DataError(
            "kernel PCA: the training features point in one direction only, so there is no variance to explain"
        )
    rank = int(np.searchsorted(np.cumsum(values) / values.sum(), variance) + 1)
    return {"mean": mean, "components": np.ascontiguousarray(vectors[:, :rank])}


def reconstruction_error(mapped: Float64, state: State) -> Float64:
    """||(I - U U')(phi - mean)|| of each row."""
    centred = mapped - state["mean"]
    errors: Float64 = np.linalg.norm(centred - (centred @ state["components"]) @ state["components"].T, axis=1)
    return errors

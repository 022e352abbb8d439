"""Virtual-logit matching and its residual term (Wang et al., CVPR 2022).

Features are seen from the head's origin u = -W^+ b (where all logits are 0). R spans the directions in which the
training features vary least: the eigenvectors of E[(z - u)(z - u)'] beyond the `dim` largest.

    residual   ||(z - u) R||
    vim        alpha ||(z - u) R|| - logsumexp(f),   alpha = mean max logit / mean residual on the training set

W^+ is ill-defined where W is close to rank-deficient (softmax regression with weight decay makes the rows of W sum
to about 0): singular values at most `rcond` times the largest are cut, and a warning says how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from testbed.detection.base import Detector, Part, State, caution, require, same_width
from testbed.detection.numeric import float64, logsumexp
from testbed.errors import DataError
from testbed.parameters import Count, ShareBelowOne
from testbed.types import Float64, Outputs, Paper

_PAPER: Final = Paper(
    "ViM: Out-Of-Distribution with Virtual-logit Matching",
    "Haoqi Wang, Zhizhong Li, Litong Feng, Wayne Zhang", 2022, "CVPR", "2203.10807",
)  # fmt: skip


@dataclass(frozen=True)
class Residual(Detector):
    """Norm of the part of z - u outside the principal subspace; consumes features and head, fitted on training outputs.

    dim    dimensions of the principal subspace, below the features' width d. None: the paper's 1000 where d > 1500,
           512 where d >= 768, else half of d (256 for d = 512, as OpenOOD has it)
    rcond  cut-off of W^+, relative to the largest singular value
    """

    dim: Count | None = None
    rcond: ShareBelowOne = 1e-5

    consumes: ClassVar[tuple[Part, ...]] = ("features", "head")
    fitted_on = "train"
    reference: ClassVar[Paper] = _PAPER

    def __post_init__(self) -> None:
        require(self.dim is None or self.dim >= 1, f"{self._name}.dim", "at least 1, or null", self.dim)
        require(0 <= self.rcond < 1, f"{self._name}.rcond", "a number in [0, 1)", self.rcond)

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The origin u `[d]` and the minor directions R `[d, d - dim]`."""
        z = float64(np.asarray(outputs.features))
        dim = principal_dim(z.shape[1], self.dim, self._name)
        origin = head_origin(outputs, self.rcond, self._name)
        centred = z - origin
        _, vectors = np.linalg.eigh(centred.T @ centred / len(z))
        return {"origin": origin, "minor": np.ascontiguousarray(vectors[:, : z.shape[1] - dim])}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The residual norm."""
        z = np.asarray(outputs.features)
        same_width(z, len(state["origin"]), self._name)
        return residual_norm(float64(z), state)


@dataclass(frozen=True)
class ViM(Residual):
    """alpha ||(z - u) R|| - logsumexp(f); consumes logits, features and head, fitted on training outputs."""

    consumes = ("logits", "features", "head")

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """As Residual, and alpha."""
        state = super().learn(outputs)
        mean_residual = float(residual_norm(float64(np.asarray(outputs.features)), state).mean())
        if not mean_residual > 0:
            raise DataError(
                "vim: the training features have no part outside the principal subspace; choose a smaller dim"
            )
        mean_logit = float(float64(outputs.logits).max(axis=1).mean())
        if not mean_logit > 0:
            raise DataError(
                f"vim: the largest logits average {mean_logit:.3g}, so alpha is not positive: log-probabilities?"
            )
        return state | {"alpha": mean_logit / mean_residual}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The virtual logit against the energy."""
        score: Float64 = state["alpha"] * super().evaluate(state, outputs) - logsumexp(outputs.logits)
        return score


def principal_dim(width: int, dim: int | None, name: str) -> int:
    """The `dim` asked for, or the default for this width; DataError where it does not leave a direction over.

    >>> principal_dim(2048, None, "vim"), principal_dim(512, None, "vim"), principal_dim(64, 10, "vim")
    (1000, 256, 10)
    """
    if dim is None:
        dim = 1000 if width > 1500 else 512 if width >= 768 else max(1, width // 2)
    if dim >= width:
        raise DataError(f"{name}: dim = {dim} leaves nothing of features of width {width}; expected dim < {width}")
    return dim


def head_origin(outputs: Outputs, rcond: float, name: str) -> Float64:
    """u = -W^+ b, float64 `[d]`, with the explicit cut-off."""
    weight, bias = float64(np.asarray(outputs.head_weight)), float64(np.asarray(outputs.head_bias))
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    kept = values > rcond * values[0]
    if not kept.all():
        caution(
            f"{name}: the head's weight has rank {int(kept.sum())} of {len(kept)} (rcond {rcond:g}); its origin is cut"
        )
    inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
    origin: Float64 = -(right.T * inverse) @ (left.T @ bias)
    return origin


def residual_norm(features: Float64, state: State) -> Float64:
    """||(z - u) R|| of each row."""
    norms: Float64 = np.linalg.norm((features - state["origin"]) @ state["minor"], axis=1)
    return norms

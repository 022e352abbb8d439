"""Prediction sets with a coverage guarantee: split conformal prediction with LAC, APS and RAPS scores.

With p the probabilities sorted down and rank r(y) counted from 1,

    LAC   s(y) = 1 - p_y                                                    (Sadinle, Lei & Wasserman 2019)
    APS   s(y) = sum of the r(y) largest - U p_y                            (Romano, Sesia & Candes 2020)
    RAPS  s(y) = APS + lam max(0, r(y) - k_reg)                             (Angelopoulos et al. 2021)

U is uniform on [0, 1], one number an example, or 0 without randomisation, which covers more than asked. The threshold
is the ceil((n + 1)(1 - alpha))-th smallest score of the calibration labels (infinite where that exceeds n: all
classes), and a set holds all classes with s <= threshold: then P(y in set) >= 1 - alpha for exchangeable data.

Adaptive conformal inference (Gibbs & Candes 2021) keeps the long-run coverage on a drifting stream by moving alpha:
alpha <- alpha + gamma (target - missed).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from testbed.calibration.inputs import check_fit, check_rows
from testbed.errors import DataError
from testbed.metrics.options import one_of
from testbed.parameters import Checked, CountOrNone, NonNegative, OpenShare
from testbed.types import Array, Float64, Paper

Score = Literal["lac", "aps", "raps"]


def scores(p: Float64, score: Score, uniform: Array | None = None, lam: float = 0.01, k_reg: int = 5) -> Float64:
    """Nonconformity of every class, float64 `[n, k]`; `uniform` `[n]` in [0, 1], None for none.

    >>> p = np.array([[0.5, 0.3, 0.2]])
    >>> scores(p, "lac").tolist(), scores(p, "aps").round(6).tolist()
    ([[0.5, 0.7, 0.8]], [[0.5, 0.8, 1.0]])
    """
    one_of(score, Score, "conformal: score")
    if score == "lac":
        return np.asarray(1 - p)
    order = np.argsort(-p, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(p.shape[1])[None], axis=1)
    total = np.take_along_axis(np.cumsum(np.take_along_axis(p, order, axis=1), axis=1), rank, axis=1)
    if uniform is not None:
        total = total - np.asarray(uniform)[:, None] * p
    return np.asarray(total + lam * np.maximum(0, rank + 1 - k_reg) if score == "raps" else total)


def threshold(at_label: Array, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest of the calibration scores; inf where that exceeds n, -inf below 1.

    >>> threshold(np.arange(1.0, 10.0), 0.1), threshold(np.arange(1.0, 9.0), 0.1)
    (9.0, inf)
    """
    n = len(at_label)
    place = int(np.ceil((n + 1) * (1 - alpha) - 1e-12))
    if place > n:
        return np.inf
    return float(np.partition(at_label, place - 1)[place - 1]) if place >= 1 else -np.inf


@dataclass(frozen=True)
class Conformal(Checked):
    """Sets of classes that hold the label with probability at least 1 - alpha.

    >>> p = np.array([[0.9, 0.1]] * 19)
    >>> Conformal(score="lac").fit(p, np.array([0] * 18 + [1])).sets(p[:1]).tolist()
    [[True, False]]
    """

    score: Score = "aps"
    alpha: OpenShare = 0.1
    lam: NonNegative = 0.01
    k_reg: CountOrNone = 5

    reference: ClassVar[Paper] = Paper(
        "Uncertainty Sets for Image Classifiers using Conformal Prediction",
        "Angelopoulos, Bates, Jordan and Malik", 2021, "ICLR", "2009.14193",
    )  # fmt: skip

    _state: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def fit(self, probs: Array, labels: Array, *, uniform: Array | None = None) -> Self:
        """The threshold from calibration probabilities `[n, k]` and labels `[n]`; `uniform` randomises APS and RAPS."""
        p, y = check_fit(probs, labels, "probs", "probs", "Conformal")
        every = scores(p, self.score, uniform, self.lam, self.k_reg)
        at_label = np.sort(every[np.arange(len(y)), y])
        limit = threshold(at_label, self.alpha)
        state = {"scores": at_label, "classes": p.shape[1], "n": len(y), "all_classes": bool(np.isinf(limit))}
        object.__setattr__(self, "_state", state)
        return self

    def sets(self, probs: Array, *, uniform: Array | None = None, alpha: float | None = None) -> Array:
        """bool `[n, k]`: which classes are in each set; `alpha` another error rate than the one of the parameters."""
        state = self.state()
        p = check_rows(probs, "probs", "probs", "Conformal")
        if p.shape[1] != state["classes"]:
            raise DataError(f"Conformal was fitted on {state['classes']} classes and got {p.shape[1]} columns")
        limit = threshold(state["scores"], self.alpha if alpha is None else alpha)
        return np.asarray(scores(p, self.score, uniform, self.lam, self.k_reg) <= limit + 1e-12)

    def state(self) -> dict[str, Any]:
        """The sorted calibration scores float64 `[n]`, classes, n, all_classes."""
        if self._state is None:
            raise DataError("Conformal is not fitted: call fit(probs, labels) first")
        return dict(self._state)

    def restore(self, state: dict[str, Any]) -> Self:
        """A new fitted object with these parameters and that state."""
        fresh = replace(self)
        object.__setattr__(fresh, "_state", dict(state))
        return fresh


@dataclass
class AdaptiveAlpha:
    """The error rate to ask for next on a stream: alpha + gamma (target - missed) after each label.

    Values at or below 0 mean all classes, at or above 1 none; long-run coverage is kept whatever the stream does.

    >>> aci = AdaptiveAlpha(target=0.1, gamma=0.05)
    >>> aci.update(missed=True), round(aci.alpha, 6)
    (None, 0.055)
    """

    target: float = 0.1
    gamma: float = 0.005
    alpha: float = field(default=-1.0)

    def __post_init__(self) -> None:
        if self.alpha == -1.0:
            self.alpha = self.target

    def update(self, missed: bool) -> None:
        """Take note of whether the last set missed its label."""
        self.alpha += self.gamma * (self.target - float(missed))

"""Whether a calibrator helps on examples it was not fitted on: its cross-validated NLL beside the uncalibrated one's.

The calibration split is cut into five folds by a fixed permutation; each fold's NLL is that of a fit on the other four.
Of more than 5,000 examples one fold is enough. A fit is called worse where the mean paired difference of the NLL is
above 0 by more than 1.645 standard errors (one-sided 5 %): with many parameters and few examples that is overfitting,
and a method that gives a probability of 0 to a class that occurs is called worse too, since its NLL says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from testbed.calibration.base import Calibrator
from testbed.calibration.inputs import FLOOR, log_probs
from testbed.errors import DataError
from testbed.types import Array, Float64, Ints, Outputs

_FOLDS: Final = 5
_ONE_FOLD_FROM: Final = 5_000
_QUANTILE: Final = 1.6448536269514722

#: What rows say under a calibrator that fails, and under one whose calibration split is too small to tell.
WORSE: Final = "fit:worse_than_uncalibrated"
NOT_CHECKED: Final = "fit:not_cross_validated"


class HeldOut(NamedTuple):
    """Mean NLL in nats on held-out examples, lower is better; `worse`: beyond what their number can explain."""

    nll: float
    uncalibrated: float
    n: int
    worse: bool


def cross_validated(
    make: Callable[[], Calibrator],
    logits: Array,
    labels: Array,
    *,
    features: Array | None = None,
    unlabelled: Outputs | Array | None = None,
) -> HeldOut:
    """NLL of a calibrator fitted anew on each fold's complement, and of softmax(logits), on the same examples.

    `make` gives an unfitted calibrator; the other arguments are those of `Calibrator.fit`. Raises DataError where `fit`
    does, and for fewer than ten examples.

    >>> from testbed.calibration.temperature import Temperature
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(500, 3))
    >>> y = (np.exp(z).cumsum(1) / np.exp(z).sum(1, keepdims=True) < rng.random((500, 1))).sum(1)
    >>> found = cross_validated(Temperature, 3 * z, y)
    >>> found.worse, found.nll < found.uncalibrated
    (False, True)
    """
    x, y = np.asarray(logits), np.asarray(labels)
    if len(y) < 2 * _FOLDS:
        raise DataError(f"{len(y)} calibration examples are too few for {_FOLDS} folds")
    fold = np.random.default_rng(0).permutation(len(y)) % _FOLDS
    gaps: list[Float64] = []
    for held in range(1 if len(y) > _ONE_FOLD_FROM else _FOLDS):
        out, rest = fold == held, fold != held
        part = None if features is None else np.asarray(features)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit on all examples has said it
            fitted = make().fit(x[rest], y[rest], features=None if part is None else part[rest], unlabelled=unlabelled)
            probs = fitted.probs(x[out], features=None if part is None else part[out])
        gaps.append(np.stack([_nll(np.log(np.maximum(probs, FLOOR)), y[out]), _nll(log_probs(x[out]), y[out])]))
    own, bare = np.concatenate(gaps, axis=1)
    excess = own - bare
    noise = float(excess.std(ddof=1)) / len(excess) ** 0.5
    return HeldOut(float(own.mean()), float(bare.mean()), len(excess), bool(excess.mean() > _QUANTILE * noise))


def _nll(log_p: Float64, y: Ints) -> Float64:
    """-log p of each row's label."""
    return np.asarray(-log_p[np.arange(len(y)), y])

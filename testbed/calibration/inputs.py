"""What a calibrator accepts, checked once: shapes, finite values, labels, and logits told from probabilities."""

from __future__ import annotations

import warnings
from typing import Final, Literal

import numpy as np

from testbed.errors import DataError
from testbed.types import Array, Float64, Ints

Given = Literal["logits", "probs"]

#: Probabilities below this are raised to it before a logarithm (2^-52, float64's machine epsilon).
FLOOR: Final = float(np.finfo(np.float64).eps)
_SUM_TOLERANCE: Final = 1e-6
#: Rows this near to a sum of 1 stay as they are: dividing by it would part tied probabilities by an ulp.
_ROUNDING: Final = 1e-12


class LooksLikeProbabilities(UserWarning):
    """Rows given as logits lie in [0, 1] and sum to 1."""


class CalibrationWarning(UserWarning):
    """A fit that went through and does not mean what it should; `flag` is the word that its rows carry.

    one_class, absent_classes   what the calibration split lacks
    at_bound                    the best fit lies outside the range searched, so the nearest end of it was taken
    not_converged               the search ended before it reached a minimum
    """

    def __init__(self, message: str, flag: str) -> None:
        super().__init__(message)
        self.flag = flag


def softmax(logits: Array) -> Float64:
    """float64 softmax of the rows of `[n, k]`.

    >>> softmax(np.array([[0.0, np.log(3.0)]])).round(6).tolist()
    [[0.25, 0.75]]
    """
    z = np.array(logits, dtype=np.float64)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def log_probs(logits: Array) -> Float64:
    """float64 log-softmax of the rows of `[n, k]`: exact where the probability underflows.

    >>> log_probs(np.array([[0.0, 1000.0]])).tolist()
    [[-1000.0, 0.0]]
    """
    z = np.array(logits, dtype=np.float64)
    z -= z.max(axis=1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    return z


def check_rows(rows: Array, given: Given, wanted: Given, name: str) -> Float64:
    """`rows` `[n, k]` as float64 logits or probabilities, whichever is `wanted`; DataError says what is wrong."""
    x = np.asarray(rows)
    if x.ndim != 2 or x.shape[1] < 2:
        raise DataError(f"{name}: expected {given} of shape [n, k] with k >= 2, got {x.shape}")
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise DataError(f"{name}: {given} must be finite; row {row} is {x[row][:6]}: drop such rows or mend the model")
    if given == "probs":
        return _from_probs(x, wanted, name)
    if looks_like_probs(x):
        warnings.warn(
            f"{name}: the logits lie in [0, 1] and each row sums to 1: if they are probabilities, say given='probs'",
            LooksLikeProbabilities,
            stacklevel=4,
        )
    return softmax(x) if wanted == "probs" else x


def looks_like_probs(x: Array) -> bool:
    """Whether all rows lie in [0, 1] and sum to 1 within 1e-6 (nothing else is concluded from it).

    >>> looks_like_probs(np.array([[0.3, 0.7]])), looks_like_probs(np.array([[0.3, 0.9]]))
    (True, False)
    """
    for part in (x[:64], x):
        if len(part) == 0 or part.min() < 0 or part.max() > 1 or (abs(part.sum(axis=1) - 1) > _SUM_TOLERANCE).any():
            return False
    return True


def check_fit(
    rows: Array, labels: Array, given: Given, wanted: Given, name: str, quiet: bool = False
) -> tuple[Float64, Ints]:
    """Rows and labels of a calibration split; warns, unless `quiet`, where a class is absent or there is only one."""
    x = check_rows(rows, given, wanted, name)
    y = np.asarray(labels)
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{name}: expected integer labels of shape [{len(x)}], got {y.dtype} {y.shape}")
    if len(x) == 0:
        raise DataError(f"{name}: the calibration split is empty")
    y = y.astype(np.int64)
    if y.min() < 0 or y.max() >= x.shape[1]:
        raise DataError(f"{name}: labels must lie in 0..{x.shape[1] - 1}, got {y.min()}..{y.max()}")
    if quiet:
        return x, y
    absent = np.flatnonzero(np.bincount(y, minlength=x.shape[1]) == 0)
    if len(absent) == x.shape[1] - 1:
        warnings.warn(
            CalibrationWarning(f"{name}: all {len(y)} calibration labels are class {y[0]}", "one_class"), stacklevel=3
        )
    elif len(absent):
        some = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        message = f"{name}: {len(absent)} of {x.shape[1]} classes have no calibration example ({some})"
        warnings.warn(CalibrationWarning(message, "absent_classes"), stacklevel=3)
    return x, y


def check_features(features: Array | None, n: int, needed: bool, name: str) -> Float64 | None:
    """Features `[n, d]` as float64, None where they are neither given nor needed."""
    if not needed:
        return None
    if features is None:
        raise DataError(f"{name} works on features: pass features=[n, d]")
    f = np.asarray(features, dtype=np.float64)
    if f.ndim != 2 or len(f) != n:
        raise DataError(f"{name}: expected features of shape [{n}, d], got {f.shape}")
    if not np.isfinite(f).all():
        raise DataError(f"{name}: features must be finite")
    return f


def _from_probs(p: Float64, wanted: Given, name: str) -> Float64:
    if p.min() < 0 or p.max() > 1 + _SUM_TOLERANCE or (abs(p.sum(axis=1) - 1) > 1e-3).any():
        row = int(np.argmax(abs(p.sum(axis=1) - 1)))
        raise DataError(
            f"{name}: given='probs' needs rows in [0, 1] that sum to 1; row {row} sums to "
            f"{p[row].sum():.6g}: are they logits?"
        )
    if wanted == "logits":
        return np.asarray(np.log(np.maximum(p, FLOOR)))
    total = p.sum(axis=1, keepdims=True)
    return np.where(np.abs(total - 1) < _ROUNDING, p, p / total)

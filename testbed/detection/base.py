"""What every detector shares: parameters, facts, fitted state, and the checks around them.

A detector is a frozen dataclass. Its fields are the paper's parameters, its class attributes are facts, and what `fit`
learned is one plain mapping (`state()`), so that it can be stored without a pickle and put back with `restore`. A
method writes two pure functions and nothing else:

    learn(outputs) -> state                 numbers, strings, booleans and arrays
    evaluate(state, outputs) -> float64 [n] LARGER = MORE OUT-OF-DISTRIBUTION

`fit` and `score` check the outputs before, and the scores after. A row whose inputs are not finite gets the score NaN
(the metrics then count and name such rows); a bank with such a row cannot be fitted.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np

from testbed.errors import DataError, PluginViolation, UsageError
from testbed.parameters import Checked
from testbed.types import Array, Float64, Ints, Outputs, Paper

State: TypeAlias = Mapping[str, Any]
Part: TypeAlias = Literal["logits", "features", "head", "inputs"]


class FitWarning(UserWarning):
    """A fit went through on inputs that leave part of the method undefined; the message says which part."""


@dataclass(frozen=True)
class Detector(Checked, ABC):
    """Base of the detectors.

    consumes   which parts of `Outputs` are read: "logits", "features", "head"
    fitted_on  None (nothing to fit), "train" or "calibration": the split whose outputs `fit` expects
    labelled   whether `fit` reads labels
    reference  the paper
    """

    version: ClassVar[int] = 1
    consumes: ClassVar[tuple[Part, ...]] = ("logits",)
    fitted_on: ClassVar[Literal["train", "calibration"] | None] = None
    labelled: ClassVar[bool] = False
    reference: ClassVar[Paper | None] = None

    _state: State | None = field(default=None, init=False, repr=False, compare=False)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """What `fit` keeps; nothing unless a method says otherwise."""
        return {}

    @abstractmethod
    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Scores float64 `[n]` of checked outputs, larger = more OOD."""

    def fit(self, outputs: Outputs) -> Self:
        """Learn from the outputs on the split that `fitted_on` names, and return this detector.

        The head is kept with the fitted state where the method consumes it, so that scoring does not need it again.

        Raises DataError where a part is missing, shapes disagree, or a value is not finite.
        """
        name = type(self).__name__
        check(outputs, self.consumes, name)
        if self.labelled:
            check_labels(outputs, name)
        bad = int((~finite_rows(outputs, self.consumes)).sum())
        if bad:
            raise DataError(
                f"{name}.fit: {bad} of {len(outputs)} rows hold NaN or infinite values; fit on finite outputs only"
            )
        object.__setattr__(self, "_state", dict(self.learn(outputs)) | _head_state(outputs, self.consumes))
        return self

    def score(self, outputs: Outputs) -> Float64:
        """Scores float64 `[n]`, larger = more OOD. Rows with non-finite inputs score NaN.

        Raises DataError where a part is missing, and UsageError where `fit` has not been called but is needed.
        """
        name = type(self).__name__
        state = self._fitted()
        outputs = _with_head(outputs, state)
        check(outputs, self.consumes, name)
        good = finite_rows(outputs, self.consumes)
        scores = np.full(len(outputs), np.nan)
        if good.all():
            scores = self.evaluate(state, outputs)
        elif good.any():
            scores[good] = self.evaluate(state, outputs.take(good))
        if scores.shape != (len(outputs),) or scores.dtype != np.float64:
            raise PluginViolation(
                f"{name}: expected float64 scores of shape ({len(outputs)},), got {scores.dtype} {scores.shape}"
            )
        return scores

    def state(self) -> dict[str, Any]:
        """What `fit` learned: numbers, strings, booleans and arrays, enough to score in another process."""
        return dict(self._fitted())

    def restore(self, state: State) -> Self:
        """A fitted detector with these parameters and this state (see `state`)."""
        fresh = replace(self)
        object.__setattr__(fresh, "_state", dict(state))
        return fresh

    def _fitted(self) -> State:
        if self._state is None and self.fitted_on is not None:
            raise UsageError(
                f"{type(self).__name__} is not fitted: call .fit(outputs of the {self.fitted_on} split) first"
            )
        return self._state or {}


def check(outputs: Outputs, parts: tuple[Part, ...], name: str) -> None:
    """Raise DataError unless the parts are there and their shapes agree.

    >>> check(Outputs(logits=np.zeros((3, 2))), ("features",), "KNN")
    Traceback (most recent call last):
    testbed.errors.DataError: KNN needs features, and these outputs have none: expected `Outputs.features` [n d]
    """
    n = _check_matrix(outputs.logits, "logits", "[n k]", name)[0] if "logits" in parts else len(outputs.logits)
    if n == 0:
        raise DataError(f"{name}: expected at least one row of outputs, got none")
    if "features" in parts:
        rows, width = _check_matrix(outputs.features, "features", "[n d]", name)
        if rows != n:
            raise DataError(f"{name}: expected {n} rows of features, one a row of logits, got {rows}")
    if "head" in parts:
        _check_head(outputs, name)
        if "features" in parts and outputs.head_weight is not None and outputs.head_weight.shape[1] != width:
            raise DataError(
                f"{name}: expected head_weight of width {width}, as the features, got {outputs.head_weight.shape}"
            )


def check_labels(outputs: Outputs, name: str) -> Ints:
    """The labels, int64 `[n]` in 0..k-1, of outputs used for a labelled fit; DataError where they are not that."""
    if outputs.labels is None:
        raise DataError(f"{name}.fit needs labels, and these outputs have none")
    labels = np.asarray(outputs.labels)
    k = outputs.logits.shape[1]
    if labels.shape != (len(outputs),) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{name}.fit: expected integer labels of shape ({len(outputs)},), got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= k:
        raise DataError(f"{name}.fit: expected labels in 0..{k - 1}, got {labels.min()}..{labels.max()}")
    return labels.astype(np.int64)


def finite_rows(outputs: Outputs, parts: tuple[Part, ...]) -> Array:
    """bool `[n]`: rows of which every consumed value is finite."""
    good = np.ones(len(outputs), dtype=bool)
    for part in ("logits", "features"):
        if part in parts:
            good &= np.isfinite(getattr(outputs, part)).all(axis=1)
    return good


def require(condition: bool, name: str, expected: str, got: object) -> None:
    """Raise UsageError for a parameter out of its range.

    >>> require(0 < 1, "KNN.k", "at least 1", 1)
    """
    if not condition:
        raise UsageError(f"{name}: expected {expected}, got {got!r}")


def same_width(features: Array, expected: int, name: str) -> None:
    """Raise DataError where scored features do not have the width the detector was fitted on."""
    if features.shape[1] != expected:
        raise DataError(
            f"{name} was fitted on features of width {expected}, these have {features.shape[1]}; score the same model"
        )


def caution(message: str) -> None:
    """Warn (`FitWarning`) that a fit is defined only in part."""
    warnings.warn(message, FitWarning, stacklevel=4)


def _check_matrix(value: Array | None, part: str, shape: str, name: str) -> tuple[int, int]:
    if value is None:
        raise DataError(f"{name} needs {part}, and these outputs have none: expected `Outputs.{part}` {shape}")
    if value.ndim != 2 or not np.issubdtype(value.dtype, np.floating) or value.shape[1] == 0:
        raise DataError(f"{name}: expected {part} as floats of shape {shape}, got {value.dtype} {value.shape}")
    return int(value.shape[0]), int(value.shape[1])


def _check_head(outputs: Outputs, name: str) -> None:
    weight, bias = outputs.head_weight, outputs.head_bias
    if weight is None or bias is None:
        raise DataError(
            f"{name} needs the last linear layer: expected `Outputs.head_weight` [k d] and `head_bias` [k], got none"
        )
    k = outputs.logits.shape[1]
    if weight.ndim != 2 or weight.shape[0] != k or bias.shape != (k,):
        raise DataError(
            f"{name}: expected head_weight ({k}, d) and head_bias ({k},), got {weight.shape} and {bias.shape}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise DataError(f"{name}: the head's weight or bias holds NaN or infinite values")


def _head_state(outputs: Outputs, parts: tuple[Part, ...]) -> dict[str, Any]:
    if "head" not in parts:
        return {}
    return {"head_weight": np.asarray(outputs.head_weight), "head_bias": np.asarray(outputs.head_bias)}


def _with_head(outputs: Outputs, state: State) -> Outputs:
    if "head_weight" not in state:
        return outputs
    return replace(outputs, head_weight=state["head_weight"], head_bias=state["head_bias"])

"""The one shape of every calibrator: parameters are frozen, what was learned is a flat dictionary.

A calibrator is a frozen dataclass whose fields are the method's parameters. It writes two functions,

    _fit(self, x, y, *, features, unlabelled) -> State       learn; `x` is what the class says it takes (`inputs`)
    _probs(self, x, state, *, features) -> float64 [n, k]    rows sum to 1

and gets from this base: checked inputs, the logits/probabilities switch, state() and restore(). The state holds
numbers, strings, booleans and arrays only, so it goes to JSON and safetensors as it is (`split_state`).

Logits or probabilities: the caller says which (`given="probs"`); nothing is guessed. Rows given as logits that sum to
1 draw a `LooksLikeProbabilities` warning. Probabilities become logits as log(max(p, 2^-52)).

A fit that went through and does not mean what it should (a temperature at its bound, a search that did not converge,
a class without an example) warns, and `flags()` names it: every row under that calibrator carries the flag.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from testbed.calibration.inputs import (
    CalibrationWarning,
    Given,
    LooksLikeProbabilities,
    check_features,
    check_fit,
    check_rows,
)
from testbed.errors import DataError
from testbed.parameters import Checked
from testbed.types import Array, Float64, Ints, Outputs, Paper

State = dict[str, Any]


@dataclass(frozen=True)
class Calibrator(Checked):
    """Base of all calibrators. Facts are class attributes, parameters are fields.

    inputs             "logits" or "probs": what the method works on
    argmax_preserving  no example's most likely class can change
    differentiable     probs are differentiable in the logits almost everywhere, with a gradient that is not 0
    needs              what `fit` needs besides logits and labels: "features", "unlabelled"
    online             has `partial_fit`
    """

    version: ClassVar[int] = 1
    inputs: ClassVar[Literal["logits", "probs"]] = "logits"
    argmax_preserving: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    online: ClassVar[bool] = False
    reference: ClassVar[Paper | None] = None

    _state: State | None = field(default=None, init=False, repr=False, compare=False)

    def fit(
        self,
        logits: Array,
        labels: Array,
        *,
        features: Array | None = None,
        unlabelled: Outputs | Array | None = None,
        given: Given = "logits",
    ) -> Self:
        """Learn from `logits` float `[n, k]` (or probabilities, with `given="probs"`) and `labels` int `[n]` in 0..k-1.

        features    float `[n, d]`, for methods that need them
        unlabelled  the target set's logits `[m, k]`, or its `Outputs` where features are needed too
        Raises DataError on NaN, wrong shapes or labels, or a need that is not met.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            x, y = check_fit(logits, labels, given, self.inputs, self._name)
            features = check_features(features, len(x), "features" in self.needs, self._name)
            target = self._target(unlabelled, given)
            state = self._fit(x, y, features=features, unlabelled=target)
        found = [one.message for one in caught if isinstance(one.message, Warning)]
        noted = ";".join(sorted({_flag(message) for message in found}))
        object.__setattr__(self, "_state", {"classes": x.shape[1], "n": len(x), "flags": noted} | state)
        for message in (*found, *(CalibrationWarning(text, flag) for flag, text in self._doubts().items())):
            warnings.warn(message, stacklevel=2)
        return self

    def flags(self) -> tuple[str, ...]:
        """What must be said of this fit wherever a number rests on it; empty for a sound one.

        >>> from testbed.calibration.temperature import Temperature
        >>> right = np.array([[2.0, 0.0], [0.0, 2.0]])
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     Temperature().fit(right, np.array([0, 1])).flags()
        ('fit:at_bound',)
        """
        noted = str(self._learned().get("flags", "")).split(";")
        return tuple(f"fit:{name}" for name in dict.fromkeys((*noted, *self._doubts())) if name)

    def probs(self, logits: Array, *, features: Array | None = None, given: Given = "logits") -> Float64:
        """Calibrated probabilities, float64 `[n, k]`, rows sum to 1, of `logits` float `[n, k]`."""
        state = self._learned()
        x = check_rows(logits, given, self.inputs, self._name)
        if x.shape[1] != state["classes"]:
            raise DataError(f"{self._name} was fitted on {state['classes']} classes and got {x.shape[1]} columns")
        features = check_features(features, len(x), "features" in self.needs, self._name)
        return self._probs(x, state, features=features)

    def state(self) -> State:
        """All that was learned: numbers, strings, booleans and arrays by name. `restore` takes it back."""
        return dict(self._learned())

    def restore(self, state: Mapping[str, Any]) -> Self:
        """A new fitted calibrator with these parameters and that state."""
        fresh = dataclasses.replace(self)
        object.__setattr__(fresh, "_state", dict(state))
        return fresh

    def _fit(self, x: Float64, y: Ints, *, features: Float64 | None, unlabelled: Outputs | None) -> State:
        raise NotImplementedError

    def _probs(self, x: Float64, state: State, *, features: Float64 | None) -> Float64:
        raise NotImplementedError

    def _doubts(self) -> dict[str, str]:
        """Flag -> message of what the learned state itself says against the fit."""
        state = self._learned()
        if state.get("at_bound"):
            return {
                "at_bound": f"{self._name}: the fit stopped at the end of the range that is searched: every "
                "calibration example may be right, or the predictions no better than chance"
            }
        if not state.get("converged", True):
            return {"not_converged": f"{self._name}: the fit did not converge"}
        return {}

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _learned(self) -> State:
        if self._state is None:
            raise DataError(f"{self._name} is not fitted: call fit(logits, labels) or restore(state) first")
        return self._state

    def _target(self, unlabelled: Outputs | Array | None, given: Given) -> Outputs | None:
        if unlabelled is None:
            if "unlabelled" in self.needs:
                raise DataError(
                    f"{self._name} is fitted on unlabelled target data too: pass fit(..., unlabelled=logits or Outputs)"
                )
            return None
        outputs = unlabelled if isinstance(unlabelled, Outputs) else Outputs(np.asarray(unlabelled))
        rows = check_rows(outputs.logits, given, self.inputs, self._name)
        if len(rows) == 0:
            raise DataError(f"{self._name}: the unlabelled target set is empty")
        features = check_features(outputs.features, len(rows), "features" in self.needs, self._name)
        return Outputs(rows, features, outputs.labels, outputs.ids)


def _flag(message: Warning) -> str:
    """The word that rows carry for a warning of a fit."""
    if isinstance(message, CalibrationWarning):
        return message.flag
    return "looks_like_probs" if isinstance(message, LooksLikeProbabilities) else type(message).__name__


def split_state(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """The part of a state for JSON and the part for safetensors.

    >>> split_state({"temperature": 1.5, "weights": np.ones(2)})
    ({'temperature': 1.5}, {'weights': array([1., 1.])})
    """
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    return {name: value for name, value in state.items() if name not in arrays}, arrays

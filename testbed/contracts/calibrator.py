"""The contract of a calibrator, asked on drawn logits whose true temperature is 2."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from testbed.contracts.base import Question, expect
from testbed.plugins import Plugin
from testbed.types import Array, Float64, Outputs


class Drawn(NamedTuple):
    """A calibration split, and test logits with their features."""

    logits: Array
    labels: Array
    features: Array
    test: Array
    test_features: Array


def questions(plugin: Plugin, params: Mapping[str, Any]) -> list[Question]:
    """All questions."""
    bound = plugin.validate(params)

    def new() -> Any:
        return plugin.build(**bound)

    def fitted(classes: int = 4) -> Any:
        return _fit(new(), plugin, drawn(classes))

    def probs(calibrator: Any, rows: Any = slice(None), classes: int = 4) -> Float64:
        return _probs(calibrator, plugin, drawn(classes), rows)

    asked: list[Question] = [
        ("its rows are distributions, float64 [n k]", lambda: _rows(probs(fitted()), 4)),
        ("two classes work", lambda: _rows(probs(fitted(2), classes=2), 2)),
        ("it leaves its inputs alone", lambda: _untouched(fitted, probs)),
        ("the same inputs give the same probabilities", lambda: _same(probs(fitted()), probs(fitted()), 0.0)),
        (
            "an example's probabilities do not depend on the others",
            lambda: _same(probs(c := fitted())[5:9], probs(c, slice(5, 9)), 1e-12),
        ),
        ("state() goes through JSON and safetensors and restore() brings it back", lambda: _state(new, fitted, probs)),
    ]
    if plugin.facts["argmax_preserving"]:
        asked.append(("it keeps the most likely class, as it says it does", lambda: _argmax(probs(fitted()))))
    return asked


@cache
def drawn(classes: int) -> Drawn:
    """300 calibration and 200 test examples of `classes` classes; labels are drawn at temperature 2."""
    rng = np.random.default_rng(classes)
    features = rng.normal(size=(500, 5))
    logits = 2 * (features @ rng.normal(size=(5, classes)) + rng.normal(size=(500, classes)))
    p = np.exp(logits / 2 - (logits / 2).max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    labels = np.minimum((p.cumsum(axis=1) < rng.random((500, 1))).sum(axis=1), classes - 1)
    labels[:classes] = np.arange(classes)
    found = Drawn(logits[:300], labels[:300], features[:300], logits[300:], features[300:])
    for array in found:
        array.flags.writeable = False  # as arrays from the store are
    return found


def _fit(calibrator: Any, plugin: Plugin, data: Drawn) -> Any:
    more: dict[str, Any] = {"features": data.features} if "features" in plugin.facts["needs"] else {}
    if "unlabelled" in plugin.facts["needs"]:
        more["unlabelled"] = Outputs(data.test, data.test_features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = calibrator.fit(data.logits, data.labels, **more)
    expect(done is not None, "fit(...) returned None; it must return the fitted calibrator")
    return done


def _probs(calibrator: Any, plugin: Plugin, data: Drawn, rows: Any) -> Float64:
    more = {"features": data.test_features[rows]} if "features" in plugin.facts["needs"] else {}
    found: Float64 = calibrator.probs(data.test[rows], **more)
    return found


def _rows(p: Any, classes: int) -> None:
    got = f"{getattr(p, 'dtype', type(p).__name__)} {list(getattr(p, 'shape', ()))}"
    expect(
        isinstance(p, np.ndarray) and p.dtype == np.float64 and p.shape == (200, classes),
        f"expected float64 [200, {classes}], got {got}",
    )
    expect(np.isfinite(p).all() and p.min() >= 0, "a probability is negative or not finite")
    expect(
        np.abs(p.sum(axis=1) - 1).max() < 1e-9,
        f"rows must sum to 1; they are off by up to {np.abs(p.sum(axis=1) - 1).max():.2g}",
    )


def _untouched(fitted: Any, probs: Any) -> None:
    try:
        probs(fitted())
    except ValueError as error:
        expect("read-only" not in str(error), f"it writes into its inputs ({error}); work on a copy")
        raise


def _same(one: Float64, two: Float64, tolerance: float) -> None:
    off = float(np.abs(one - two).max())
    expect(off <= tolerance, f"probabilities differ by up to {off:.2g}")


def _state(new: Any, fitted: Any, probs: Any) -> None:
    from safetensors.numpy import load, save

    calibrator = fitted()
    state = calibrator.state()
    arrays = {name: np.ascontiguousarray(v) for name, v in state.items() if isinstance(v, np.ndarray)}
    plain = {name: v for name, v in state.items() if name not in arrays}
    wrong = [name for name, v in plain.items() if not isinstance(v, (bool, int, float, str))]
    expect(not wrong, f"state() may hold numbers, texts, booleans and arrays; {', '.join(wrong)} is none of them")
    restored = new().restore({**json.loads(json.dumps(plain)), **(load(save(arrays)) if arrays else {})})
    expect(restored is not None, "restore(state) returned None; it must return a fitted calibrator")
    _same(probs(restored), probs(calibrator), 0.0)


def _argmax(p: Float64) -> None:
    moved = int((p.argmax(axis=1) != drawn(4).test.argmax(axis=1)).sum())
    expect(moved == 0, f"the most likely class changed for {moved} of 200 examples; set argmax_preserving = False")

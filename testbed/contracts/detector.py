"""The contract of a detector, asked on drawn Gaussian classes and a set far from all of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from testbed.contracts.base import Question, expect
from testbed.plugins import Plugin
from testbed.types import Outputs

N, CLASSES, WIDTH = 400, 4, 16


def questions(plugin: Plugin, params: Mapping[str, Any]) -> list[Question]:
    """All questions."""
    bound = plugin.validate(params)
    consumes = tuple(plugin.facts["consumes"])

    def new() -> Any:
        return plugin.build(**bound)

    def fitted() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = new().fit(seen(world("train"), consumes))
        expect(done is not None, "fit(...) returned None; it must return the fitted detector")
        return done

    def score(detector: Any, name: str = "test", rows: Any = slice(None)) -> Any:
        return detector.score(seen(world(name), consumes).take(rows))

    return [
        ("its scores are finite, float64 [n], from what it says it consumes", lambda: _scores(score(fitted()))),
        ("larger means more out-of-distribution", lambda: _orientation(score(d := fitted()), score(d, "far"))),
        ("it leaves its inputs alone", lambda: _untouched(fitted, score)),
        ("the same inputs give the same scores", lambda: _close(score(fitted()), score(fitted()), 0.0)),
        (
            "an example's score does not depend on the others",
            lambda: _close(score(d := fitted())[5:9], score(d, rows=slice(5, 9)), 1e-6),
        ),
        ("state() goes through JSON and safetensors and restore() brings it back", lambda: _state(new, fitted, score)),
    ]


@cache
def world(name: str) -> Outputs:
    """`train` and `test` from the classes, `far` from the origin where no class is; with the head that gives logits."""
    rng = np.random.default_rng({"train": 0, "test": 1, "far": 2}[name])
    centres = 4.0 * np.eye(CLASSES, WIDTH)
    labels = rng.integers(0, CLASSES, N)
    noise = rng.normal(size=(N, WIDTH))
    features = (centres[labels] + 0.5 * noise if name != "far" else 2.0 * noise * (np.arange(WIDTH) >= CLASSES)).astype(
        np.float32
    )
    weight, bias = centres.astype(np.float32), np.zeros(CLASSES, np.float32)
    arrays = (features @ weight.T, features, labels, np.arange(N), weight, bias)
    for array in arrays:
        array.flags.writeable = False  # as arrays from the store are
    return Outputs(*arrays)


def seen(outputs: Outputs, consumes: tuple[str, ...]) -> Outputs:
    """The outputs with only the declared parts filled."""
    outputs = outputs if "features" in consumes else replace(outputs, features=None)
    return outputs if "head" in consumes else replace(outputs, head_weight=None, head_bias=None)


def _scores(scores: Any) -> None:
    got = f"{getattr(scores, 'dtype', type(scores).__name__)} {list(getattr(scores, 'shape', ()))}"
    expect(
        isinstance(scores, np.ndarray) and scores.dtype == np.float64 and scores.shape == (N,),
        f"expected float64 [{N}], got {got}",
    )
    expect(np.isfinite(scores).all(), f"{int((~np.isfinite(scores)).sum())} of {N} scores are not finite")


def _orientation(inside: Any, outside: Any) -> None:
    greater = float((outside[:, None] > inside[None]).mean() + 0.5 * (outside[:, None] == inside[None]).mean())
    expect(greater >= 0.5, f"AUROC is {greater:.3f} on a set far from all classes; turn the sign of the score")


def _untouched(fitted: Any, score: Any) -> None:
    try:
        score(fitted())
    except ValueError as error:
        expect("read-only" not in str(error), f"it writes into its inputs ({error}); work on a copy")
        raise


def _close(one: Any, two: Any, tolerance: float) -> None:
    off = float(np.abs(one - two).max())
    expect(off <= tolerance * max(1.0, float(np.abs(one).max())), f"scores differ by up to {off:.2g}")


def _state(new: Any, fitted: Any, score: Any) -> None:
    from safetensors.numpy import load, save

    detector = fitted()
    state = detector.state()
    arrays = {name: np.ascontiguousarray(v) for name, v in state.items() if isinstance(v, np.ndarray)}
    plain = {name: v for name, v in state.items() if name not in arrays}
    wrong = [name for name, v in plain.items() if not isinstance(v, (bool, int, float, str))]
    expect(not wrong, f"state() may hold numbers, texts, booleans and arrays; {', '.join(wrong)} is none of them")
    restored = new().restore({**json.loads(json.dumps(plain)), **(load(save(arrays)) if arrays else {})})
    expect(restored is not None, "restore(state) returned None; it must return a fitted detector")
    _close(score(restored), score(detector), 0.0)

"""Every installed calibrator keeps the contract of `testbed.calibration.base`: one table of cases, one set of tests."""

from __future__ import annotations

import json
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load, save

from testbed import plugins
from testbed.calibration.base import Calibrator, split_state
from testbed.calibration.inputs import CalibrationWarning, LooksLikeProbabilities
from testbed.errors import DataError
from testbed.types import Outputs

#: Parameters that make a method quick enough for a test; every other method runs with its defaults.
QUICK: dict[str, dict[str, Any]] = {}

#: Solved to a gradient of 2e-5 only, so equal within this under a permutation.
LOOSE: dict[str, float] = dict.fromkeys(("matrix", "dirichlet", "sms"), 1e-4)

NAMES = sorted(plugins.names("calibrator"))


class Data(NamedTuple):
    """A calibration split and a test set with known miscalibration: true temperature 2, and features."""

    logits: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    test: np.ndarray
    test_features: np.ndarray


@lru_cache
def data(n: int = 300, k: int = 4, m: int = 200) -> Data:
    rng = np.random.default_rng(k)
    features = rng.normal(size=(n + m, 5))
    logits = 2 * (features @ rng.normal(size=(5, k)) + rng.normal(size=(n + m, k)))
    p = np.exp(logits / 2 - (logits / 2).max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    labels = np.minimum((p.cumsum(axis=1) < rng.random((n + m, 1))).sum(axis=1), k - 1)
    labels[:k] = np.arange(k)
    return Data(logits[:n], labels[:n], features[:n], logits[n:], features[n:])


def build(name: str) -> Calibrator:
    cal = plugins.read("calibrator", name).build(**QUICK.get(name, {}))
    assert isinstance(cal, Calibrator)
    return cal


def fit(name: str, d: Data, rows: Any = slice(None), **more: Any) -> Calibrator:
    cal = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        return cal.fit(
            d.logits[rows],
            d.labels[rows],
            features=d.features[rows] if "features" in cal.needs else None,
            unlabelled=Outputs(d.test, d.test_features) if "unlabelled" in cal.needs else None,
            **more,
        )


def probs(cal: Calibrator, d: Data, **more: Any) -> np.ndarray:
    return cal.probs(d.test, features=d.test_features if "features" in cal.needs else None, **more)


@lru_cache
def fitted(name: str) -> Calibrator:
    return fit(name, data())


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_distributions(name: str) -> None:
    p = probs(fitted(name), data())

    assert p.dtype == np.float64
    assert p.shape == data().test.shape
    assert p.min() >= 0
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_json_and_safetensors(name: str) -> None:
    cal = fitted(name)
    scalars, arrays = split_state(cal.state())

    assert all(type(value) in (int, float, str, bool) for value in scalars.values()), scalars
    restored = json.loads(json.dumps(scalars, allow_nan=False))
    restored |= load(save({key: np.ascontiguousarray(value) for key, value in arrays.items()}))
    again = build(name).restore(restored)

    assert np.array_equal(probs(again, data()), probs(cal, data()))


@pytest.mark.parametrize("name", NAMES)
def test_convergence_is_reported(name: str) -> None:
    state = fitted(name).state()

    assert state["converged"] is True
    assert (state["classes"], state["n"]) == (4, 300)


@pytest.mark.parametrize("name", [n for n in NAMES if plugins.read("calibrator", n).facts["argmax_preserving"]])
def test_argmax_is_preserved(name: str) -> None:
    d = data()

    for cal, logits in ((fitted(name), d.test), (fit(name, data(k=2)), data(k=2).test)):
        p = probs(cal, d._replace(test=logits))
        assert np.array_equal(p.argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.parametrize("name", [n for n in NAMES if plugins.read("calibrator", n).facts["differentiable"]])
def test_declared_differentiable_has_a_gradient(name: str) -> None:
    d, cal = data(), fitted(name)
    direction = np.random.default_rng(0).normal(size=d.test.shape)

    def slope(h: float) -> np.ndarray:
        ahead, behind = d._replace(test=d.test + h * direction), d._replace(test=d.test - h * direction)
        return (probs(cal, ahead) - probs(cal, behind)) / (2 * h)

    coarse, fine = slope(1e-4), slope(1e-5)
    smooth = np.abs(coarse - fine).max(axis=1) < 1e-4

    assert smooth.mean() > 0.98
    assert (np.abs(fine).max(axis=1) > 1e-9).mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_fit_is_deterministic(name: str) -> None:
    assert np.array_equal(probs(fit(name, data()), data()), probs(fitted(name), data()))


@pytest.mark.parametrize("name", [n for n in NAMES if not plugins.read("calibrator", n).facts["online"]])
def test_order_of_examples_does_not_matter(name: str) -> None:
    shuffled = fit(name, data(), np.random.default_rng(1).permutation(300))

    assert np.abs(probs(shuffled, data()) - probs(fitted(name), data())).max() < LOOSE.get(name, 1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["two classes", "class absent", "one class", "five examples", "one example"])
def test_poor_data_gives_distributions(name: str, case: str) -> None:
    d = data(k=2) if case == "two classes" else data()
    rows = {
        "two classes": np.arange(300),
        "class absent": np.flatnonzero(d.labels != 1),
        "one class": np.flatnonzero(d.labels == 1),
        "five examples": np.arange(5),
        "one example": np.arange(1),
    }[case]

    p = probs(fit(name, d, rows), d)

    assert np.isfinite(p).all()
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_exact_zeros_and_ones_are_taken(name: str) -> None:
    d = data()
    hard = np.eye(4)[d.labels]
    hard[::3] = np.eye(4)[(d.labels[::3] + 1) % 4]
    d = d._replace(logits=hard, test=np.eye(4)[np.arange(200) % 4])

    p = probs(fit(name, d, given="probs"), d, given="probs")

    assert np.isfinite(p).all()
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_refused(name: str) -> None:
    d = data()
    bad = d.logits.copy()
    bad[7, 1] = np.nan

    with pytest.raises(DataError, match="row 7"):
        fit(name, d._replace(logits=bad))
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.3"):
        fit(name, d._replace(labels=d.labels + 1))
    if name != "none":
        with pytest.raises(DataError, match="not fitted"):
            probs(build(name), d)
    with pytest.raises(DataError, match="fitted on 4 classes"):
        probs(fitted(name), data(k=2))


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_given_as_logits_draw_a_warning(name: str) -> None:
    p = np.full((3, 4), 0.25)

    with pytest.warns(LooksLikeProbabilities, match="given='probs'"):
        probs(fitted(name), data()._replace(test=p, test_features=data().test_features[:3]))


def test_logits_given_as_probabilities_are_refused() -> None:
    with pytest.raises(DataError, match="are they logits"):
        build("temperature").fit(data().logits, data().labels, given="probs")


def test_one_class_draws_a_warning() -> None:
    with pytest.warns(CalibrationWarning, match="all 9 calibration labels are class 2"):
        build("platt").fit(data().logits[:9], np.full(9, 2))


def test_absent_classes_draw_a_warning() -> None:
    with pytest.warns(CalibrationWarning, match="1 of 4 classes have no calibration example"):
        build("platt").fit(data().logits[:9], np.array([0, 1, 2] * 3))


#: A million parameters take it more than five minutes at a thousand classes.
MANY_CLASSES = {"dirichlet": 200}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_classes_give_distributions(name: str) -> None:
    k = MANY_CLASSES.get(name, 1000)
    d = data(n=1500, k=k, m=50)
    found = probs(fit(name, d), d)
    assert found.shape == (50, k) and np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)

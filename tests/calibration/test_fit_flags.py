"""A fit that does not mean what it should says so: at its bound, not converged, on too little data, worse held out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import testbed
from testbed import plugins
from testbed.calibration.beta import Beta
from testbed.calibration.held_out import cross_validated
from testbed.calibration.inputs import CalibrationWarning
from testbed.calibration.solver import diagonal
from testbed.errors import DataError
from testbed.types import Outputs

NAMES = sorted(plugins.names("calibrator"))
KEEPS_ARGMAX = [n for n in NAMES if plugins.read("calibrator", n).facts["argmax_preserving"]]
UNLABELLED = [n for n in NAMES if "unlabelled" in testbed.calibrator(n).needs]


def fitted(name: str, x: np.ndarray, y: np.ndarray, target: np.ndarray | None = None, **params: Any) -> Any:
    """The calibrator fitted on drawn features, with `target` (or `x`) as unlabelled set; its warnings are silenced."""
    cal = testbed.calibrator(name, **params)
    rng, rows = np.random.default_rng(0), x if target is None else target
    features, others = rng.normal(size=(len(x), 4)), rng.normal(size=(len(rows), 4))
    given: dict[str, Any] = {"features": features} if "features" in cal.needs else {}
    given |= {"unlabelled": Outputs(rows, others)} if "unlabelled" in cal.needs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cal.fit(x, y, **given)


def over_confident(n: int, k: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits a fifth too large for their labels, with an accuracy near .8 as of a small network."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k))
    z[np.arange(n), rng.integers(0, k, n)] += 5.0
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    y = np.minimum((p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    return 1.2 * z, y


@pytest.mark.parametrize("labels", ["random", "worst", "one class", "rare"])
@pytest.mark.parametrize("name", KEEPS_ARGMAX)
def test_the_decision_stays_where_the_labels_say_nothing(name: str, labels: str) -> None:
    rng = np.random.default_rng(0)
    x, test = rng.normal(size=(60, 3)) * 2, rng.normal(size=(300, 3)) * 2
    y = {
        "random": rng.integers(0, 3, 60),
        "worst": x.argmin(axis=1),
        "one class": np.zeros(60, np.int64),
        "rare": np.r_[1, 2, np.zeros(58, np.int64)],
    }[labels]
    cal = fitted(name, x, y)

    p = cal.probs(test, **({"features": rng.normal(size=(300, 4))} if "features" in cal.needs else {}))

    assert np.array_equal(p.argmax(axis=1), test.argmax(axis=1))


def test_ets_at_chance_is_uniform_but_for_a_millionth() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    cal = fitted("ets", x, x.argmin(axis=1))
    assert cal.state()["weights"].tolist() == pytest.approx([0.0, 1e-6, 1 - 1e-6])
    assert cal.flags() == ("fit:at_bound",)


@pytest.mark.parametrize(
    "name",
    ["temperature", "ets", "svs", "sms", "bbse", "label_shift_em", "estimated_temperature", "windowed_temperature"],
)
def test_a_separable_split_is_said(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    assert "fit:at_bound" in fitted(name, x, x.argmax(axis=1)).flags()


@pytest.mark.parametrize("name", ["temperature", "svs", "sms", "bbse", "estimated_temperature", "windowed_temperature"])
def test_predictions_worse_than_chance_are_said(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    assert "fit:at_bound" in fitted(name, x, x.argmin(axis=1)).flags()


def test_every_doubt_warns_once_and_is_a_flag() -> None:
    x = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    with pytest.warns(CalibrationWarning) as caught:
        cal = testbed.calibrator("temperature").fit(x, np.array([0, 1]))
    assert [one.message.flag for one in caught] == ["absent_classes", "at_bound"]  # type: ignore[union-attr]
    assert cal.flags() == ("fit:absent_classes", "fit:at_bound")
    assert testbed.calibrator("temperature").restore(cal.state()).flags() == cal.flags()


def test_a_sound_fit_says_nothing() -> None:
    x, y = over_confident(400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert testbed.calibrator("temperature").fit(x, y).flags() == ()


@pytest.mark.parametrize("name", UNLABELLED)
def test_an_empty_target_is_refused(name: str) -> None:
    x, y = over_confident(50, 3)
    with pytest.raises(DataError, match="target set is empty"):
        fitted(name, x, y, x[:0])


def test_many_parameters_on_few_examples_are_worse_held_out() -> None:
    x, y = over_confident(508)
    found = cross_validated(lambda: testbed.calibrator("matrix"), x, y)
    assert found.worse and found.n == 508
    test, labels = over_confident(4000, seed=1)
    p = fitted("matrix", x, y).probs(test)[np.arange(4000), labels]
    bare = np.exp(test - test.max(axis=1, keepdims=True))
    bare_nll = -np.log((bare / bare.sum(axis=1, keepdims=True))[np.arange(4000), labels]).mean()
    assert -np.log(p).mean() > bare_nll  # and so they are on new examples
    assert not cross_validated(lambda: testbed.calibrator("temperature"), x, y).worse


def test_held_out_folds_are_all_examples_once_or_a_fifth() -> None:
    x, y = over_confident(6000, 3)
    assert cross_validated(lambda: testbed.calibrator("temperature"), x, y).n == 1200
    small = cross_validated(lambda: testbed.calibrator("none"), x[:100], y[:100])
    assert small.n == 100 and not small.worse and small.nll == pytest.approx(small.uncalibrated, rel=1e-9)
    with pytest.raises(DataError, match="too few"):
        cross_validated(lambda: testbed.calibrator("none"), x[:9], y[:9])


def test_conjugate_gradients_find_what_the_direct_solver_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = over_confident(2000, 12)
    direct = diagonal(x, y)
    monkeypatch.setattr("testbed.calibration.solver._DIRECT_CLASSES", 1)
    found = diagonal(x, y)
    assert found.converged and np.abs(found.weight - direct.weight).max() < 1e-4
    assert np.abs((found.bias - found.bias.mean()) - (direct.bias - direct.bias.mean())).max() < 1e-4


def test_joint_beta_is_the_least_nll_of_its_family() -> None:
    x, y = over_confident(3000, 4)
    cal = Beta(form="joint").fit(x, y)
    nll = lambda c: -np.log(Beta(form="joint").restore({**cal.state(), "coefficients": c}).probs(x)[range(3000), y])
    best = cal.state()["coefficients"]
    assert cal.state()["converged"] and (best[:, :2] >= 0).all()
    for step in np.random.default_rng(0).normal(size=(20, 4, 3)) * 0.05:
        near = np.concatenate([np.maximum(best[:, :2] + step[:, :2], 0), best[:, 2:] + step[:, 2:]], axis=1)
        assert nll(best).mean() <= nll(near).mean() + 1e-9
    apart = Beta().fit(x, y).probs(x)[range(3000), y]
    assert nll(best).mean() <= -np.log(apart).mean()


def test_gmm_leaves_lost_directions_out() -> None:
    rng = np.random.default_rng(0)
    features = (np.maximum(rng.normal(size=(60, 64)), 0) * 1e5).astype(np.float32)
    data = Outputs(np.zeros((60, 3), np.float32), features, np.repeat(np.arange(3), 20))
    with pytest.warns(UserWarning, match="directions left out"):
        scores = testbed.detector("gmm").fit(data).score(data)
    assert np.isfinite(scores).all()

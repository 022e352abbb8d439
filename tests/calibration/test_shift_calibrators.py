"""Calibrators for an unlabelled target: they do what they promise where their assumption holds."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.calibration.density_aware import DensityAware, kth_distance
from testbed.calibration.gaussian_process import GaussianProcess
from testbed.calibration.inputs import softmax
from testbed.calibration.label_shift import Bbse, LabelShiftEm
from testbed.calibration.pseudo_target import PseudoTarget
from testbed.calibration.target_temperature import EstimatedTemperature, TransCal
from testbed.calibration.temperature import Temperature, solve
from testbed.calibration.temperature_network import AdaptiveTemperature, ParameterisedTemperature
from testbed.metrics import brier, ece, nll
from testbed.types import Outputs


def label_shifted(n: int, prior: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal clusters, one a class; logits are the true log posterior under equal priors, times 2."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(prior), n, p=prior)
    means = 1.5 * np.eye(len(prior))
    x = means[y] + rng.normal(size=(n, len(prior)))
    return 2 * (x @ means.T), y


@pytest.mark.parametrize("method", [Bbse, LabelShiftEm])
def test_label_shift_weights_are_the_ratio_of_priors(method: type) -> None:
    z, y = label_shifted(8000, [1 / 3, 1 / 3, 1 / 3], 0)
    target, labels = label_shifted(8000, [0.6, 0.3, 0.1], 1)

    cal = method().fit(z, y, unlabelled=target)
    static = Temperature().fit(z, y)

    assert cal.state()["weights"] == pytest.approx([1.8, 0.9, 0.3], abs=0.12)
    assert nll(cal.probs(target), labels) < nll(static.probs(target), labels) - 0.02


def test_label_shift_weights_are_one_without_a_shift() -> None:
    z, y = label_shifted(8000, [0.5, 0.3, 0.2], 0)
    target, _ = label_shifted(8000, [0.5, 0.3, 0.2], 1)

    for method in (Bbse(), LabelShiftEm()):
        assert method.fit(z, y, unlabelled=target).state()["weights"] == pytest.approx([1, 1, 1], abs=0.12)


def covariate_shifted(n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels from clean logits, the model sees noisy ones: accuracy falls and confidence does not."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, 4))
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 3)
    return z + noise * rng.normal(size=z.shape), y


@pytest.mark.parametrize("estimator", ["atc", "doc"])
def test_estimated_temperature_matches_the_source_without_a_shift(estimator: str) -> None:
    z, y = covariate_shifted(4000, 0.0, 0)

    cal = EstimatedTemperature(estimator).fit(z, y, unlabelled=z)  # type: ignore[arg-type]

    assert cal.probs(z).max(axis=1).mean() == pytest.approx((z.argmax(axis=1) == y).mean(), abs=1e-6)


def test_transcal_moves_towards_the_target() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6000, 1))
    z = 2 * rng.normal(size=(6000, 3))
    true = softmax(z * np.where(features > 0, 0.2, 1.0))
    y = np.minimum((true.cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1), 2)
    source = rng.random(6000) < 1 / (1 + np.exp(2 * features[:, 0]))
    target = ~source

    cal = TransCal().fit(
        z[source], y[source], features=features[source], unlabelled=Outputs(z[target], features[target])
    )
    static = Temperature().fit(z[source], y[source])
    truth = (z[target].argmax(axis=1) == y[target]).mean()

    assert abs(cal.state()["accuracy"] - truth) < 0.05
    assert abs(static.probs(z[target]).max(axis=1).mean() - truth) > 0.1


def test_pseudo_target_warms_an_overconfident_model() -> None:
    z, y = covariate_shifted(3000, 2.5, 0)

    cal = PseudoTarget().fit(z, y, unlabelled=z)

    assert cal.state()["pairs"] > 1000
    assert cal.state()["temperature"] > 0


def test_pseudo_target_of_one_predicted_class_is_left_alone() -> None:
    z = np.array([[2.0, 0.0], [3.0, 0.0]])

    state = PseudoTarget().fit(z, np.array([0, 1]), unlabelled=z).state()

    assert state["temperature"] == 1.0
    assert state["converged"] is False


def two_regimes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits right where the first feature is below 0, and four times too sharp above."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3))
    z = 1.5 * rng.normal(size=(n, 3))
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 2)
    return z * np.where(features[:, :1] > 0, 4.0, 1.0), y, features


def test_adaptive_temperature_learns_what_one_temperature_cannot() -> None:
    (z, y, f), (zt, yt, ft) = two_regimes(3000, 0), two_regimes(3000, 1)

    adaptive = AdaptiveTemperature().fit(z, y, features=f)
    static = Temperature().fit(z, y)

    assert nll(adaptive.probs(zt, features=ft), yt) < nll(static.probs(zt), yt) - 0.05


def test_pts_is_no_worse_than_one_temperature() -> None:
    (z, y, _), (zt, yt, _) = two_regimes(3000, 0), two_regimes(3000, 1)

    pts, static = ParameterisedTemperature().fit(z, y), Temperature().fit(z, y)

    assert brier(pts.probs(zt), yt) < brier(static.probs(zt), yt) + 0.002


def test_network_gradient_is_that_of_its_loss() -> None:
    from testbed.calibration.temperature_network import _backward, _forward, _loss

    rng = np.random.default_rng(0)
    z, y, v = rng.normal(size=(20, 3)), rng.integers(0, 3, 20), rng.normal(size=(20, 2))
    theta = 0.3 * rng.normal(size=5 * 3 + 5 * 6 + 5 + 1)
    for loss in ("nll", "squared"):

        def value(t: np.ndarray, which: str = loss) -> float:
            return _loss(z, y, _forward(t, v)[0], which)[0]  # type: ignore[arg-type]

        log_t, hidden = _forward(theta, v)
        gradient = _backward(theta, v, hidden, _loss(z, y, log_t, loss)[1] / 20)  # type: ignore[arg-type]
        numeric = [(value(theta + 1e-6 * e) - value(theta - 1e-6 * e)) / 2e-6 for e in np.eye(len(theta))]
        assert np.abs(gradient - numeric).max() < 1e-7


def test_density_aware_is_less_sure_far_away() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 2)) * np.where(rng.random((2000, 1)) < 0.5, 1.0, 6.0)
    z = 3 * rng.normal(size=(2000, 3))
    lost = rng.random(2000) < np.minimum(np.linalg.norm(features, axis=1) / 8, 0.9)
    y = np.where(lost, rng.integers(0, 3, 2000), z.argmax(axis=1))

    cal = DensityAware().fit(z, y, features=features)

    assert cal.state()["weights"][0] > 0.1
    near, far = (cal.probs(z[:1], features=np.array([[s, 0.0]])).max() for s in (0.0, 40.0))
    assert near > far + 0.05
    assert nll(cal.probs(z, features=features), y) < nll(softmax(z / solve(z, y).temperature), y) - 0.01


def test_kth_distance_is_scipys() -> None:
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))

    assert np.allclose(kth_distance(a, b, 7), np.sort(cdist(a, b), axis=1)[:, 6])


def test_gaussian_process_undoes_a_monotone_distortion() -> None:
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(4000, 3))
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1), 2)
    bent = np.log(softmax(3 * z) * 0.9 + 0.1 / 3)
    fit, test = slice(0, 2000), slice(2000, None)

    cal = GaussianProcess().fit(bent[fit], y[fit])
    static = Temperature().fit(bent[fit], y[fit])

    assert cal.state()["gradient"] < 1e-6
    assert nll(cal.probs(bent[test]), y[test]) < nll(static.probs(bent[test]), y[test])
    assert ece(cal.probs(bent[test]), y[test]) < 0.05

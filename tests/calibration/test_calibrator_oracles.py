"""Calibrators against independent solutions: scikit-learn, scipy's optimisers, and definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, minimize, minimize_scalar

import testbed.calibration.enir as enir
from testbed.calibration.bbq import Bbq
from testbed.calibration.beta import Beta
from testbed.calibration.dirichlet import Dirichlet
from testbed.calibration.ensemble_temperature import EnsembleTemperature, on_simplex
from testbed.calibration.histogram import Histogram
from testbed.calibration.inputs import log_probs, softmax
from testbed.calibration.irm import Irm
from testbed.calibration.isotonic import Isotonic
from testbed.calibration.matrix import Matrix
from testbed.calibration.platt import Platt
from testbed.calibration.structured import Sms, Svs
from testbed.calibration.temperature import Temperature, solve
from testbed.calibration.top_label import TopLabel
from testbed.calibration.vector import Vector
from testbed.calibration.venn_abers import brackets


def sample(n: int = 400, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sharp, and labels drawn from their softened softmax."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(n, k))
    y = (softmax(z / 2 + np.arange(k) / 4).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return z, np.minimum(y, k - 1)


def mean_nll(scores: np.ndarray, y: np.ndarray) -> float:
    return -float(log_probs(scores)[np.arange(len(y)), y].mean())


@pytest.mark.parametrize("seed", range(3))
def test_temperature_is_scipys(seed: int) -> None:
    z, y = sample(seed=seed)
    found = minimize_scalar(lambda t: mean_nll(z / t, y), bounds=(0.1, 20), method="bounded", options={"xatol": 1e-10})

    state = Temperature().fit(z, y).state()

    assert state["temperature"] == pytest.approx(found.x, rel=1e-6)
    assert state["gradient"] < 1e-10


def test_weighted_temperature_is_that_of_repeated_rows() -> None:
    z, y = sample()
    weights = np.random.default_rng(0).integers(0, 4, len(y))

    weighted = solve(z, y, weights.astype(float))

    assert weighted.temperature == pytest.approx(
        solve(np.repeat(z, weights, axis=0), np.repeat(y, weights)).temperature
    )


def test_temperature_stops_at_its_bound_where_the_split_is_separable() -> None:
    z, _ = sample()

    with pytest.warns(UserWarning, match="end of the range"):
        state = Temperature().fit(z, z.argmax(axis=1)).state()

    assert state["at_bound"]
    assert not state["converged"]
    assert state["temperature"] == pytest.approx(1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_temperature_follows_the_scale_of_the_logits(scale: float) -> None:
    z, y = sample()
    base = solve(z, y).temperature

    found = solve(z * scale, y)

    if 1e-3 < base * scale < 1e3:
        assert found.temperature == pytest.approx(base * scale, rel=1e-9)
    else:
        assert found.at_bound


def test_platt_is_sklearns_sigmoid() -> None:
    from sklearn.calibration import _SigmoidCalibration

    z, y = sample()
    columns = [_SigmoidCalibration().fit(z[:, k], (y == k).astype(int)).predict(z[:, k]) for k in range(3)]
    expected = np.stack(columns, axis=1)

    p = Platt(score="logit").fit(z, y).probs(z)

    assert np.abs(p - expected / expected.sum(axis=1, keepdims=True)).max() < 1e-5


def test_isotonic_is_sklearns() -> None:
    from sklearn.isotonic import IsotonicRegression

    z, y = sample()
    p, new = softmax(z).round(2), softmax(sample(seed=1)[0])
    p /= p.sum(axis=1, keepdims=True)
    fits = [IsotonicRegression(out_of_bounds="clip").fit(p[:, k], y == k) for k in range(3)]
    expected = np.stack([f.predict(new[:, k]) for k, f in enumerate(fits)], axis=1)

    got = Isotonic().fit(p, y, given="probs").probs(new, given="probs")

    assert np.abs(got - expected / expected.sum(axis=1, keepdims=True)).max() < 1e-12


def test_irm_is_one_isotonic_curve() -> None:
    from sklearn.isotonic import IsotonicRegression

    z, y = sample()
    p = softmax(z)
    curve = IsotonicRegression(out_of_bounds="clip").fit(p.ravel(), np.eye(3)[y].ravel())
    expected = curve.predict(p.ravel()).reshape(p.shape) + 1e-9 * p

    got = Irm().fit(z, y).probs(z)

    assert np.abs(got - expected / expected.sum(axis=1, keepdims=True)).max() < 1e-12


def test_vector_scaling_is_scipys() -> None:
    z, y = sample()
    found = minimize(lambda t: mean_nll(z * t[:3] + t[3:], y), np.r_[np.ones(3), np.zeros(3)], tol=1e-12)

    cal = Vector().fit(z, y)

    assert np.abs(cal.probs(z) - softmax(z * found.x[:3] + found.x[3:])).max() < 1e-4
    assert mean_nll(np.log(cal.probs(z)), y) <= found.fun + 1e-9


def test_matrix_scaling_is_scipys() -> None:
    z, y = sample()

    def loss(t: np.ndarray) -> float:
        return mean_nll(z @ t[:9].reshape(3, 3).T + t[9:], y)

    found = minimize(loss, np.r_[np.eye(3).ravel(), np.zeros(3)], tol=1e-12)

    assert mean_nll(np.log(Matrix().fit(z, y).probs(z)), y) <= found.fun + 1e-8


def test_dirichlet_objective_is_the_papers() -> None:
    z, y = sample()
    lam, mu = 0.5, 0.2
    x = log_probs(z)

    def loss(t: np.ndarray) -> float:
        w, b = t[:9].reshape(3, 3), t[9:]
        off = (w**2).sum() - (np.diag(w) ** 2).sum()
        return mean_nll(x @ w.T + b, y) + lam / 6 * off + mu / 3 * (b**2).sum()

    found = minimize(loss, np.r_[np.eye(3).ravel(), np.zeros(3)], tol=1e-12)
    state = Dirichlet(lam=lam, mu=mu).fit(z, y).state()

    assert loss(np.r_[state["weight"].ravel(), state["bias"]]) <= found.fun + 1e-8
    assert np.abs(state["weight"] - found.x[:9].reshape(3, 3)).max() < 1e-3


@pytest.mark.parametrize("method", [Svs, Sms])
def test_structured_scaling_objective_is_the_papers(method: type) -> None:
    z, y = sample(n=60)
    n, k = z.shape
    cal = method().fit(z, y)
    state = cal.state()
    q = n / (n + 1) * softmax(z / solve(z, y).temperature) + 1 / (n + 1) / k

    def loss(t: np.ndarray) -> float:
        w, b = t[:9].reshape(3, 3), t[9:]
        diagonal, off = np.diag(w) - 1, w - np.diag(np.diag(w))
        penalty = k / n * ((diagonal**2).sum() + (b**2).sum()) + k * (k - 1) / n * (off**2).sum()
        return mean_nll(np.log(q) @ w.T + b, y) + penalty

    weight = np.diag(state["weight"]) if method is Svs else state["weight"]
    here = np.r_[weight.ravel(), state["bias"]]
    free = np.r_[np.eye(3).ravel() > 0 if method is Svs else np.ones(9) > 0, np.ones(3) > 0]
    slope = np.array([(loss(here + 1e-5 * e) - loss(here - 1e-5 * e)) / 2e-5 for e in np.eye(12)[free]])

    assert np.abs(slope).max() < 5e-5


def test_beta_is_the_constrained_optimum() -> None:
    z, y = sample()
    p = softmax(z)
    cal = Beta().fit(z, y)
    for k, (a, b, c) in enumerate(cal.state()["coefficients"]):
        target = (y == k).astype(float)
        inside, outside = np.log(p[:, k]), -np.log1p(-p[:, k])

        def loss(t: np.ndarray, i: np.ndarray = inside, o: np.ndarray = outside, h: np.ndarray = target) -> float:
            u = t[0] * i + t[1] * o + t[2]
            return float((np.logaddexp(0, u) - h * u).mean())

        found = minimize(loss, [1.0, 1.0, 0.0], bounds=[(0, None), (0, None), (None, None)], tol=1e-12)
        assert min(a, b) >= 0
        assert loss(np.array([a, b, c])) <= found.fun + 1e-7


def test_ets_weights_are_the_simplex_optimum() -> None:
    z, y = sample()
    hot = np.eye(3)[y]
    state = EnsembleTemperature().fit(z, y).state()
    members = [softmax(z / state["temperature"]), softmax(z), np.full_like(z, 1 / 3)]

    def squared(w: np.ndarray) -> float:
        return float(((sum(a * m for a, m in zip(w, members)) - hot) ** 2).sum(axis=1).mean())

    best = min(squared(np.array([a, b, 1 - a - b])) for a in np.linspace(0, 1, 41) for b in np.linspace(0, 1 - a, 41))

    assert squared(state["weights"]) <= best + 1e-9


def test_simplex_solution_can_be_a_corner() -> None:
    assert on_simplex(np.eye(2), np.array([5.0, 0.0])).tolist() == [1.0, 0.0]


def test_histogram_by_hand() -> None:
    p1 = np.array([0.05, 0.1, 0.15, 0.6, 0.7])
    p = np.stack([1 - p1, p1], axis=1)

    got = Histogram(bins=2).fit(p, np.array([0, 0, 1, 1, 1]), given="probs").probs(p[[0, 3]], given="probs")

    assert np.allclose(got, [[2 / 3, 1 / 3], [0, 1]])


@pytest.mark.parametrize("binning", ["mass", "quantile"])
def test_histogram_bins_hold_equal_numbers(binning: str) -> None:
    z, y = sample(n=300)
    cal = Histogram(bins=5, binning=binning).fit(z, y)  # type: ignore[arg-type]
    edges = cal.state()["edges"][:4]

    counts = np.bincount(np.searchsorted(edges, softmax(z)[:, 0], side="right"))

    assert len(counts) == 5
    assert np.ptp(counts) <= 2


def test_bbq_with_one_model_is_the_posterior_mean_of_its_bin() -> None:
    p = np.array([[0.7, 0.3], [0.6, 0.4], [0.8, 0.2]])

    got = Bbq(spread=0.7).fit(p, np.array([0, 0, 1]), given="probs").probs(p[:1], given="probs")

    first, second = (2 + 2 * 0.5) / (3 + 2), (1 + 2 * 0.5) / (3 + 2)
    assert np.allclose(got, [[first / (first + second), second / (first + second)]])


def test_top_label_bins_the_confidence_of_each_prediction() -> None:
    z, y = sample(n=900)
    p = softmax(z)
    got = TopLabel(points=10_000).fit(z, y).probs(z)

    best = p.argmax(axis=1)
    for k in range(3):
        share = (y[best == k] == k).mean()
        assert np.allclose(got[best == k, k], share)


def test_near_isotonic_path_solves_its_problem() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=8) + np.arange(8) / 4
    solutions = [np.repeat(heights, sizes) for sizes, heights in enir.path(values, np.ones(8))]

    assert np.allclose(solutions[0], values)
    assert np.allclose(solutions[-1], isotonic_regression(values).x)
    for middle in solutions[1:-1]:
        penalty = np.maximum(middle[:-1] - middle[1:], 0).sum()
        rivals = values + rng.normal(size=(20_000, 8)) * 0.3
        for rival in (middle + 0.02 * (rivals - values), rivals):
            fall = np.maximum(rival[:, :-1] - rival[:, 1:], 0).sum(axis=1)
            square = ((rival - values) ** 2).sum(axis=1)
            assert (square[fall <= penalty] >= ((middle - values) ** 2).sum() - 1e-9).all()


def test_venn_abers_is_isotonic_regression_with_the_point_added() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, 40).astype(float)
    targets = (rng.random(40) < scores / 12).astype(float)
    distinct, lower, upper = brackets(scores, targets)
    places = np.sort(np.concatenate([distinct, distinct - 0.5, [distinct[-1] + 0.5]]))

    assert len(places) == len(lower) == len(upper)
    for place, low, high in zip(places, lower, upper):
        for label, got in ((0.0, low), (1.0, high)):
            s, t = np.append(scores, place), np.append(targets, label)
            knots, inverse = np.unique(s, return_inverse=True)
            mass = np.bincount(inverse)
            fitted = isotonic_regression(np.bincount(inverse, t) / mass, weights=mass.astype(float)).x
            assert got == pytest.approx(fitted[np.searchsorted(knots, place)], abs=1e-12)


def test_isotonic_can_lower_ece_while_log_loss_rises() -> None:
    from testbed.metrics import ece, nll

    z, y = sample(n=2000, k=10)
    fit, test = slice(0, 300), slice(300, None)
    before, after = softmax(z[test]), Isotonic().fit(z[fit], y[fit]).probs(z[test])

    assert ece(after, y[test]) < ece(before, y[test])
    assert nll(after, y[test]) > nll(before, y[test])
    assert nll(after, y[test], floor=0) == np.inf

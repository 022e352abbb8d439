"""Metrics of probabilities: values by hand, other packages' values, and properties that must hold."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed import metrics, plugins
from testbed.errors import DataError, UsageError
from testbed.metrics import binning
from testbed.metrics.resampled import ProbabilityMetric

GOLDEN = Path(__file__).parents[1] / "golden" / "calibration.json"
CONVENTIONS = ("guo", "netcal", "torchmetrics", "sklearn", "kumar")
PLUGINS = sorted(name for name in plugins.names("metric") if plugins.read("metric", name).facts["needs"] == "probs")


@lru_cache
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sample(n: int = 500, k: int = 4, sharpness: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `sharpness` times too sharp (1: calibrated) and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k))
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    return softmax(sharpness * z), y


def probability_metric(name: str) -> ProbabilityMetric:
    built = plugins.read("metric", name).build()
    assert isinstance(built, ProbabilityMetric)
    return built


@pytest.mark.parametrize("name", sorted(golden()["metrics"]))
def test_other_packages_agree(name: str) -> None:
    data, expected = golden()["inputs"], golden()["metrics"][name]
    p, y = softmax(np.array(data["logits"])), np.array(data["labels"])
    words = name.split()
    if words[0] in ("ece", "mce"):
        q, labels = (p, y) if words[2] == "smooth" else (np.array(data["edges"]), np.array(data["edge_labels"]))
        got = getattr(metrics, words[0])(q, labels, int(words[3]), words[1])
    else:
        got = {
            "debiased l2 width 4": lambda: metrics.debiased_ece(p, y, 4, mass="width"),
            "smooth": lambda: metrics.smooth_ece(p, y),
            "ks p": lambda: metrics.ks_test(p, y).p_value,
            "kuiper p": lambda: metrics.kuiper_test(p, y).p_value,
            "spiegelhalter z": lambda: metrics.spiegelhalter(p, y).statistic,
        }[name]()

    loose = {"torchmetrics": 1e-6}.get(words[1] if len(words) > 1 else "", 1e-9)
    assert got == pytest.approx(expected, abs=1e-3 if name == "smooth" else loose)


def test_conventions_differ_where_confidences_lie_on_edges() -> None:
    data = golden()["inputs"]
    five, ten = ({c: metrics.ece(data["edges"], data["edge_labels"], b, c) for c in CONVENTIONS} for b in (5, 10))

    assert five["guo"] - five["torchmetrics"] > 0.05
    assert ten["guo"] - ten["netcal"] > 0.01
    assert ten["guo"] == pytest.approx(ten["kumar"])


def test_binary_sklearn_is_calibration_curve() -> None:
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(0)
    p1 = rng.integers(0, 11, 400) / 10
    y = (rng.random(400) < p1**2).astype(int)
    true, mean = calibration_curve(y, p1, n_bins=10)
    index = np.searchsorted(np.linspace(0, 1, 11)[1:-1], p1)
    share = np.unique(index, return_counts=True)[1] / 400

    got = metrics.ece(np.stack([1 - p1, p1], axis=1), y, 10, "sklearn")

    assert got == pytest.approx(float((share * abs(true - mean)).sum()))


@pytest.mark.parametrize("bins", [1, 2, 7, 10, 15, 100])
def test_float32_edges_are_torchs(bins: int) -> None:
    torch = pytest.importorskip("torch")

    # torch rounds a linspace one way on one kind of CPU and another way on the next: one unit in the last place
    np.testing.assert_array_max_ulp(binning.float32_edges(bins), torch.linspace(0, 1, bins + 1).numpy(), maxulp=1)


def test_scores_are_sklearns() -> None:
    from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

    p, y = sample()

    assert metrics.accuracy(p, y) == accuracy_score(y, p.argmax(axis=1))
    assert metrics.nll(p, y) == pytest.approx(log_loss(y, p))
    two = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
    assert metrics.brier(two, (y == 0).astype(int), scale="half") == pytest.approx(brier_score_loss(y == 0, p[:, 0]))


def test_zeros_are_floored_as_sklearn_does() -> None:
    from sklearn.metrics import log_loss

    p, y = np.array([[1.0, 0.0], [0.25, 0.75]]), np.array([1, 1])

    assert metrics.nll(p, y) == pytest.approx(log_loss(y, p, labels=[0, 1]))
    assert metrics.nll(p, y, floor=0) == np.inf


@pytest.mark.parametrize("k", [2, 4, 1000])
@pytest.mark.parametrize("name", PLUGINS)
def test_every_metric_takes_any_number_of_classes(name: str, k: int) -> None:
    p, y = sample(60, k)
    metric = plugins.read("metric", name).build()

    estimate = metric(p, y, draws=metrics.Draws(0, 60, 50))

    found = [estimate] if isinstance(estimate, metrics.Estimate) else estimate
    for one in found:
        assert np.isfinite(one.value)
        assert one.low <= one.value <= one.high or (
            np.isnan(one.low) and ("p-value" in one.convention or "no interval" in one.convention)
        )
        assert one.convention
        assert one.n == 60


@pytest.mark.parametrize("name", PLUGINS)
def test_order_of_examples_does_not_change_a_value(name: str) -> None:
    p, y = sample(80)
    p = np.round(p, 1) + 1e-3
    p /= p.sum(axis=1, keepdims=True)
    order = np.random.default_rng(1).permutation(80)
    metric, draws = plugins.read("metric", name).build(), metrics.Draws(0, 80, 20)

    first, second = metric(p, y, draws=draws), metric(p[order], y[order], draws=draws)

    for a, b in zip(np.atleast_1d(first), np.atleast_1d(second)):
        assert a.value == pytest.approx(b.value, abs=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "ece",
        "mce",
        "adaptive_ece",
        "classwise_ece",
        "nll",
        "brier",
        "rbs",
        "ks_error",
        "kuiper_error",
        "top_label_ece",
        "marginal_ece",
    ],
)
def test_replicates_are_the_metric_of_the_resample(name: str) -> None:
    p, y = sample(50)
    draws = metrics.Draws(0, 50, 12)
    found = probability_metric(name).measure(p, y, draws)
    function = getattr(metrics, name)

    direct = draws.replicate(lambda rows: function(p[rows], y[rows]))

    assert found.value == pytest.approx(function(p, y))
    if name not in (
        "adaptive_ece",
        "top_label_ece",
        "marginal_ece",
    ):  # their bins are held fixed, those of a resample are its own
        assert np.allclose(found.replicates, direct, atol=1e-12)


@pytest.mark.parametrize("name", ["ece", "adaptive_ece", "debiased_ece", "smooth_ece", "ks_error"])
def test_calibrated_predictions_score_near_zero_and_sharp_ones_do_not(name: str) -> None:
    good, bad = sample(4000, sharpness=1.0), sample(4000, sharpness=3.0)
    function = getattr(metrics, name)

    assert function(*good) < 0.035
    assert function(*bad) > 0.1


def test_debiasing_removes_most_of_the_bias() -> None:
    plain, corrected = [], []
    for seed in range(40):
        p, y = sample(300, sharpness=1.0, seed=seed)
        plain.append(metrics.adaptive_ece(p, y))
        corrected.append((metrics.debiased_ece(p, y, norm="l1"), metrics.debiased_ece(p, y, norm="l2")))

    assert np.mean(plain) > 0.06
    assert np.mean([first for first, _ in corrected]) < 0.65 * np.mean(plain)
    assert np.mean([second == 0 for _, second in corrected]) > 0.3


def test_spiegelhalter_without_variance() -> None:
    """At confidence 1 a wrong example rules calibration out; all right, or all at one half, is 0 / 0."""
    sure = np.tile([1.0, 0.0], (50, 1))
    wrong = metrics.spiegelhalter(sure, np.r_[np.ones(40, int), np.zeros(10, int)])

    assert (wrong.statistic, wrong.p_value) == (np.inf, 0.0)
    for p in (sure, np.full((50, 2), 0.5)):
        undefined = metrics.spiegelhalter(p, np.zeros(50, int))
        assert np.isnan(undefined.statistic) and np.isnan(undefined.p_value)


@pytest.mark.parametrize("test", ["ks_test", "kuiper_test", "spiegelhalter", "skce_test", "tcal_test"])
def test_tests_hold_their_level_and_have_power(test: str) -> None:
    function = getattr(metrics, test)
    more = {"skce_test": {"signs": 100}, "tcal_test": {"draws": 100}}.get(test, {})
    level = np.mean([function(*sample(150, sharpness=1.0, seed=s), **more).p_value < 0.1 for s in range(120)])
    power = np.mean([function(*sample(300, sharpness=3.0, seed=s), **more).p_value < 0.05 for s in range(10)])

    assert 0.02 <= level <= 0.2
    assert power >= 0.8


def test_skce_by_its_definition() -> None:
    p, y = sample(12, 3)
    e = np.eye(3)[y] - p
    total = 0.0
    for i in range(12):
        for j in range(i):
            total += e[i] @ e[j] * np.exp(-np.abs(p[i] - p[j]).sum() / 2)

    assert metrics.skce(p, y, nu=1.0) == pytest.approx(2 * total / (12 * 11))


def test_canonical_error_by_its_definition() -> None:
    from scipy.stats import dirichlet

    p, y = sample(15, 3)
    h, total = 0.2, 0.0
    for i in range(15):
        others = [j for j in range(15) if j != i]
        weights = np.array([dirichlet.pdf(p[i], p[j] / h + 1) for j in others])
        expected = weights @ np.eye(3)[y[others]] / weights.sum()
        total += np.abs(expected - p[i]).sum() / 15

    assert metrics.canonical_ece(p, y, bandwidth=h) == pytest.approx(total)


def test_pairwise_metrics_refuse_large_sets() -> None:
    p, y = sample(5001, 2)

    with pytest.raises(DataError, match="score a random subset"):
        metrics.skce(p, y)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 20))
def test_brier_parts_add_up(seed: int, k: int, bins: int) -> None:
    p, y = sample(50, k, seed=seed)
    parts = metrics.brier_decomposition(p, y, bins)
    split = metrics.brier_split(p, y)
    total = metrics.brier(p, y)

    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(total)
    assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0
    assert split.refinement + split.calibration == pytest.approx(total)
    assert split.calibration >= -1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from(CONVENTIONS))
def test_ece_is_between_zero_and_its_coarsest_bound(seed: int, bins: int, convention: str) -> None:
    p, y = sample(40, 3, seed=seed)
    value = metrics.ece(p, y, bins, convention)  # type: ignore[arg-type]

    assert 0 <= value <= 1
    assert value >= abs(metrics.accuracy(p, y) - p.max(axis=1).mean()) - 1e-6
    assert metrics.mce(p, y, bins, convention) >= value - 1e-9  # type: ignore[arg-type]


def test_loss_split_finds_a_temperature() -> None:
    p, y = sample(2000, sharpness=3.0)

    split = metrics.loss_split(p, y, lambda fit_p, fit_y, q: softmax(np.log(q) / 3))

    assert split.calibration > 0.1
    assert split.refinement == pytest.approx(metrics.nll(softmax(np.log(p) / 3), y))


def test_bad_probabilities_are_refused() -> None:
    p, y = sample(20)

    with pytest.raises(DataError, match="row 3"):
        metrics.ece(np.where(np.arange(20)[:, None] == 3, np.nan, p), y)
    with pytest.raises(DataError, match="are they logits"):
        metrics.nll(3 * p, y)
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.3"):
        metrics.brier(p, y + 4)
    with pytest.raises(DataError, match="integer labels"):
        metrics.accuracy(p, y.astype(float))
    with pytest.raises(UsageError, match="did you mean 'netcal'"):
        metrics.ece(p, y, convention="netcl")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 1"):
        metrics.ece(p, y, bins=0)


def test_fewer_examples_than_bins_and_exact_ones() -> None:
    p, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0])

    for convention in CONVENTIONS:
        assert metrics.ece(p, y, 15, convention) == pytest.approx(0.5)
    assert metrics.adaptive_ece(p, y) == pytest.approx(0.5)
    assert metrics.smooth_ece(p, y) == pytest.approx(0.5, abs=0.12)
    assert metrics.ks_test(p, y).p_value == 0.0


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (7, 20), (998, 1000)])
def test_wilson_is_statsmodels_formula(right: int, n: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, n).proportion_ci(0.95, "wilson")

    assert metrics.wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_top_label_errors_of_classes_cannot_cancel() -> None:
    p = np.tile([[0.8, 0.2], [0.2, 0.8]], (500, 1))
    right = np.concatenate([np.full(500, True), np.arange(500) % 5 < 3])
    rows = np.concatenate([np.arange(0, 1000, 2), np.arange(1, 1000, 2)])
    y = np.where(right, p[rows].argmax(axis=1), 1 - p[rows].argmax(axis=1))

    assert metrics.ece(p[rows], y) == pytest.approx(0.0, abs=1e-12)
    assert metrics.top_label_ece(p[rows], y) == pytest.approx(0.2)


def test_marginal_error_of_one_bin_by_hand() -> None:
    p, y = sample(200, 3)
    gaps = [p[:, k].mean() - (y == k).mean() for k in range(3)]
    spread = [(y == k).mean() * (1 - (y == k).mean()) / 199 for k in range(3)]

    assert metrics.marginal_ece(p, y, 1, debias=False) == pytest.approx(np.sqrt(np.mean(np.square(gaps))))
    expected = np.sqrt(np.mean([max(0.0, g * g - s) for g, s in zip(gaps, spread)]))
    assert metrics.marginal_ece(p, y, 1) == pytest.approx(expected)


def test_skce_interval_covers_the_error_of_the_population() -> None:
    big = plugins.read("metric", "skce").build(nu=1.0, limit=5000)
    truth = np.mean(
        [big(*sample(4000, sharpness=2.0, seed=s), draws=metrics.Draws(0, 4000, 1)).value for s in (1, 2, 3)]
    )
    small = plugins.read("metric", "skce").build(nu=1.0)
    found = [small(*sample(200, seed=s), draws=metrics.Draws(0, 200, 1)) for s in range(60)]

    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.85


def test_a_large_set_is_cut_and_the_convention_says_so() -> None:
    p, y = sample(3000)

    for name in ("skce", "skce_p", "canonical_ece"):
        one = plugins.read("metric", name).build(limit=100)(p, y, draws=metrics.Draws(0, 3000, 1))
        assert one.n == 100
        assert "100 of 3000 drawn" in one.convention


@pytest.mark.parametrize("name", ["ks_p", "kuiper_p", "spiegelhalter_p", "tcal_p", "skce_p"])
def test_p_values_are_those_of_the_tests(name: str) -> None:
    p, y = sample(300, sharpness=1.2)
    function = {"spiegelhalter_p": "spiegelhalter"}.get(name, name.replace("_p", "_test"))

    got = plugins.read("metric", name).build()(p, y, draws=metrics.Draws(0, 300, 1))

    order = np.lexsort((y, *p.T)) if name == "skce_p" else np.arange(300)
    assert got.value == getattr(metrics, function)(p[order], y[order]).p_value


def test_coverage_at_risk_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    c = np.round(rng.random(60), 1)
    right = rng.random(60) < 0.5 + c / 2

    shares = [(c >= t).mean() for t in np.unique(c) if (~right[c >= t]).mean() <= 0.2]

    assert metrics.coverage_at_risk(c, right, 0.2) == pytest.approx(max(shares, default=0.0))
    got = plugins.read("metric", "coverage_at_risk").build(risk=0.2)(c, right, draws=None)
    assert got.low <= got.value <= got.high

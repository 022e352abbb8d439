"""Intervals: ends by hand and against scipy, never a point, and (slow) how often they hold the value they are of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from testbed import metrics, plugins
from testbed.metrics import Draws, Estimate, bounded, gaps, ood
from testbed.metrics.aggregates import MeanError, Measures, WorstShift, unseen_ends
from testbed.metrics.calibration_error import ClasswiseEce, Ece, Mce, binned_gap_draws, classwise_draws
from testbed.metrics.failure import AUGRC, AURC
from testbed.metrics.groups import WorstGroupAccuracy
from testbed.metrics.ood import AUPRIn, AUPROut, FPRAtTPR
from testbed.metrics.robustness import curve_area
from testbed.metrics.scores import Accuracy, Brier, Nll
from testbed.metrics.selective import CoverageAtRisk, binomial_ends
from testbed.metrics.stability import MeanFlipProbability

NO_INTERVAL = ("canonical_ece", "detection_error")


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (7, 20), (998, 1000)])
def test_clopper_pearson_is_scipys(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(0.95, "exact")

    assert bounded.clopper_pearson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("n", [50, 300, 2000])
def test_a_share_is_covered_where_wilson_is_not(n: int) -> None:
    p = 0.175 / n
    chance = stats.binom.pmf(np.arange(30), n, p)

    held, wilson = (
        sum(chance[k] for k in range(30) if f(n - k, n)[0] <= 1 - p <= f(n - k, n)[1])
        for f in (bounded.clopper_pearson, metrics.wilson)
    )

    assert held >= 0.95
    assert wilson < 0.85


def test_gamma_ends_are_scipys_and_the_rule_of_three_at_zero() -> None:
    low, high = bounded.gamma_interval(0.2, 0.001, 0.01, 0.0001)
    law, wider = (stats.gamma(y * y / v, scale=v / y) for y, v in ((0.2, 0.001), (0.21, 0.0011)))

    assert (low, high) == pytest.approx((law.ppf(0.025), wider.ppf(0.975)))
    assert bounded.gamma_interval(0.0, 0.0, 1 / 50, 1 / 2500) == pytest.approx((0.0, -math.log(0.025) / 50))
    assert bounded.gamma_interval(0.8, 0.001, 0.01, 0.0001) == pytest.approx((1 - high, 1 - low))
    assert bounded.gamma_interval(0.5, math.nan, 1.0, 1.0, floor=-1.0) == (-1.0, 1.0)
    low, high = bounded.gamma_interval(0.5, 0.0, 0.01, 0.0001)
    assert low < 0.5 < high


def test_halls_interval_is_students_without_skew_and_leans_to_the_tail_with_it() -> None:
    even = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    low, high = bounded.skewed_mean_interval(even)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, 3.0, even.std(ddof=1) / 5**0.5))

    skewed = np.random.default_rng(0).exponential(size=100)
    low, high = bounded.skewed_mean_interval(skewed)
    assert high - skewed.mean() > 1.1 * (skewed.mean() - low)


def test_a_mean_loss_with_nothing_wrong_allows_for_errors_that_were_not_seen() -> None:
    p, y = np.tile([0.97, 0.03], (50, 1)), np.zeros(50, int)
    most = 1 - 0.025 ** (1 / 50)

    nll, brier = (metric(p, y, draws=Draws(0, 50, 2)) for metric in (Nll(), Brier()))

    assert nll.high == pytest.approx((1 - most) * -math.log(0.97) + most * -math.log(0.03))
    assert brier.high == pytest.approx((1 - most) * 2 * 0.03**2 + most * 2 * 0.97**2)
    assert (nll.low, brier.low) == pytest.approx((nll.value, brier.value))
    assert "widened: 0 wrong" in nll.convention
    upside = Nll()(p, 1 - y, draws=Draws(0, 50, 2))
    assert upside.low == pytest.approx((1 - most) * -math.log(0.03) + most * -math.log(0.97))


@pytest.mark.parametrize("m", [0.0, 0.7, 3.0])
def test_folded_moments_are_scipys(m: float) -> None:
    law = stats.foldnorm(m)
    mean, variance, skew = (float(v) for v in law.stats("mvs"))

    assert [float(v) for v in gaps.folded(m)] == pytest.approx([mean, variance, skew * variance**1.5], abs=1e-9)


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (7, 0.5), (30, 0.97), (12, 1e-9)])
def test_binomial_deviation_by_enumeration(n: int, p: float) -> None:
    k = np.arange(n + 1)
    expected = float((np.abs(k - n * p) * stats.binom.pmf(k, n, p)).sum())

    assert gaps.binomial_deviation(np.array([n]), np.array([p]))[0] == pytest.approx(expected, rel=1e-7)


def test_pearson_quantile_is_scipys() -> None:
    expected = stats.pearson3(skew=0.8, loc=2, scale=3).ppf([0.025, 0.975])

    got = [gaps.pearson_quantile(q, 2.0, 9.0, 0.8 * 27) for q in (0.025, 0.975)]

    assert got == pytest.approx(expected, rel=1e-6)


def test_the_lower_end_of_a_sum_of_gaps_is_what_noise_exceeds_one_time_in_forty() -> None:
    rng = np.random.default_rng(0)
    c = rng.uniform(0.5, 1, 600)
    index = np.minimum((c * 10).astype(int), 9)
    hits = (rng.random(600) < c - 0.12).astype(float)
    drawn = (rng.random((4000, 600)) < c) - c
    sums = np.stack([drawn[:, index == b].sum(axis=1) for b in range(5, 10)])
    excess = np.quantile(np.abs(sums).sum(axis=0), 0.975) / 600

    low, high = gaps.absolute_interval(gaps.cells(c, hits, index), 600)

    value = Ece(bins=10)(np.stack([c, 1 - c], 1), 1 - hits.astype(int), draws=Draws(0, 600, 2)).value
    assert value - 1.02 * excess <= low <= value  # shifted cells have less excess than calibrated ones
    assert low < 0.12 < high


def test_the_largest_gap_by_hand_and_which_bins_decide() -> None:
    c = np.repeat([0.55, 0.95], [20, 5])
    hits = np.repeat([1.0, 0.0, 1.0], [11, 9, 5])
    ends = [stats.binomtest(k, n).proportion_ci(0.95, "exact") for k, n in ((11, 20), (5, 5))]

    found = gaps.largest_interval(gaps.cells(c, hits, np.repeat([0, 1], [20, 5])))

    assert found.high == pytest.approx(max(0.55 - ends[0].low, ends[0].high - 0.55, 0.95 - ends[1].low))
    assert (found.low, found.at, found.widest) == (0.0, 1, 1)
    one = Mce()(np.stack([c, 1 - c], 1), 1 - hits.astype(int), draws=Draws(0, 25, 2))
    assert "value by the bin about 0.95 (n=5)" in one.convention


def test_ece_says_how_far_noise_lifts_it() -> None:
    p, y = np.tile([0.75, 0.25], (100, 1)), (np.arange(100) % 4 == 0).astype(int)

    estimate = Ece()(p, y, draws=Draws(0, 100, 2))

    deviation = float((np.abs(np.arange(101) - 75) * stats.binom.pmf(np.arange(101), 100, 0.75)).sum())
    assert estimate.value == pytest.approx(0.0)
    assert f"noise alone gives {deviation / 100:.2g}" in estimate.convention


def test_the_rate_at_a_tpr_by_its_definition_and_its_missing_upper_bound() -> None:
    rng = np.random.default_rng(0)
    negatives, positives = np.round(rng.normal(size=40), 1), np.round(rng.normal(size=80) + 2, 1)
    weight = stats.binom.pmf(np.arange(81), 80, 0.05)
    ordered = np.r_[-np.inf, np.sort(positives), np.inf]
    share = [int((negatives >= t).sum()) for t in ordered]
    share[-1] = 0

    def tail(x: float, counts: list[int], whole: int, at: float) -> float:
        laws = [at <= x if j == whole else stats.beta.cdf(x, k + 0.5, 40.5 - k) for j, k in enumerate(counts)]
        return float(weight @ np.array(laws, dtype=float))

    low, high = ood.fpr_interval(negatives, positives)

    assert tail(high, share[:-1], 0, 1.0) == pytest.approx(0.975, abs=1e-6)
    assert tail(low, share[1:], 80, 0.0) == pytest.approx(0.025, abs=1e-6)
    few, enough = (FPRAtTPR()(negatives, rng.normal(size=m) + 2, draws=None) for m in (71, 72))
    assert few.high == 1.0 and "no upper bound with 71 positives, 72 are needed" in few.convention
    assert enough.high < 1.0 and "no upper bound" not in enough.convention


def test_the_precision_of_perfect_separation_is_one_at_every_size() -> None:
    for n in (1, 2, 3, 7, 10, 41, 49, 98, 99, 107, 187, 500, 1000, 1999):
        first, second = np.arange(n) - 1e4, np.arange(n) + 1e4
        for metric in (AUPROut(), AUPRIn()):
            found = metric(first, second, draws=None)
            assert found.value == pytest.approx(1.0, abs=1e-12) and found.value <= 1.0
            assert (found.low, found.high) == pytest.approx((0.025 ** (1 / n), 1.0), abs=1e-9)


def test_coverage_at_risk_ends_by_scipy() -> None:
    answered, errors = np.array([20, 60, 100, 150]), np.array([0.0, 1.0, 4.0, 30.0])
    few = stats.binom.cdf(errors, answered, 0.1) <= 0.025
    many = stats.binom.sf(errors - 1, answered, 0.1) > 0.025

    assert binomial_ends(answered, errors, 0.1) == (answered[few].max(initial=0), answered[many].max(initial=0))
    sure = CoverageAtRisk(0.05)(np.linspace(0.5, 1, 50), np.ones(50, bool), draws=None)
    assert (sure.low, sure.value, sure.high) == (0.0, 1.0, 1.0)  # 0 errors of 50 at risk .05: chance .077


def test_the_worst_group_takes_the_lowest_ends_of_all() -> None:
    y = np.r_[np.zeros(12, int), 1, np.zeros(7, int)]
    groups = np.repeat([0, 1], [13, 7])
    low = [stats.binomtest(k, n).proportion_ci(0.95, "exact").low for k, n in ((12, 13), (7, 7))]
    high = stats.binomtest(12, 13).proportion_ci(0.975, "exact").high

    found = WorstGroupAccuracy()(np.tile([0.9, 0.1], (20, 1)), y, groups, draws=Draws(0, 20, 2))

    assert (found.low, found.high) == pytest.approx((min(low), high))


def test_classwise_replicates_are_the_sum_over_classes() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(5), 80), rng.integers(0, 5, 80)
    draws = Draws(0, 80, 15)
    for mass, binned in (
        ("width", lambda v: metrics.binning.equal_width(v, 4, "netcal")),
        ("equal", lambda v: metrics.binning.equal_mass(v, 4)),
    ):
        direct = sum(binned_gap_draws(p[:, k] - (y == k), binned(p[:, k]), draws) for k in range(5))
        np.testing.assert_allclose(classwise_draws(p, y, 4, mass, draws), direct, atol=1e-12)
    whole = ClasswiseEce(bins=4).measure(p, y, draws)
    assert whole.value == pytest.approx(metrics.classwise_ece(p, y, 4))


def degenerate(n: int, right: bool, sure: float) -> dict[str, tuple[Any, ...]]:
    """What metrics of each kind take where all predictions are right, or wrong, with one confidence."""
    p = np.tile([sure, 1 - sure], (n, 1))
    y = np.full(n, 0 if right else 1)
    ok, low = np.full(n, right), np.zeros(n)
    return {"probs": (p, y), "confidence": (p[:, 0], ok), "scores": (low, low + right), "failures": (low, low + 1, ok)}


@pytest.mark.parametrize("name", sorted(plugins.names("metric")))
def test_an_interval_is_never_a_point(name: str) -> None:
    plugin = plugins.read("metric", name)
    for n in (1, 2, 20):
        for right, sure in ((True, 0.75), (False, 0.75), (True, 1.0), (False, 1.0)):
            given = degenerate(n, right, sure).get(plugin.facts["needs"])
            if (
                given is None
                or name in NO_INTERVAL
                or name.startswith("spiegelhalter")
                or (name.startswith("skce") and n == 1)
            ):
                continue
            if name == "coverage_at_risk" and not right:
                continue  # nothing can be answered, whatever n
            found: Estimate = plugin.build()(*given, draws=Draws(0, n, 50))
            if not math.isnan(found.low):
                assert found.low - 1e-12 <= found.value <= found.high + 1e-12
                assert found.high - found.low > 1e-6, (n, right, sure, str(found))


def test_nobody_fooled_and_one_example_have_a_width() -> None:
    found = curve_area(np.array([0.1, 0.2]), np.zeros((2, 20), bool), np.zeros(20, bool))
    assert found.high == 1.0 and found.low == pytest.approx(1 + math.log(0.025) / 20)
    one = curve_area(np.array([0.1]), np.array([[True]]), np.array([False]))
    assert one.low < one.value < one.high


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_aggregate_without_spread_has_a_width(value: float) -> None:
    own = Measures(np.full(3, value), {"fog": np.full((2, 3), value), "snow": np.full((2, 3), value)})

    for metric, turned in ((MeanError(), True), (WorstShift(), False), (MeanFlipProbability(), False)):
        low, high = unseen_ends(metric, own, [], 100)
        unseen = -math.log(0.025) / 100
        at_one = (value == 1.0) != turned
        assert (low, high) == pytest.approx((1 - unseen, 1.0) if at_one else (0.0, unseen))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 5), st.floats(0.2, 20))
def test_ends_hold_the_value_inside_its_range(seed: int, n: int, k: int, sharpness: float) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * sharpness
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    y = rng.integers(0, k, n)
    draws = Draws(0, n, 2)
    for name, most in (
        ("ece", 1), ("adaptive_ece", 1), ("classwise_ece", 1), ("top_label_ece", 1), ("debiased_ece", 1),
        ("marginal_ece", 1), ("mce", 1), ("ks_error", 1), ("kuiper_error", 1), ("accuracy", 1),
        ("nll", math.inf), ("brier", 2), ("brier_calibration", 2), ("brier_refinement", 2),
    ):  # fmt: skip
        found = plugins.read("metric", name).build()(p, y, draws=draws)
        assert 0 <= found.low <= found.value + 1e-12, name
        assert found.value - 1e-12 <= found.high <= most + 1e-9, name


def test_more_examples_of_the_same_kind_make_it_narrower() -> None:
    p, y = np.tile([[0.75, 0.25], [0.5, 0.5]], (8, 1)), np.tile([0, 0, 1, 1], 4)
    for metric in (Ece(), Accuracy(), Nll(), Brier()):
        widths = []
        for times in (1, 4, 16):
            found = metric(np.tile(p, (times, 1)), np.tile(y, times), draws=Draws(0, 16 * times, 2))
            widths.append(found.high - found.low)
        assert widths[0] > widths[1] > widths[2]


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 300, 2000])
@pytest.mark.parametrize("sharp", [1.0, 2.0])
def test_calibration_errors_are_covered(n: int, sharp: float) -> None:
    """In 200 simulated sets of calibrated and over-confident models; 178 of 200 is .93 less two standard errors."""
    rng = np.random.default_rng(7)

    def draw(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = 1.2 * rng.normal(size=(m, 4))
        true = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        said = np.exp(sharp * z) / np.exp(sharp * z).sum(axis=1, keepdims=True)
        return said, np.minimum((true.cumsum(axis=1) < rng.random((m, 1))).sum(axis=1), 3), true

    said, _, true = draw(400_000)
    top = said.argmax(axis=1)
    c, q = (table[np.arange(len(top)), top] for table in (said, true))
    index = np.searchsorted(np.linspace(0, 1, 16)[1:-1], c)
    truth = {
        "ece": np.abs(np.bincount(index, c - q)).sum() / len(c),
        "accuracy": q.mean(),
        "nll": -(true * np.log(said)).sum(axis=1).mean(),
        "brier": ((said**2).sum(axis=1) - 2 * (said * true).sum(axis=1) + 1).mean(),
        "debiased_ece": math.sqrt((np.bincount(index, c - q) ** 2 / np.maximum(np.bincount(index), 1)).sum() / len(c)),
    }
    chosen = {"debiased_ece": {"mass": "width"}}
    held = dict.fromkeys(truth, 0)
    for _ in range(200):
        p, y, _ = draw(n)
        for name, value in truth.items():
            found = plugins.read("metric", name).build(**chosen.get(name, {}))(p, y, draws=Draws(0, n, 2))
            held[name] += found.low <= value <= found.high
    assert min(held.values()) >= 178, held


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 300, 2000])
def test_areas_are_covered(n: int) -> None:
    rng = np.random.default_rng(8)
    held = {"aurc": 0, "augrc": 0, "auroc": 0, "fpr95": 0, "aupr": 0}
    c = rng.beta(99, 1, 400_000)
    right = rng.random(400_000) < c
    first, second = rng.normal(size=400_000), rng.normal(size=400_000) + 3.3
    truth = {
        "aurc": metrics.aurc(c, right), "augrc": metrics.augrc(c, right), "aupr": metrics.aupr(first, second),
        "auroc": stats.norm.cdf(3.3 / 2**0.5), "fpr95": stats.norm.sf(stats.norm.ppf(0.05) + 3.3),
    }  # fmt: skip
    for _ in range(200):
        c = rng.beta(99, 1, n)
        right = rng.random(n) < c
        first, second = rng.normal(size=n), rng.normal(size=50) + 3.3
        found = {
            "aurc": AURC()(c, right, draws=None), "augrc": AUGRC()(c, right, draws=None),
            "auroc": ood.AUROC()(first, second, draws=None), "fpr95": FPRAtTPR()(first, second, draws=None),
            "aupr": AUPROut()(first, rng.normal(size=n) + 3.3, draws=None),
        }  # fmt: skip
        for name, one in found.items():
            held[name] += one.low <= truth[name] <= one.high
    assert min(held.values()) >= 178, held

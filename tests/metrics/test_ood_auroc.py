"""AUROC, FPR at a TPR and DeLong's intervals against hand values, the plain definition, scikit-learn and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import DataError, UsageError
from testbed.metrics import delong
from testbed.metrics.bootstrap import Draws
from testbed.metrics.ood import AUROC, FPRAtTPR, FPRAtTPRIDPositive, auroc, fpr_at_tpr, fpr_interval, hits_needed

scores = st.lists(st.sampled_from([-math.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0, math.inf]), min_size=1, max_size=30)


def test_auroc_by_hand() -> None:
    """Pairs won: 0.3 beats 0.1 and 0.2 and ties 0.3; 0.4 beats all three: 5.5 of 6."""
    assert auroc(np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.4])) == pytest.approx(5.5 / 6, abs=1e-15)


@given(scores, scores)
@settings(max_examples=200, deadline=None)
def test_auroc_is_the_mean_over_all_pairs(a: list[float], b: list[float]) -> None:
    wins = [1.0 if y > x else 0.5 if y == x else 0.0 for x in a for y in b]
    assert auroc(np.array(a), np.array(b)) == pytest.approx(np.mean(wins), abs=1e-12)


@given(scores, scores)
@settings(max_examples=100, deadline=None)
def test_auroc_mirrors_and_ignores_monotone_maps(a: list[float], b: list[float]) -> None:
    first, second = np.array(a), np.array(b)
    value = auroc(first, second)
    assert auroc(-first, -second) == pytest.approx(1 - value, abs=1e-12)
    assert auroc(np.arctan(first), np.arctan(second)) == value


@pytest.mark.parametrize("positive", ["ood", "id"])
@pytest.mark.parametrize("tpr", [0.05, 0.5, 0.8, 0.95, 1.0])
def test_auroc_and_fpr_equal_sklearn_with_all_thresholds(positive: str, tpr: float) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    rng = np.random.default_rng(1)
    for n, m in [(1, 1), (20, 3), (40, 40), (100, 37)]:
        first, second = rng.integers(0, 12, n) / 4.0, rng.integers(3, 15, m) / 4.0
        labels = np.r_[np.zeros(n), np.ones(m)]
        assert auroc(first, second) == pytest.approx(roc_auc_score(labels, np.r_[first, second]), abs=1e-14)
        truth, score = (labels, np.r_[first, second]) if positive == "ood" else (1 - labels, -np.r_[first, second])
        fpr, hit, _ = roc_curve(truth, score, drop_intermediate=False)
        assert fpr_at_tpr(first, second, tpr, positive) == fpr[np.argmax(hit >= tpr)]


def test_fpr_on_a_diagonal_roc_is_the_tpr() -> None:
    """Equal sets without ties: dropping collinear ROC points would say 1.00 (a known defect elsewhere)."""
    same = np.arange(100.0)
    assert fpr_at_tpr(same, same, 0.95) == 0.95
    assert fpr_at_tpr(same, same, 0.95, positive="id") == 0.95


def test_constant_scores() -> None:
    flat = np.full(7, 2.5)
    estimate = AUROC()(flat, flat, draws=None)
    assert estimate.value == 0.5
    assert 0 <= estimate.low < 0.5 < estimate.high <= 1
    assert fpr_at_tpr(flat, flat) == fpr_at_tpr(flat, flat, positive="id") == 1.0


@pytest.mark.parametrize(("tpr", "n", "k"), [(0.95, 100, 95), (0.95, 101, 96), (0.07, 100, 7), (1e-9, 5, 1), (1, 5, 5)])
def test_hits_needed_is_exact(tpr: float, n: int, k: int) -> None:
    assert hits_needed(n, tpr) == k
    assert k / n >= tpr and (k == 1 or (k - 1) / n < tpr)


@pytest.mark.parametrize("call", [auroc, fpr_at_tpr, lambda a, b: AUROC()(a, b, draws=None)])
def test_nan_scores_are_counted_and_refused(call) -> None:
    with pytest.raises(DataError, match="2 of 3 OOD scores are NaN"):
        call(np.array([1.0]), np.array([np.nan, 1.0, np.nan]))
    with pytest.raises(DataError, match="1 of 2 ID scores is NaN"):
        call(np.array([1.0, np.nan]), np.array([0.0]))
    with pytest.raises(DataError, match="at least one ID score"):
        call(np.array([]), np.array([0.0]))


def test_infinite_scores_rank_and_are_named() -> None:
    estimate = AUROC()(np.array([0.0, -np.inf]), np.array([np.inf, np.inf, 1.0]), draws=None)
    assert estimate.value == 1.0
    assert "infinite scores ranked: 1 of 2 ID, 2 of 3 OOD" in estimate.convention
    assert "infinite" not in AUROC()(np.array([0.0]), np.array([1.0]), draws=None).convention


@pytest.mark.parametrize("tpr", [0.0, 1.1, -1.0])
def test_a_tpr_out_of_range_is_refused(tpr: float) -> None:
    with pytest.raises(UsageError, match="tpr"):
        fpr_at_tpr(np.array([0.0]), np.array([1.0]), tpr)


def test_delong_variance_is_the_definition() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 9, 40) / 1.0, rng.integers(2, 12, 25) / 1.0
    kernel = (second[:, None] > first).astype(float) + 0.5 * (second[:, None] == first)
    expected = kernel.mean(1).var(ddof=1) / 25 + kernel.mean(0).var(ddof=1) / 40
    parts = delong.components(first, second)
    assert parts.auroc == pytest.approx(kernel.mean())
    assert parts.id.mean() == pytest.approx(kernel.mean())
    assert delong.variance(parts) == pytest.approx(expected, rel=1e-12)


def test_delong_interval_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=300), rng.normal(1.2, 1.0, size=250)
    analytic = AUROC()(first, second, draws=None)
    resampled = AUROC(interval="bootstrap")(first, second, draws=Draws(0, 300, 500))
    assert analytic.value == resampled.value and analytic.n == resampled.n == 550
    assert (analytic.low, analytic.high) == pytest.approx((resampled.low, resampled.high), abs=0.01)


def test_perfect_separation_leaves_room_for_one_more_mistake() -> None:
    low, high = delong.interval(delong.components(np.arange(20.0), np.arange(30.0, 80.0)))
    assert high == 1.0
    assert low == pytest.approx(1 + math.log(0.025) * 0.75 / 20)  # the exponential law of mean .75 / 20
    low, high = delong.interval(delong.components(np.arange(50.0), np.arange(60.0, 120.0)))
    assert (low, high) == pytest.approx((1 + math.log(0.025) * 0.5 / 50, 1.0))


def test_one_example_a_side_says_nothing() -> None:
    estimate = AUROC()(np.array([0.0]), np.array([1.0]), draws=None)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 0.0, 1.0)


def test_paired_difference_against_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(4)
    base_id, base_ood = rng.normal(size=400), rng.normal(1.0, 1.0, size=300)
    second_id, second_ood = base_id + rng.normal(0, 0.7, 400), base_ood + rng.normal(0, 0.7, 300)
    found = delong.difference(delong.components(base_id, base_ood), delong.components(second_id, second_ood))
    draws = Draws(1, 400, 400)
    pairs = zip(draws.indices(), draws.other(300).indices(), strict=True)
    replicates = [auroc(base_id[a], base_ood[b]) - auroc(second_id[a], second_ood[b]) for a, b in pairs]
    assert (found.high - found.low) / 3.92 == pytest.approx(np.std(replicates), rel=0.12)
    assert found.value == pytest.approx(auroc(base_id, base_ood) - auroc(second_id, second_ood))
    assert found.p < 0.05


def test_fpr_interval_agrees_with_the_bootstrap_in_both_conventions() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=300), rng.normal(1.5, 1.0, size=250)
    for positive in ("ood", "id"):
        low, high = fpr_interval(first, second, 0.95, positive)
        metric = FPRAtTPR(positive=positive, interval="bootstrap")
        resampled = metric(first, second, draws=Draws(0, 300, 1000))
        assert (low, high) == pytest.approx((resampled.low, resampled.high), abs=0.03)


def test_fpr_interval_of_separated_sets_is_not_a_point() -> None:
    estimate = FPRAtTPRIDPositive()(np.arange(100.0), np.arange(200.0, 300.0), draws=None)
    assert estimate.value == 0.0 == estimate.low or estimate.low < 1e-4
    assert 0.01 < estimate.high < 0.05
    assert estimate.convention.startswith("id positive")


@pytest.mark.slow
def test_coverage_of_both_intervals() -> None:
    """On 300 simulated pairs of normal sets, 95 % intervals cover the truth 92 to 99 times in 100."""
    from scipy.stats import norm

    rng = np.random.default_rng(6)
    for n, gap in [(200, 1.5), (300, 3.0)]:
        fpr_truth, auroc_truth = norm.sf(norm.ppf(0.05, loc=gap)), norm.cdf(gap / math.sqrt(2))
        covered = np.zeros(2)
        for _ in range(300):
            first, second = rng.normal(size=n), rng.normal(gap, 1.0, size=n)
            low, high = fpr_interval(first, second)
            covered[0] += low <= fpr_truth <= high
            low, high = delong.interval(delong.components(first, second))
            covered[1] += low <= auroc_truth <= high
        assert (covered / 300 > 0.91).all() and (covered / 300 < 0.995).all()


@pytest.mark.parametrize("metric", [AUROC(interval="bootstrap"), FPRAtTPR(interval="bootstrap")])
def test_a_bootstrap_without_matching_draws_is_refused(metric) -> None:
    with pytest.raises(UsageError, match="draws of the 2 ID examples"):
        metric(np.array([0.0, 1.0]), np.array([1.0]), draws=None)

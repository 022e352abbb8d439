"""AUROC over several sets, and failures of both kinds: by hand, against DeLong and resampling, and as properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import DataError
from testbed.metrics import delong
from testbed.metrics.estimate import Estimate
from testbed.metrics.failure import augrc, aurc
from testbed.metrics.ood import AUROC, auroc
from testbed.metrics.pooled import clustered_variance, mean_estimate, pooled_auroc
from testbed.metrics.unified import OSCR, AUGRCWithOOD, AURCWithOOD


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 40))
def test_one_set_a_side_is_the_plain_auroc_with_delongs_interval(seed, n, m) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 9, n).astype(float), rng.integers(2, 12, m).astype(float)
    pooled, plain = pooled_auroc([(first, np.arange(n))], [second]), AUROC()(first, second, draws=None)
    assert (pooled.value, pooled.low, pooled.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-12)
    assert pooled.convention == plain.convention and pooled.n == plain.n


def test_the_mean_over_ood_sets_by_hand() -> None:
    inside = (np.array([0.0, 2.0]), np.array([0, 1]))
    estimate = pooled_auroc([inside], [np.array([1.0, 3.0]), np.array([3.0, 3.0])])
    assert estimate.value == (0.75 + 1.0) / 2 and estimate.n == 6
    assert estimate.convention.startswith("unweighted mean over 2 OOD sets; ood positive")


def test_pooling_weighs_each_row_and_counts_each_example_once() -> None:
    rng = np.random.default_rng(0)
    clean, shifted, outside = rng.normal(size=80), rng.normal(0.5, 1, 40), rng.normal(1, 1, 60)
    estimate = pooled_auroc([(clean, np.arange(80)), (shifted, np.arange(40))], [outside])
    assert estimate.value == pytest.approx(auroc(np.r_[clean, shifted], outside))
    alone = pooled_auroc([(clean, np.arange(80))], [outside])
    copies = pooled_auroc([(clean, np.arange(80))] * 5, [outside])
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))
    naive = delong.interval(delong.components(np.tile(clean, 5), outside))
    assert naive[1] - naive[0] < copies.high - copies.low


def test_the_cluster_variance_is_that_of_resampled_examples() -> None:
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(50), 3)
    values = rng.normal(size=50)[ids] + 0.3 * rng.normal(size=150)
    sums = values.reshape(50, 3).sum(axis=1)
    drawn = sums[rng.integers(0, 50, (4000, 50))].sum(axis=1) / 150
    assert np.sqrt(clustered_variance(values, ids)) == pytest.approx(drawn.std(), rel=0.05)
    assert np.isnan(clustered_variance(np.ones(2), np.array([7, 7])))


def test_the_interval_of_a_mean_holds_the_mean_and_its_convention_what_all_share() -> None:
    parts = [Estimate(0.2, 0.1, 0.4, "a; 20% of all; b", 10), Estimate(0.6, 0.5, 0.7, "a; 30% of all; b", 12)]
    mean = mean_estimate(parts)
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.4, 0.3, 0.55))
    assert mean.convention.startswith("unweighted mean over 2 OOD sets; a; b; ")


def test_no_sets_are_an_error() -> None:
    with pytest.raises(DataError, match="at least one ID and one OOD set"):
        pooled_auroc([], [np.zeros(2)])


def test_failures_of_both_kinds_are_the_plain_measures_of_the_joint_set() -> None:
    rng = np.random.default_rng(2)
    inside, outside, right = rng.normal(size=60), rng.normal(1, 1, 40), rng.random(60) < 0.8
    confidence, correct = -np.r_[inside, outside], np.r_[right, np.zeros(40, dtype=bool)]
    for metric, plain in ((AURCWithOOD(), aurc), (AUGRCWithOOD(), augrc)):
        estimate = metric(inside, outside, right, draws=None)
        assert estimate.value == pytest.approx(plain(confidence, correct), abs=1e-15)
        assert estimate.low < estimate.value < estimate.high and estimate.n == 100
        assert estimate.convention.startswith("failures: wrong ID and all OOD")


def test_the_interval_of_oscr_has_the_spread_of_repeated_draws() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        inside, right = rng.normal(size=80), rng.random(80) < 0.7
        found.append(OSCR()(inside, rng.normal(1, 1, 60), right, draws=None))
    widths = np.mean([(e.high - e.low) / 3.92 for e in found])
    assert np.std([e.value for e in found]) == pytest.approx(widths, rel=0.15)


def test_oscr_with_everything_wrong_is_zero_and_with_all_right_the_auroc() -> None:
    inside, outside = np.array([0.0, 2.0]), np.array([1.0, 3.0])
    assert OSCR()(inside, outside, np.zeros(2, dtype=bool), draws=None).value == 0.0
    assert OSCR()(inside, outside, np.ones(2, dtype=bool), draws=None).value == auroc(inside, outside)

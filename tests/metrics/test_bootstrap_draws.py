"""Bootstrap resamples: a pure function of their key, shared between metrics, with intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.metrics.bootstrap import Draws, bounds


def test_counts_are_a_function_of_seed_n_and_replicate() -> None:
    whole = Draws(3, 500, 40).counts()

    assert np.array_equal(whole, Draws(3, 500, 40).counts())
    assert np.array_equal(whole[:7], Draws(3, 500, 7).counts())
    assert not np.array_equal(whole, Draws(4, 500, 40).counts())
    assert (whole.sum(axis=1) == 500).all()


def test_one_large_set_is_kept_at_a_time_and_made_again_the_same() -> None:
    first, second = Draws(0, 70_000, 960), Draws(1, 70_000, 960)
    values = np.arange(70_000.0)
    before = first.means(values)
    assert first._kept

    second.means(values)

    assert second._kept and not first._kept
    assert np.array_equal(before, first.means(values))
    first._kept.clear()


def test_blocks_of_a_set_too_large_to_keep_are_the_same_again() -> None:
    draws = Draws(0, 4_100_000, 99)
    first = next(draws.blocks())

    assert not draws._kept
    assert np.array_equal(first, next(draws.blocks()))


def test_another_set_gets_independent_draws() -> None:
    draws = Draws(0, 50, 20)

    assert not np.array_equal(draws.counts(), draws.other(50).counts())
    assert np.array_equal(draws.other(50).counts(), draws.other(50).counts())


def test_sums_agree_with_resampled_positions() -> None:
    draws = Draws(1, 30, 25)
    values = np.random.default_rng(0).normal(size=(30, 3))

    direct = np.array([values[rows].sum(axis=0) for rows in draws.indices()])

    assert np.allclose(draws.sums(values), direct, atol=1e-12)
    assert np.allclose(draws.replicate(lambda rows: float(values[rows, 0].mean())), draws.means(values[:, 0]))


def test_sparse_values_give_the_dense_sums() -> None:
    from scipy import sparse

    draws = Draws(1, 30, 25)
    values = np.eye(30)[:, :5]

    assert np.allclose(draws.sums(sparse.csr_array(values)), draws.sums(values))


def test_wrong_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="draws are of 5 examples"):
        Draws(0, 5).means(np.zeros(6))


def test_standard_error_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=2000)

    spread = Draws(0, 2000, 2000).means(values).std()

    assert spread == pytest.approx(values.std() / np.sqrt(2000), rel=0.06)


def test_percentile_interval_covers_a_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        values = rng.exponential(size=200)
        estimate = Draws(trial, 200, 300).estimate(values.mean(), Draws(trial, 200, 300).means(values), "mean")
        hits += estimate.low <= 1.0 <= estimate.high

    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.parametrize("interval", ["percentile", "basic"])
def test_interval_holds_its_value(interval: str) -> None:
    low, high = bounds(0.1, np.linspace(0.2, 0.3, 100), interval=interval)  # type: ignore[arg-type]

    assert low <= 0.1 <= high


def test_nan_replicates_are_left_out_until_too_few_remain() -> None:
    replicates = np.concatenate([np.full(400, np.nan), np.linspace(0, 1, 600)])

    assert bounds(0.5, replicates) == pytest.approx((0.025, 0.975))
    assert np.isnan(bounds(0.5, np.concatenate([replicates, np.full(300, np.nan)]))).all()

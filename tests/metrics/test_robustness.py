"""The area under a security curve and the median distance: by hand, against a bootstrap, and their limits."""

import numpy as np
import pytest

from testbed.errors import DataError
from testbed.metrics.robustness import curve_area, median_distance


def test_the_area_by_hand():
    # clean 3/4, then 2/4 at 0.1 and 1/4 at 0.3: (0.75 + 0.5) / 2 * 0.1 + (0.5 + 0.25) / 2 * 0.2, over 0.3
    wrong = np.array([True, False, False, False])
    fooled = np.array([[True, True, False, False], [True, True, True, False]])
    assert curve_area(np.array([0.1, 0.3]), fooled, wrong).value == pytest.approx((0.0625 + 0.075) / 0.3)


def test_the_area_is_one_where_nothing_falls_and_its_interval_covers_a_bootstrap():
    n = 400
    rng = np.random.default_rng(0)
    fooled = np.maximum.accumulate(rng.random((4, n)) < 0.2, axis=0)
    found = curve_area(np.array([1.0, 2, 3, 4]), fooled, np.zeros(n, dtype=bool))
    assert curve_area(np.array([1.0]), np.zeros((1, n), bool), np.zeros(n, bool)).value == 1
    means = []
    for _ in range(2000):
        rows = rng.integers(0, n, n)
        means.append(curve_area(np.array([1.0, 2, 3, 4]), fooled[:, rows], np.zeros(n, dtype=bool)).value)
    np.testing.assert_allclose([found.low, found.high], np.quantile(means, [0.025, 0.975]), atol=0.005)


def test_the_median_distance_and_its_order_statistics():
    found = median_distance(np.arange(1.0, 101.0))
    assert (found.value, found.low, found.high) == (50.0, 40.0, 61.0)  # binomial(100, 1/2): 40 and 60
    assert np.isnan(median_distance(np.array([0.1, np.inf, np.inf])).value)
    covered = 0
    rng = np.random.default_rng(1)
    for _ in range(500):
        one = median_distance(rng.random(51))
        covered += one.low <= 0.5 <= one.high
    assert covered / 500 > 0.94


def test_budgets_that_do_not_rise_and_empty_sets_are_errors():
    with pytest.raises(DataError, match="rise from above 0"):
        curve_area(np.array([0.0, 0.1]), np.zeros((2, 3), bool), np.zeros(3, bool))
    with pytest.raises(DataError, match="empty set"):
        median_distance(np.array([]))

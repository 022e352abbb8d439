"""AUPR, detection error, AUTC, OSCR, failure view, means over sets: against scikit-learn, integrals, simulation."""

import numpy as np
import pytest

from testbed.errors import DataError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.failure import augrc
from testbed.metrics.ood import AUPRIn, AUPROut, aupr, auroc
from testbed.metrics.openset import (
    AUTC,
    DetectionError,
    autc,
    detection_error,
    failure_view,
    mean_auroc,
    oscr,
    over_seeds,
)


def pair(seed: int, n: int, m: int, ties: bool = True):
    rng = np.random.default_rng(seed)
    if ties:
        return rng.integers(0, 12, n) / 4.0, rng.integers(3, 15, m) / 4.0
    return rng.normal(size=n), rng.normal(1.0, 1.0, size=m)


@pytest.mark.parametrize("positive", ["ood", "id"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (20, 3), (3, 20), (100, 37)])
def test_aupr_equals_sklearn_in_both_areas(positive, n, m) -> None:
    from sklearn.metrics import auc, average_precision_score, precision_recall_curve

    for ties in (True, False):
        first, second = pair(n, n, m, ties)
        labels, scores = np.r_[np.zeros(n), np.ones(m)], np.r_[first, second]
        if positive == "id":
            labels, scores = 1 - labels, -scores
        precision, recall, _ = precision_recall_curve(labels, scores)
        assert aupr(first, second, positive) == pytest.approx(average_precision_score(labels, scores), abs=1e-13)
        assert aupr(first, second, positive, "trapezoid") == pytest.approx(auc(recall, precision), abs=1e-13)


def test_aupr_of_constant_scores_is_the_share_of_positives() -> None:
    flat = np.zeros(30), np.zeros(10)
    assert aupr(*flat) == 0.25
    assert aupr(*flat, positive="id") == 0.75
    with pytest.raises(DataError, match="area: expected 'average_precision' or 'trapezoid', got 'step'"):
        aupr(*flat, area="step")


def test_aupr_intervals_agree_with_the_bootstrap() -> None:
    first, second = pair(3, 400, 300, ties=False)
    for metric in (AUPROut, AUPRIn):
        analytic = metric()(first, second, draws=None)
        resampled = metric(interval="bootstrap")(first, second, draws=Draws(0, 400, 300))
        assert analytic.value == resampled.value
        assert analytic.low == pytest.approx(resampled.low, abs=0.03)
        assert analytic.high == pytest.approx(resampled.high, abs=0.03)
    assert "ood positive" in AUPROut()(first, second, draws=None).convention
    assert "id positive" in AUPRIn()(first, second, draws=None).convention


def test_detection_error_is_the_best_balanced_error_on_the_roc_curve() -> None:
    from sklearn.metrics import roc_curve

    for seed in range(5):
        first, second = pair(seed, 50, 30)
        fpr, tpr, _ = roc_curve(np.r_[np.zeros(50), np.ones(30)], np.r_[first, second], drop_intermediate=False)
        assert detection_error(first, second) == pytest.approx(((fpr + 1 - tpr) / 2).min(), abs=1e-14)
    assert detection_error(np.ones(4), np.ones(5)) == 0.5
    assert detection_error(np.array([2.0]), np.array([1.0])) == 0.5
    estimate = DetectionError(interval="bootstrap")(first, second, draws=Draws(0, 50, 200))
    assert estimate.low <= estimate.value <= estimate.high


def test_autc_is_the_integral_over_thresholds() -> None:
    first, second = pair(1, 40, 25, ties=False)
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    t = (np.arange(20000) + 0.5) / 20000
    fpr = np.mean((first - low) / (high - low) >= t[:, None], axis=1)
    fnr = np.mean((second - low) / (high - low) < t[:, None], axis=1)
    assert autc(first, second) == pytest.approx((fpr.mean() + fnr.mean()) / 2, abs=1e-4)
    assert autc(7 * first - 3, 7 * second - 3) == pytest.approx(autc(first, second), abs=1e-12)


def test_autc_at_the_ends() -> None:
    assert autc(np.zeros(3), np.zeros(4)) == 0.5
    assert autc(np.zeros(3), np.ones(4)) == 0.0
    estimate = AUTC()(np.zeros(3), np.zeros(4), draws=None)
    assert estimate.value == 0.5 and estimate.low < 0.3 and estimate.high > 0.7
    with pytest.raises(DataError, match="infinite scores ranked: 1 of 2 ID"):
        autc(np.array([0.0, -np.inf]), np.array([1.0]))


def test_oscr_is_the_area_under_its_curve() -> None:
    first, second = pair(2, 60, 45, ties=False)
    correct = np.random.default_rng(0).random(60) < 0.8
    thresholds = np.r_[np.sort(np.r_[first, second]), np.inf]
    rate = [np.mean(correct & (first < t)) for t in thresholds]
    false = [np.mean(second < t) for t in thresholds]
    steps = np.diff(false)
    area = np.sum(np.array(rate)[1:] * steps)
    assert oscr(first, second, correct) == pytest.approx(area, abs=1e-12)
    assert oscr(first, second, np.ones(60, dtype=bool)) == pytest.approx(auroc(first, second))
    with pytest.raises(DataError, match="one `correct` an ID score"):
        oscr(first, second, correct[:-1])


def test_failure_view_counts_ood_as_failures() -> None:
    view = failure_view(np.array([0.0, 1.0]), np.array([True, True]), np.array([5.0, 6.0]))
    assert augrc(*view) == pytest.approx(0.5 * 0.5**2)
    upside_down = failure_view(np.array([5.0, 6.0]), np.array([True, True]), np.array([0.0, 1.0]))
    assert augrc(*upside_down) == pytest.approx(0.5 * 0.5**2 + 0.25)


def test_mean_auroc_over_sets_knows_that_they_share_the_id_examples() -> None:
    rng = np.random.default_rng(4)
    truth, values = [], []
    for _ in range(200):
        first = rng.normal(size=60)
        estimate = mean_auroc(first, {"near": rng.normal(0.7, 1, 300), "far": rng.normal(1.5, 1, 200)})
        values.append(estimate.value)
        truth.append((estimate.high - estimate.low) / 3.92)
    from scipy.stats import norm

    target = (norm.cdf(0.7 / np.sqrt(2)) + norm.cdf(1.5 / np.sqrt(2))) / 2
    assert np.mean(values) == pytest.approx(target, abs=0.01)
    assert np.std(values) == pytest.approx(np.mean(truth), rel=0.2)
    with pytest.raises(DataError, match="at least one OOD set"):
        mean_auroc(first, {})


def test_over_seeds() -> None:
    spread = over_seeds(np.array([1.0, 3.0]))
    assert (spread.mean, spread.seeds) == (2.0, 2)
    assert spread.std == pytest.approx(np.sqrt(2.0))
    assert np.isnan(over_seeds(np.array([1.0])).std)
    with pytest.raises(DataError, match="without NaN"):
        over_seeds(np.array([1.0, np.nan]))

"""AURC, E-AURC and AUGRC against hand values, brute force over orders, and the bootstrap."""

import itertools

import numpy as np
import pytest

from testbed.errors import DataError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.failure import AUGRC, AURC, EAURC, arrange, augrc, aurc, best_aurc, eaurc, influence


def plain(order_of_errors: list[float]) -> tuple[float, float]:
    """AURC and AUGRC of one order, from the definitions."""
    n, errors = len(order_of_errors), np.cumsum(order_of_errors)
    return float(np.mean(errors / np.arange(1, n + 1))), float(np.trapezoid(np.r_[0, errors] / n, np.arange(n + 1) / n))


def test_by_hand() -> None:
    """Errors at rank 3 of 4: selective risks 0, 0, 1/3, 1/4; generalised risks 0, 0, 1/4, 1/4."""
    confidence, correct = np.array([0.6, 0.9, 0.7, 0.8]), np.array([1, 1, 0, 1])
    assert aurc(confidence, correct) == pytest.approx((1 / 3 + 1 / 4) / 4)
    assert augrc(confidence, correct) == pytest.approx((0.5 * 0.25 + 0.25) / 4)
    assert eaurc(confidence, correct) == pytest.approx((1 / 3 + 1 / 4) / 4 - (0.25 + 0.75 * np.log(0.75)))


def test_ties_are_the_mean_over_all_orders_of_the_equals() -> None:
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    correct = np.array([1, 0, 1, 0, 1, 0])
    orders = [plain([0.0, *middle, 1.0]) for middle in itertools.permutations([1.0, 0.0, 1.0, 0.0])]
    expected = np.mean(orders, axis=0)
    assert aurc(confidence, correct) == pytest.approx(expected[0])
    assert augrc(confidence, correct) == pytest.approx(expected[1])


def test_augrc_is_the_known_function_of_the_failure_auroc() -> None:
    """Traub et al. 2024, eq. 5: AUGRC = (1 - AUROC_f) acc (1 - acc) + (1 - acc)^2 / 2."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    confidence = rng.integers(0, 20, 300) / 20.0
    correct = rng.random(300) < confidence
    accuracy = correct.mean()
    expected = (1 - roc_auc_score(correct, confidence)) * accuracy * (1 - accuracy) + 0.5 * (1 - accuracy) ** 2
    assert augrc(confidence, correct) == pytest.approx(expected, abs=1e-12)


def test_order_and_monotone_maps_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    confidence, correct = rng.integers(0, 9, 60) / 9.0, rng.random(60) < 0.7
    shuffle = rng.permutation(60)
    for measure in (aurc, eaurc, augrc):
        assert measure(confidence[shuffle], correct[shuffle]) == pytest.approx(measure(confidence, correct), abs=1e-14)
        assert measure(confidence**3, correct) == pytest.approx(measure(confidence, correct), abs=1e-14)


def test_ends() -> None:
    score = np.arange(50.0)
    assert aurc(score, np.ones(50)) == augrc(score, np.ones(50)) == 0.0
    assert aurc(score, np.zeros(50)) == 1.0 and augrc(score, np.zeros(50)) == 0.5
    assert eaurc(score, np.zeros(50)) == 0.0
    best = score >= 10
    assert augrc(score, best) == pytest.approx(0.5 * 0.2**2)
    many = np.arange(20000.0)
    assert aurc(many, many >= 4000) == pytest.approx(best_aurc(0.2), abs=1e-4)


@pytest.mark.parametrize("metric", [AURC, EAURC, AUGRC])
def test_jackknife_interval_agrees_with_the_bootstrap(metric) -> None:
    rng = np.random.default_rng(2)
    confidence = np.round(rng.beta(5, 2, 800), 2)
    correct = rng.random(800) < confidence
    analytic, resampled = (
        metric(interval=i)(confidence, correct, draws=Draws(0, 800, 400)) for i in ("analytic", "bootstrap")
    )
    assert analytic.value == resampled.value and analytic.n == 800
    assert analytic.high - analytic.low == pytest.approx(resampled.high - resampled.low, rel=0.12)


@pytest.mark.parametrize("measure", ["aurc", "eaurc", "augrc"])
def test_influences_are_derivatives(measure) -> None:
    """Doubling one example's weight in a set repeated 400 times moves the number by its influence / 400."""
    confidence, correct = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 1, 0])
    number = {"aurc": aurc, "eaurc": eaurc, "augrc": augrc}[measure]
    times = 400
    many, right = np.repeat(confidence, times), np.repeat(correct, times)
    slopes = influence(arrange(many, right), measure).reshape(5, times).sum(axis=1) * 5
    for row in range(5):
        moved = number(np.r_[many, confidence[row]], np.r_[right, correct[row]]) - number(many, right)
        assert moved * 5 * times == pytest.approx(slopes[row], abs=0.01)


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="1 of 2 confidences are NaN"):
        aurc(np.array([np.nan, 1.0]), np.array([1, 0]))
    with pytest.raises(DataError, match="one length"):
        aurc(np.array([1.0]), np.array([1, 0]))
    with pytest.raises(DataError, match="booleans or 0/1"):
        augrc(np.array([1.0, 0.5]), np.array([2, 0]))

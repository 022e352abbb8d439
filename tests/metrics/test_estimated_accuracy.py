"""Accuracy without labels and conformal sets, as metrics of a grid: values by hand, replicates by brute force."""

import numpy as np
import pytest

from testbed.calibration.conformal import Conformal
from testbed.calibration.conformal_metrics import ConformalCoverage, ConformalSize
from testbed.errors import UsageError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.estimated_accuracy import (
    AverageConfidence,
    DifferenceOfConfidences,
    Disagreement,
    Labelled,
    ThresholdedConfidence,
    ThresholdedConfidenceError,
)
from testbed.metrics.unlabelled import average_thresholded_confidence, difference_of_confidences

RNG = np.random.default_rng(0)


def drawn(n, k=4, sharp=2.0, seed=0):
    """Probabilities that are `sharp` times too sharp, and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * 2
    true = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    e = np.exp(sharp * z)
    return e / e.sum(axis=1, keepdims=True), y


def source(n=300, **more):
    p, y = drawn(n, **more)
    return Labelled(p, y, np.arange(n))


def test_values_are_those_of_the_plain_functions():
    known, (p, y) = source(), drawn(200, seed=1)
    draws = Draws(0, 200, 20)

    assert AverageConfidence()(p, y, draws=draws, source=known).value == pytest.approx(p.max(axis=1).mean())
    doc = DifferenceOfConfidences()(p, y, draws=draws, source=known)
    assert doc.value == pytest.approx(difference_of_confidences(known.probs, known.labels, p))
    for score in ("max", "entropy"):
        atc = ThresholdedConfidence(score=score)(p, y, draws=draws, source=known)
        assert atc.value == pytest.approx(average_thresholded_confidence(known.probs, known.labels, p, score))
    assert Disagreement()(p, y, draws=draws, mate=p.argmax(axis=1)).value == 1.0


def test_atc_replicates_are_atc_of_the_resamples():
    known, (p, _) = source(90), drawn(70, seed=1)
    draws = Draws(3, 70, 25)

    told = ThresholdedConfidence().tell(p, draws=draws, source=known)

    pairs = zip(draws.other(90, "source").indices(), draws.indices(), strict=True)
    by_hand = [average_thresholded_confidence(known.probs[a], known.labels[a], p[b]) for a, b in pairs]
    assert np.allclose(told.replicates, by_hand)


def test_the_error_is_estimate_less_accuracy_and_its_interval_is_paired():
    known, (p, y) = source(2000), drawn(2000, seed=1)
    draws = Draws(0, 2000, 300)

    estimate, error = (
        m()(p, y, draws=draws, source=known) for m in (ThresholdedConfidence, ThresholdedConfidenceError)
    )

    accuracy = (p.argmax(axis=1) == y).mean()
    assert error.value == pytest.approx(estimate.value - accuracy)
    assert error.low < 0 < error.high
    assert estimate.flags == error.flags == ""


def test_concept_change_is_flagged():
    known, (p, y) = source(1000), drawn(1000, seed=1)
    wrong = np.where(np.arange(1000) % 3 == 0, (y + 1) % 4, y)

    found = ThresholdedConfidence()(p, wrong, draws=Draws(0, 1000, 20), source=known)

    assert found.flags == "estimate-failed"
    assert ThresholdedConfidence(tolerance=0.5)(p, wrong, draws=Draws(0, 1000, 20), source=known).flags == ""


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_sets_are_those_of_the_conformal_class(score):
    known, (p, y) = source(), drawn(200, seed=1)
    draws = Draws(0, 200, 20)

    sets = Conformal(score=score, alpha=0.2).fit(known.probs, known.labels).sets(p)

    given = {"draws": draws, "source": known, "ids": np.arange(200)}
    assert ConformalCoverage(score, 0.2)(p, y, **given).value == sets[np.arange(200), y].mean()
    assert ConformalSize(score, 0.2)(p, y, **given).value == sets.sum(axis=1).mean()


def test_randomised_sets_cover_as_asked_and_no_more():
    covered = []
    for seed in range(20):
        known, (p, y) = source(1000, seed=100 + seed), drawn(1000, seed=seed)
        metric = ConformalCoverage("aps", 0.2, randomised=True)
        covered.append(metric(p, y, draws=Draws(0, 1000, 5), source=known, ids=np.arange(1000, 2000)).value)

    assert abs(np.mean(covered) - 0.8) < 0.01


def test_adaptive_alpha_keeps_coverage_where_one_threshold_loses_it():
    known, (p, y) = source(1000), drawn(3000, sharp=6.0, seed=1)
    y = np.where(np.arange(3000) >= 1500, (y + (RNG.random(3000) < 0.3)) % 4, y)
    given = {"draws": Draws(0, 3000, 5), "source": known, "ids": np.arange(3000)}

    fixed, adaptive = (ConformalCoverage("lac", 0.1, gamma=g)(p, y, **given).value for g in (0.0, 0.02))

    assert fixed < 0.85
    assert abs(adaptive - 0.9) < 0.01


def test_the_order_of_rows_does_not_matter():
    known, (p, y) = source(), drawn(100, seed=1)
    turn = np.random.default_rng(0).permutation(100)
    metric = ConformalCoverage("raps", 0.2, randomised=True, gamma=0.05)

    one = metric(p, y, draws=Draws(0, 100, 5), source=known, ids=np.arange(100))
    two = metric(p[turn], y[turn], draws=Draws(0, 100, 5), source=known, ids=np.arange(100)[turn])

    assert one.value == two.value


def test_a_share_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"alpha: expected a number in \(0, 1\), got 90"):
        ConformalCoverage(alpha=90)

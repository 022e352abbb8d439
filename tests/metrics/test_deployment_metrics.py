"""Drift tests, rolling measures, model selection and accuracy without labels."""

from __future__ import annotations

import numpy as np
import pytest

from testbed import metrics
from testbed.calibration.inputs import softmax
from testbed.calibration.target_temperature import density_ratio
from testbed.errors import DataError
from testbed.metrics.drift import alarm_quality
from testbed.metrics.rolling import Rolling
from testbed.metrics.selection import may_be_best, pareto, probability_best, scores, utility
from testbed.metrics.unlabelled import failed


def outputs(n: int, seed: int, mean: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    z[:, 0] += mean
    return softmax(2 * z)


@pytest.mark.parametrize("name", ["ks_drift", "label_drift", "mmd_drift"])
def test_drift_tests_hold_their_level_and_have_power(name: str) -> None:
    test = getattr(metrics, name)
    more = {"permutations": 60} if name == "mmd_drift" else {}

    level = np.mean([test(outputs(100, s), outputs(60, 1000 + s), **more).p_value < 0.1 for s in range(100)])
    power = np.mean([test(outputs(200, s), outputs(150, 1000 + s, 0.9), **more).p_value < 0.05 for s in range(15)])

    assert level <= 0.2
    assert power >= 0.9


def test_mmd_by_its_definition() -> None:
    a, b = outputs(7, 0), outputs(5, 1)
    both = np.concatenate([a, b])
    distance = ((both[:, None] - both) ** 2).sum(axis=2)
    kernel = np.exp(-distance / np.median(distance[np.triu_indices(12, 1)]))
    inside = (kernel[:7, :7].sum() - 7) / 42 + (kernel[7:, 7:].sum() - 5) / 20

    assert metrics.mmd_drift(a, b).statistic == pytest.approx(inside - 2 * kernel[:7, 7:].mean())


def test_alarm_quality_by_hand() -> None:
    p = np.array([0.01, 0.5, 0.5, 0.5, 0.5, 0.04])

    assert alarm_quality(p, change=4) == (1, 0.25)
    assert alarm_quality(p, change=6) == (-1, pytest.approx(1 / 3))
    assert alarm_quality(p, change=0).false_alarm_rate == 0.0


@pytest.mark.parametrize("sizes", [(500, 50), (500, 200)])
@pytest.mark.parametrize("rare", ["halving", "five rare", "zipf"])
def test_label_drift_keeps_its_level_with_rare_classes(sizes: tuple[int, int], rare: str) -> None:
    """400 pairs of windows without drift: at most 6 % alarms at 5 %, up to three standard errors; it was 12 %."""
    share = {"halving": 0.5 ** np.arange(10), "five rare": np.repeat([0.198, 0.002], 5), "zipf": 1 / np.arange(1, 101)}
    p = share[rare] / share[rare].sum()
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        a, b = (np.eye(len(p))[rng.choice(len(p), n, p=p)] for n in sizes)
        found.append(metrics.label_drift(a, b).p_value < 0.05)

    assert np.mean(found) < 0.06 + 3 * np.sqrt(0.06 * 0.94 / 400)


def test_rare_classes_are_taken_together_and_a_new_one_is_still_seen() -> None:
    reference = np.eye(10)[[0] * 480 + [1] * 10 + list(range(2, 10)) + [1, 1]]
    window = np.eye(10)[[0] * 70 + [9] * 30]

    assert metrics.label_drift(reference, window).p_value < 1e-9


def test_drift_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="reference"):
        metrics.ks_drift(outputs(10, 0), outputs(10, 0)[:, :2])
    with pytest.raises(DataError, match="finite"):
        metrics.mmd_drift(outputs(10, 0), np.full((3, 3), np.nan))


@pytest.mark.parametrize("batch", [1, 7, 100, 1000])
def test_rolling_is_the_metric_of_the_last_window(batch: int) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 1000)
    right = (rng.random(1000) < confidence).astype(int)
    rolling = Rolling(window=200)
    for start in range(0, 1000, batch):
        part = slice(start, start + batch)
        rolling.add(confidence[part], right[part], right[part])

    last = slice(800, 1000)
    index = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence[last])
    gap = np.bincount(index, confidence[last] - right[last])

    assert rolling.seen == 1000
    assert rolling.accuracy().value == pytest.approx(right[last].mean())
    assert rolling.coverage().n == 200
    assert rolling.ece().value == pytest.approx(np.abs(gap).sum() / 200)
    assert rolling._ring.shape == (200, 5)


def test_rolling_counts_an_example_once() -> None:
    """Fifty examples four times each: the intervals are those of fifty."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 50)
    right = (rng.random(50) < confidence).astype(int)
    often, once = Rolling(200), Rolling(200)
    once.add(confidence, right, right, -np.log(confidence), right, np.arange(50))
    for _ in range(4):
        often.add(confidence, right, right, -np.log(confidence), right, np.arange(50))

    for measure in ("accuracy", "coverage", "ece", "nll", "set_size"):
        a, b = getattr(often, measure)(), getattr(once, measure)()
        assert (a.n, b.n) == (50, 50)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def test_rolling_without_examples_says_so() -> None:
    with pytest.raises(DataError, match="no example"):
        Rolling(10).accuracy()
    rolling = Rolling(10)
    rolling.add([0.5], [1])
    with pytest.raises(DataError, match="rolling coverage"):
        rolling.coverage()


def test_pareto_keeps_ties_and_drops_the_dominated() -> None:
    table = [[0.9, 0.1], [0.9, 0.1], [0.9, 0.2], [0.1, 0.0]]

    assert pareto(table, [True, False]).tolist() == [True, True, False, True]


def test_utility_and_its_resamples_by_hand() -> None:
    values = [[0.9, 0.2], [0.8, 0.1]]
    draws = np.array([[[0.9, 0.2], [0.8, 0.1]], [[0.95, 0.1], [0.8, 0.1]]])

    mine, drawn = scores(values, draws, [True, False], [1, 1])

    assert mine.tolist() == utility(values, [True, False], [1, 1]).tolist() == [1.0, 1.0]
    assert drawn == pytest.approx(np.array([[1.0, 1.0], [2.5, 1.0]]))


def test_two_candidates_shrunk_by_hand() -> None:
    """One contrast y with noise l: the mixture over the spread, by quadrature on a fine grid."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    draws = rng.normal(scale=0.1, size=(5000, 2))
    y, noise = 0.2 / np.sqrt(2), float(np.var((draws[:, 1] - draws[:, 0]) / np.sqrt(2)))
    tau = np.sqrt(noise) * np.geomspace(1e-3, 300, 20_000)
    prior = tau / (1 + tau**2 / noise)  # half-Cauchy times the grid's spacing
    weight = prior * norm.pdf(y, scale=np.sqrt(tau**2 + noise))
    share = tau**2 / (tau**2 + noise)
    expected = (weight * norm.cdf(y * share / np.sqrt(noise * share))).sum() / weight.sum()

    found = probability_best(np.array([0.0, 0.2]), draws)

    assert found.sum() == pytest.approx(1.0)
    assert found[1] == pytest.approx(expected, abs=0.03)
    assert found[1] < norm.cdf(y / np.sqrt(noise))  # less sure than the resamples are


def test_candidates_without_noise_are_decided() -> None:
    draws = np.zeros((10, 3)) + [1.0, 2.0, 2.0]

    assert may_be_best(np.array([1.0, 2.0, 2.0]), draws).tolist() == [False, True, True]
    assert probability_best(np.array([1.0, 2.0, 2.0]), draws).tolist() == [0.0, 0.5, 0.5]


def test_two_candidates_are_hsus_one_sided_comparison() -> None:
    """Of two, the second is out where it lies more than 1.645 standard errors behind."""
    draws = np.random.default_rng(0).normal(size=(20_000, 2))
    for behind, kept in ((1.55, True), (1.75, False)):
        assert may_be_best(np.array([behind * np.sqrt(2), 0.0]), draws).tolist() == [True, kept]


@pytest.mark.slow
def test_claims_and_the_set_by_simulation() -> None:
    """True strengths with spread .02, noise of .017 per difference: the set holds the best, claims of .9 and more hold.

    Of two equal models one is called the best at .9 in at most a tenth of the sets.
    """
    rng = np.random.default_rng(1)
    held, claims, right, called = 0, 0, 0, 0
    for trial in range(400):
        strength = rng.normal(scale=0.02, size=5) if trial % 2 else np.zeros(2)
        examples = strength + rng.normal(scale=0.2, size=(300, len(strength)))
        counts = rng.multinomial(300, np.full(300, 1 / 300), size=200)
        mean, draws = examples.mean(axis=0), counts @ examples / 300
        chance, best = probability_best(mean, draws), int(strength.argmax())
        if trial % 2:
            held += may_be_best(mean, draws)[best]
            sure = (chance >= 0.9) & (chance <= 0.97)
            claims, right = claims + sure.sum(), right + sure[best]
        else:
            called += chance.max() >= 0.9

    assert held >= 0.93 * 200
    assert right >= 0.9 * claims - 2
    assert called <= 0.1 * 200


def shifted(n: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clean = 2 * rng.normal(size=(n, 4))
    return softmax(clean + noise * rng.normal(size=(n, 4))), clean.argmax(axis=1)


def test_accuracy_is_estimated_without_labels_on_the_source_itself() -> None:
    p, y = shifted(4000, 0, 1.0)
    truth = metrics.accuracy(p, y)

    assert metrics.average_thresholded_confidence(p, y, p) == pytest.approx(truth)
    assert metrics.average_thresholded_confidence(p, y, p, score="entropy") == pytest.approx(truth)
    assert metrics.difference_of_confidences(p, y, p) == pytest.approx(truth)


def test_concept_change_is_invisible_to_the_estimators_and_flagged_by_labels() -> None:
    p, y = shifted(4000, 0, 0.5)
    wrong = (y + (np.random.default_rng(1).random(4000) < 0.5)) % 4
    estimate = metrics.average_thresholded_confidence(p, y, p)
    right = int((p.argmax(axis=1) == wrong).sum())

    assert estimate - right / 4000 > 0.2
    assert failed(estimate, right, 4000)
    assert not failed(right / 4000, right, 4000)


def test_disagreement_estimates_accuracy_of_calibrated_ensembles() -> None:
    rng = np.random.default_rng(0)
    p = softmax(rng.normal(size=(20_000, 4)) * 2)

    def drawn() -> np.ndarray:
        return np.minimum((p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1), 3)

    labels, first, second = drawn(), drawn(), drawn()

    assert metrics.disagreement_accuracy(first, second) == pytest.approx((first == labels).mean(), abs=0.02)


def test_density_ratio_of_shifted_normals() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, 1)) + 0.5

    found = density_ratio(source, target, ridge=0.0)

    assert np.allclose(found, np.exp(0.5 * source[:, 0] - 0.125), rtol=0.15)
    assert found.mean() == pytest.approx(1.0, abs=0.02)

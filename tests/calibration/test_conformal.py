"""Conformal sets: exact thresholds, scores by hand, coverage in and out of exchangeability."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.calibration.conformal import AdaptiveAlpha, Conformal, scores, threshold
from testbed.calibration.inputs import softmax
from testbed.errors import DataError, UsageError
from testbed.metrics import coverage, coverage_by_size


def data(n: int, seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, 6))
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 5)
    return softmax(sharpness * z), y


def test_scores_by_hand() -> None:
    p = np.array([[0.2, 0.5, 0.3]])

    assert np.allclose(scores(p, "lac"), [[0.8, 0.5, 0.7]])
    assert np.allclose(scores(p, "aps"), [[1.0, 0.5, 0.8]])
    assert np.allclose(scores(p, "aps", np.array([0.5])), [[0.9, 0.25, 0.65]])
    assert np.allclose(scores(p, "raps", lam=0.1, k_reg=1), [[1.2, 0.5, 0.9]])


@pytest.mark.parametrize(("n", "alpha", "place"), [(9, 0.1, 9), (19, 0.1, 18), (99, 0.05, 95), (100, 0.05, 96)])
def test_threshold_is_the_corrected_quantile(n: int, alpha: float, place: int) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))

    assert threshold(values, alpha) == place


def test_too_few_examples_give_all_classes() -> None:
    p, y = data(5, 0)

    with pytest.warns(UserWarning, match="no calibration example"):
        cal = Conformal(alpha=0.1).fit(p, y)

    assert cal.state()["all_classes"]
    assert cal.sets(p).all()


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("randomised", [False, True])
def test_coverage_over_many_splits_is_what_was_asked(score: str, randomised: bool) -> None:
    held, total = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        (p, y), (q, t) = data(150, seed), data(150, 500 + seed)
        u = (rng.random(150), rng.random(150)) if randomised else (None, None)
        sets = Conformal(score=score, alpha=0.2).fit(p, y, uniform=u[0]).sets(q, uniform=u[1])  # type: ignore[arg-type]
        held += int(sets[np.arange(150), t].sum())
        total += 150
    share = held / total

    assert share >= 0.785
    assert share <= (0.825 if randomised or score == "lac" else 0.95)


def test_raps_sets_are_smaller_where_ranks_are_penalised() -> None:
    (p, y), (q, _) = data(500, 0), data(500, 1)

    plain = Conformal("aps", 0.1).fit(p, y).sets(q).sum(axis=1)
    regular = Conformal("raps", 0.1, lam=0.2, k_reg=1).fit(p, y).sets(q).sum(axis=1)

    assert regular.max() <= plain.max()


def test_state_round_trip_and_bad_input() -> None:
    p, y = data(100, 0)
    cal = Conformal().fit(p, y)

    assert np.array_equal(Conformal().restore(cal.state()).sets(p), cal.sets(p))
    with pytest.raises(DataError, match="not fitted"):
        Conformal().sets(p)
    with pytest.raises(UsageError, match=r"alpha: expected a number in \(0, 1\), got 1.5"):
        Conformal(alpha=1.5)
    with pytest.raises(DataError, match="are they logits"):
        Conformal().fit(10 * p, y)


def test_adaptive_alpha_keeps_coverage_after_a_shift() -> None:
    p, y = data(500, 0, sharpness=1.0)
    cal = Conformal("lac", 0.1).fit(p, y)
    shifted, labels = data(4000, 1, sharpness=5.0)
    aci = AdaptiveAlpha(target=0.1, gamma=0.02)
    missed = []
    for row, label in zip(shifted, labels):
        held = cal.sets(row[None], alpha=aci.alpha)[0, label]
        missed.append(not held)
        aci.update(not held)
    static = 1 - cal.sets(shifted)[np.arange(4000), labels].mean()

    assert static > 0.13
    assert np.mean(missed) == pytest.approx(0.1, abs=0.01)


def test_coverage_hides_what_coverage_by_size_shows() -> None:
    p, y = data(1000, 0)
    sets = Conformal("lac", 0.1).fit(p, y).sets(p)

    parts = coverage_by_size(sets, y)

    assert sum(e.n for e in parts.values()) == 1000
    assert sum(e.value * e.n for e in parts.values()) / 1000 == pytest.approx(coverage(sets, y).value)

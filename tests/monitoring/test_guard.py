"""The rule by which an update of an online calibrator is taken back."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.metrics.scores import Accuracy, Nll
from testbed.monitoring.guard import Guard

IDS = np.arange(200)
TRUTH = IDS % 2


def announced(confidence: float) -> np.ndarray:
    """Probabilities that give the right class this confidence."""
    p = np.full((200, 2), 1 - confidence)
    p[np.arange(200), TRUTH] = confidence
    return p


def guard(**more: float) -> Guard:
    return Guard("nll", Nll(), 200, {"previous": {}, "fitted": {}}, **more)


def decided(served: float, previous: float, fitted: float, **more: float) -> str:
    one = guard(**more)
    one.trial = 1
    noise = np.random.default_rng(0).normal(scale=0.01, size=(200, 1)) * np.array([1, -1])
    others = {"previous": announced(previous), "fitted": announced(fitted) + noise}
    one.add(announced(served) - noise, others, TRUTH, 1, IDS)
    assert one.due
    return one.decide().back_to


def test_it_goes_back_to_the_best_of_those_that_were_better() -> None:
    assert decided(served=0.6, previous=0.8, fitted=0.7) == "previous"
    assert decided(served=0.6, previous=0.7, fitted=0.8) == "fitted"


def test_it_keeps_what_is_better_or_not_surely_worse() -> None:
    assert decided(served=0.9, previous=0.8, fitted=0.7) == ""
    assert decided(served=0.8, previous=0.8, fitted=0.8) == ""


def test_a_margin_is_what_a_change_must_exceed() -> None:
    loss = float(np.log(0.8 / 0.7))

    assert decided(0.7, 0.8, 0.5, margin=loss - 0.02) == "previous"
    assert decided(0.7, 0.8, 0.5, margin=loss + 0.02) == ""


def test_a_metric_that_is_better_when_larger_goes_the_other_way() -> None:
    one = Guard("accuracy", Accuracy(), 200, {"fitted": {}})
    wrong = announced(0.9)
    wrong[:40] = wrong[:40, ::-1]
    one.add(wrong, {"fitted": announced(0.9)}, TRUTH, 0, IDS)

    assert one.decide().back_to == "fitted"


def test_in_the_first_trial_the_fitted_state_counts_once() -> None:
    one = guard()

    assert set(one.alternatives) == {"fitted"}
    one.trial = 1
    assert set(one.alternatives) == {"previous", "fitted"}


def test_announcements_of_another_trial_are_left_out() -> None:
    one = guard()
    one.add(announced(0.9), {"fitted": announced(0.9)}, TRUTH, 1, IDS)
    assert not one.due


def test_an_example_counts_once_however_often_it_came() -> None:
    """Four examples, fifty times each: no number of repeats makes four examples evidence."""
    one = Guard("nll", Nll(), 200, {"fitted": {}})
    one.add(announced(0.6), {"fitted": announced(0.9)}, TRUTH, 0, IDS % 4)
    verdict = one.decide()

    assert verdict.back_to == ""
    assert (verdict.difference.n, verdict.difference.verdict) == (4, "too few to tell")


def test_false_rollbacks_are_as_rare_as_said() -> None:
    """Two states of equal worth: a rollback in at most 2.5 % of trials, up to the spread of 300 trials."""
    rng = np.random.default_rng(0)
    count = 0
    for seed in range(300):
        one = Guard("nll", Nll(), 200, {"fitted": {}}, seed=seed)
        a, b = (np.clip(rng.normal(0.7, 0.1, 200), 0.05, 0.95) for _ in range(2))
        p, q = (np.where(np.eye(2, dtype=bool)[TRUTH], x[:, None], 1 - x[:, None]) for x in (a, b))
        one.add(p, {"fitted": q}, TRUTH, 0, IDS)
        count += bool(one.decide().back_to)

    assert count / 300 == pytest.approx(0.025, abs=0.025)

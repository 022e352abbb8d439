"""Which condition a step is under, and which example it shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.monitoring.schedule import Schedule, Segment
from testbed.monitoring.source import Dealer, Deck
from testbed.types import Outputs

PLAN = Schedule(
    (
        Segment((0,), 10),
        Segment((1,), 200, "gradual", over=100),
        Segment((2, 3, 4), 9, "ramp"),
        Segment((5,), 10, "recurring", period=3),
        Segment((0,), 5, wrong_labels=0.5),
    ),
    seed=3,
)


def test_each_kind_of_change_by_hand() -> None:
    whole = PLAN.at(0, PLAN.length)

    assert PLAN.length == 234 and len(whole.condition) == 234
    assert whole.condition[:10].tolist() == [0] * 10
    assert whole.condition[210:219].tolist() == [2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert whole.condition[219:229].tolist() == [5, 5, 5, 4, 4, 4, 5, 5, 5, 4]
    assert whole.wrong_labels.tolist() == [0.0] * 229 + [0.5] * 5
    assert whole.segment.tolist() == [0] * 10 + [1] * 200 + [2] * 9 + [3] * 10 + [4] * 5
    assert whole.drifted.tolist() == [False] * 10 + [True] * 219 + [False] * 5


def test_a_gradual_change_mixes_in_linearly() -> None:
    long = Schedule((Segment((0,), 1), Segment((1,), 20_000, "gradual", over=10_000)))
    new = long.at(1, long.length).condition == 1

    assert new[10_000:].all()
    for quarter in range(4):
        assert new[quarter * 2500 : (quarter + 1) * 2500].mean() == pytest.approx((quarter + 0.5) / 4, abs=0.03)


@given(st.integers(0, 233), st.integers(1, 60))
def test_steps_asked_for_together_or_apart_are_the_same(start: int, count: int) -> None:
    whole, part = PLAN.at(0, PLAN.length), PLAN.at(start, start + count)

    for one, other in zip(whole, part):
        assert one[start : start + count].tolist() == other.tolist()


def test_after_a_recurring_segment_old_is_what_it_ended_in() -> None:
    def before(steps: int) -> int:
        recurring = Segment((1,), steps, "recurring", period=2)
        plan = Schedule((Segment((0,), 1), recurring, Segment((2,), 2, "recurring", period=1)))
        return int(plan.at(steps + 2, steps + 3).condition[0])

    assert before(2) == 1
    assert before(4) == 0
    assert before(5) == 1


def test_a_deck_deals_every_example_once_a_pass() -> None:
    deck = Deck(np.arange(7), seed=0)
    dealt = np.concatenate([deck.deal(n) for n in (3, 3, 5, 10)])

    assert [sorted(dealt[i : i + 7].tolist()) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert dealt[:7].tolist() != dealt[7:14].tolist()
    assert deck.passes == 3
    assert np.array_equal(dealt, Deck(np.arange(7), seed=0).deal(21))


class Held:
    """A source in memory: logits say condition and example."""

    def __init__(self, condition: int, ids: np.ndarray) -> None:
        self.condition, self.ids = condition, ids

    def take(self, rows: np.ndarray, features: bool) -> Outputs:
        ids = self.ids[rows]
        return Outputs(np.stack([np.full(len(ids), self.condition), ids], axis=1).astype(np.float32), labels=ids)


def test_conditions_of_the_same_examples_are_dealt_from_one_deck() -> None:
    dealer = Dealer([Held(0, np.arange(20)), Held(1, np.arange(20)), Held(2, np.arange(3))], 0, False)
    condition = np.array([0, 1, 2, 1, 0] * 5)
    outputs = dealer.take(condition)
    ids = np.asarray(outputs.labels)

    assert np.asarray(outputs.logits)[:, 0].astype(int).tolist() == condition.tolist()
    assert np.asarray(outputs.logits)[:, 1].astype(int).tolist() == ids.tolist()
    assert sorted(ids[condition != 2].tolist()) == list(range(20))
    assert set(ids[condition == 2].tolist()) == {0, 1, 2}
    assert dealer.passes == 2

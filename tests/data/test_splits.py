"""Splits never overlap, are drawn at random, and stay what they were when another number changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.data.packaged import Digits
from testbed.data.splits import Draw, materialise, order, rows, split_plan, whole
from testbed.errors import DataError, UsageError

LAYOUTS = [
    ("all",),
    ("test",),
    ("train", "test"),
    ("train", "validation"),
    ("train", "validation", "test"),
    ("train", "calibration", "test"),
]


def positions(draws, seed):
    """(part, position) pairs of each split."""
    return {split: {(d.part, int(row)) for row in rows(d, seed)} for split, d in draws.items()}


@given(
    layout=st.sampled_from(LAYOUTS),
    size=st.integers(0, 60),
    wanted=st.tuples(*[st.one_of(st.none(), st.integers(0, 30))] * 4),
    home=st.sampled_from([None, {"calibration": "test"}, {"train": "test"}]),
    seed=st.integers(0, 5),
)
def test_splits_never_share_an_example(layout, size, wanted, home, seed):
    sizes = dict.fromkeys(layout, size)
    if home and "test" not in layout:
        home = None
    train, calibration, test, limit = wanted
    try:
        draws = split_plan(sizes, train=train, calibration=calibration, test=test, limit=limit, parts=home)
    except UsageError as error:
        assert "asked of it" in str(error)
        return
    taken = positions(draws, seed)
    assert not taken["train"] & taken["test"]
    assert not taken["calibration"] & taken["test"]
    assert not taken["calibration"] & taken["train"]
    for split, draw in draws.items():
        assert len(taken[split]) == draw.count
        assert all(0 <= row < size for _, row in taken[split])


def test_numbers_asked_for_are_the_numbers_given():
    draws = split_plan({"train": 60_000, "test": 10_000}, train=3500, calibration=700, test=800)

    assert {split: (d.part, d.count) for split, d in draws.items()} == {
        "train": ("train", 3500),
        "calibration": ("train", 700),
        "test": ("test", 800),
    }


def test_defaults_follow_the_parts_of_the_set():
    assert {s: (d.part, d.count) for s, d in split_plan({"train": 60_000, "test": 10_000}).items()} == {
        "train": ("train", 55_000),
        "calibration": ("train", 5000),
        "test": ("test", 10_000),
    }
    assert {s: d.count for s, d in split_plan({"all": 1797}).items()} == {
        "train": 1079,
        "calibration": 359,
        "test": 359,
    }
    assert split_plan({"train": 9, "validation": 5, "test": 3})["calibration"] == Draw("validation", 5, 0, 5)
    assert split_plan({"train": 9, "test": 10}, parts={"calibration": "test"})["test"].count == 8


def test_limit_is_a_subset_and_leaves_the_other_splits_alone():
    full, small, smaller = (
        positions(split_plan({"all": 5000}, calibration=1000, test=1000, limit=k), 3) for k in (None, 200, 50)
    )

    assert smaller["test"] < small["test"] < full["test"]
    assert small["calibration"] == full["calibration"] and small["train"] == full["train"]


def test_another_test_size_leaves_the_calibration_examples():
    a, b = (positions(split_plan({"all": 500}, calibration=100, test=k), 0) for k in (50, 90))

    assert a["calibration"] == b["calibration"] and a["test"] < b["test"]


def test_the_order_is_random_and_its_golden_values_hold():
    assert sorted(order("all", 1000, 0)) == list(range(1000))
    assert order("all", 8, 0).tolist() == order("all", 8, 0).tolist() != order("all", 8, 1).tolist()
    assert order("test", 12, 7).tolist() == GOLDEN
    assert abs(np.corrcoef(order("all", 1000, 0), np.arange(1000))[0, 1]) < 0.12


GOLDEN = [5, 8, 0, 2, 3, 10, 7, 11, 1, 4, 9, 6]


@pytest.mark.parametrize(
    ("sizes", "asked", "words"),
    [
        (
            {"all": 100},
            {"train": 50, "calibration": 30, "test": 30},
            "has 100 examples, but 50 train . 30 calibration . 30 test = 110",
        ),
        ({"all": 100}, {"test": -1}, "test: expected a number of examples >= 0, got -1"),
        ({"a": 10, "b": 10}, {}, "say which are train and test"),
        ({}, {}, "names no parts"),
        (
            {"train": 3, "test": 3},
            {"parts": {"calibration": "tset"}},
            "expected one of train, calibration, test and one of train, test",
        ),
    ],
)
def test_what_cannot_be_drawn_is_an_error(sizes, asked, words):
    with pytest.raises(UsageError, match=words):
        split_plan(sizes, **asked)


def test_materialise_gives_the_rows_in_id_order_and_notices_a_changed_set():
    digits = Digits()
    draw = split_plan(digits.sizes(), test=40)["test"]
    got = materialise(digits, draw, 0)

    assert got.ids.tolist() == rows(draw, 0).tolist()
    assert (got.x == digits.load("all").x[got.ids]).all()
    with pytest.raises(DataError, match="had 1796 examples when the plan was made and has 1797 now"):
        materialise(digits, Draw("all", 1796, 0, 5), 0)


def test_whole_takes_the_test_part():
    assert whole({"train": 5, "test": 9}) == Draw("test", 9, 0, 9)
    assert len(rows(whole({"all": 9}, limit=4), 0)) == 4

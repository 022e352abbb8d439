"""Splits never overlap, are drawn at random, and stay what they were when another number changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.data.packaged import Digits
from testbed.data.splits import Draw, materialise, order, rows, split_plan, stream, whole
from testbed.errors import DataError, UsageError
from testbed.types import Examples, Spec

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


class Watched:
    """A set of 100 examples that notes how many it was asked for at once; `shape` gives each example's shape."""

    def __init__(self, shape=lambda row: (2, 2, 1), ids=lambda rows: rows):
        self.shape, self.ids, self.asked = shape, ids, []

    def sizes(self):
        return {"all": 100}

    def load_rows(self, part, chosen):
        self.asked.append(len(chosen))
        shape = self.shape(int(chosen[0]))
        x = np.stack([np.full(shape, row, dtype=np.uint8) for row in chosen])
        return Examples(x, chosen % 10, self.ids(chosen), Spec("image", shape, 10))


def test_a_set_with_load_rows_is_streamed_and_never_held_whole():
    data, draw = Watched(), Draw("all", 100, 10, 47)
    parts = list(stream(data, draw, 3, 20))

    assert data.asked == [20, 20, 7]
    assert np.concatenate([part.ids for part in parts]).tolist() == materialise(data, draw, 3).ids.tolist()
    assert all((part.x[:, 0, 0, 0] == part.ids).all() for part in parts)


def test_a_set_without_load_rows_is_cut():
    parts = list(stream(Digits(), Draw("all", 1797, 0, 50), 0, 20))

    assert [len(part) for part in parts] == [20, 20, 10]


def test_grey_shards_of_an_rgb_set_become_rgb_and_other_sizes_are_an_error():
    draw = Draw("all", 100, 0, 100)
    mixed = list(stream(Watched(lambda row: (2, 2, 3 if row < 50 else 1)), draw, 0, 50))
    assert [part.x.shape for part in mixed] == [(50, 2, 2, 3)] * 2 and {part.spec.shape for part in mixed} == {
        (2, 2, 3)
    }

    with pytest.raises(DataError, match=r"from id 50 have the shape \[3, 2, 1\], the first ones \[2, 2, 1\]"):
        list(stream(Watched(lambda row: (2 + row // 50, 2, 1)), draw, 0, 50))


def test_ids_that_do_not_ascend_are_an_error():
    with pytest.raises(DataError, match="ascend with the positions"):
        list(stream(Watched(ids=lambda rows: rows // 2), Draw("all", 100, 0, 100), 0, 50))

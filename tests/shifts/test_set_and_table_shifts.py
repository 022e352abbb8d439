"""Shifts of sets, tables and series: one contract for all, and each one's own promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from testbed_shifts.series import held, read_at

from testbed.errors import DataError
from testbed.perturb.shift import Shift
from testbed.plugins import names, read
from testbed.types import Examples, Spec

TABLE = Spec("tabular", (4,), 2, "float32", "f", ((0, 1), (-5, 5), (0, 4), (10, 20)), categorical=(2,))
SERIES = Spec("series", (30, 2), 2, "float32", "tc", ((-1.0, 1.0),))
SET_LEVEL = [n for n in names("shift") if read("shift", n).facts["level"] == "set"]
VALUES = [n for n in names("shift") if "image" not in read("shift", n).facts["kinds"]]


def shift(name: str, **params: Any) -> Shift:
    return Shift(read("shift", name), params)


def data(name: str, n: int = 40) -> tuple[np.ndarray, Spec]:
    rng = np.random.default_rng(3)
    if "tabular" in read("shift", name).facts["kinds"]:
        low, high = np.array(TABLE.bounds).T
        table = rng.uniform(low, high, (n, 4))
        table[:, 2] = np.floor(table[:, 2] + 0.5)
        return table.astype(np.float32), TABLE
    waves = np.sin(np.linspace(0, 9, 30)[None, :, None] + rng.uniform(0, 6, (n, 1, 2))) * 0.97
    return waves.astype(np.float32), SERIES


def labelled(n: int = 600) -> Examples:
    rng = np.random.default_rng(1)
    y = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    x = rng.normal(size=(n, 2)).astype(np.float32)
    spec = Spec("tabular", (2,), 3, "float32", "f", ((-9.0, 9.0),))
    return Examples(x, y, np.arange(n) * 7, spec, groups=rng.choice(2, n, p=[0.9, 0.1]), group_names=("many", "few"))


@pytest.mark.parametrize("name", VALUES)
def test_values_shifts_keep_the_contract(name: str) -> None:
    x, spec = data(name)
    ids = np.arange(len(x)) * 3
    strong = shift(name, severity=5)
    whole = strong(x, ids=ids, seed=2, spec=spec)
    assert whole.dtype == np.float32 and whole.shape == x.shape and (whole != x).any()
    assert (shift(name, severity=0)(x, ids=ids, spec=spec) == x).all()
    low, high = np.broadcast_to(np.array(spec.bounds, np.float32), (x.shape[-1], 2)).T
    assert (whole >= low).all() and (whole <= high).all()
    order = np.random.default_rng(0).permutation(len(x))
    for rows in (order, order[:7], slice(3, 4)):
        assert (strong(x[rows], ids=ids[rows], seed=2, spec=spec) == whole[rows]).all()
    distance = [np.abs(shift(name, severity=s)(x, ids=ids, seed=2, spec=spec) - x).mean() for s in (1, 5)]
    assert 0 < distance[0] < distance[1]


@pytest.mark.parametrize("name", [n for n in VALUES if "tabular" in read("shift", n).facts["kinds"]])
def test_table_shifts_leave_the_other_kind_of_column_alone(name: str) -> None:
    x, spec = data(name, 200)
    changed = (shift(name, severity=5)(x, ids=range(200), spec=spec) != x).any(axis=0)
    if name == "category_swap":
        assert changed.tolist() == [False, False, True, False]
        swapped = shift(name, severity=5, fraction=1.0)(x, ids=range(200), spec=spec)[:, 2]
        assert (swapped != x[:, 2]).all() and set(swapped) <= {0, 1, 2, 3, 4}
    elif name != "missing_values":
        assert not changed[2] and changed[[0, 1, 3]].any()
    only = shift(name, severity=5, columns=(2,) if name == "category_swap" else (1,))
    touched = np.flatnonzero((only(x, ids=range(200), spec=spec) != x).any(axis=0))
    assert touched.tolist() == [2 if name == "category_swap" else 1]


def test_missing_values_follow_their_mechanism() -> None:
    x, spec = data("missing_values", 4000)
    lost = {}
    for mechanism in ("mcar", "mar", "mnar"):
        losing = shift("missing_values", severity=5, fraction=0.4, mechanism=mechanism, given=0, fill="nan")
        lost[mechanism] = np.isnan(losing(x, ids=range(4000), spec=spec))
    assert lost["mcar"].mean() == pytest.approx(0.4, abs=0.02)
    upper = x[:, 0] > 0.5
    assert lost["mcar"][upper, 1].mean() == pytest.approx(lost["mcar"][~upper, 1].mean(), abs=0.05)
    assert lost["mar"][upper, 1].mean() > 2 * lost["mar"][~upper, 1].mean()
    assert lost["mnar"][x[:, 1] > 0, 1].mean() > 2 * lost["mnar"][x[:, 1] <= 0, 1].mean()


@pytest.mark.parametrize("name", SET_LEVEL)
def test_set_shifts_give_the_same_examples_for_any_order_and_at_severity_0_all(name: str) -> None:
    examples = labelled()
    params = {"classes": (0, 2)} if name == "class_subset" else {}
    chosen = shift(name, **params).on(examples, seed=4)
    order = np.random.default_rng(0).permutation(len(examples))
    assert set(chosen.ids) == set(shift(name, **params).on(examples.take(order), seed=4).ids)
    assert 0 < len(chosen) < len(examples) and len(set(chosen.ids)) == len(chosen)
    assert len(shift(name, severity=0, **params).on(examples)) == len(examples)
    with pytest.raises(Exception, match="whole set"):
        shift(name, **params)(examples.x, ids=examples.ids)


def shares(examples: Examples) -> list[float]:
    return (np.bincount(examples.y, minlength=3) / len(examples)).tolist()


def test_label_shifts_have_the_promised_shares() -> None:
    examples = labelled()
    assert shares(shift("label_tweak_one", label=2, rho=0.8).on(examples)) == pytest.approx([0.1, 0.1, 0.8], abs=0.02)
    one, two = (shares(shift("label_dirichlet", alpha=0.5).on(examples, seed=s)) for s in (0, 1))
    assert one != pytest.approx(two, abs=0.05)
    left = shift("label_knock_out", label=0, delta=0.5).on(examples)
    before, after = np.bincount(examples.y), np.bincount(left.y)
    assert after[0] == pytest.approx(before[0] / 2, abs=2) and (abs(after[1:] - before[1:]) <= 1).all()
    assert set(shift("class_subset", classes=(1,)).on(examples).y) == {1}
    half = shift("label_tweak_one", label=2, rho=0.8, severity=2.5).on(examples)
    assert shares(half)[2] == pytest.approx((shares(examples)[2] + 0.8) / 2, abs=0.02)


def test_subpopulation_evens_the_groups_out() -> None:
    chosen = shift("subpopulation").on(labelled())
    assert np.bincount(chosen.groups).tolist() == [int((labelled().groups == 1).sum())] * 2
    with pytest.raises(DataError, match="needs a data set with groups"):
        shift("subpopulation").on(replace(labelled(), groups=None))
    with pytest.raises(DataError, match="expected 2 ratios"):
        shift("subpopulation", ratios=(1.0,)).on(labelled())


def test_covariate_tilt_raises_the_mean_and_bad_names_are_refused() -> None:
    examples = labelled()
    assert shift("covariate_tilt", feature=1, b=1.0).on(examples).x[:, 1].mean() > examples.x[:, 1].mean() + 0.3
    with pytest.raises(DataError, match="feature 5 is not in the set"):
        shift("covariate_tilt", feature=5).on(examples)
    with pytest.raises(DataError, match="needs a label for every example"):
        shift("label_dirichlet").on(replace(examples, y=np.full(len(examples), -1)))
    with pytest.raises(DataError, match=r"takes float32 \[n features\]"):
        shift("feature_noise")(np.zeros((2, 3)), ids=[0, 1])


def test_series_helpers_by_hand() -> None:
    x = np.array([[[1.0], [2.0], [4.0]]], np.float32)
    assert held(x, np.array([[[True], [True], [False]]]))[0, :, 0].tolist() == [1, 1, 4]
    assert read_at(x, np.array([[0.5, 1.5, 9.0]]))[0, :, 0].tolist() == [1.5, 3.0, 4.0]

"""Tables and series: the official counts of Adult, and MNIST-1D beside the published generator."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from testbed.data.adult import COLUMNS, Adult
from testbed.data.mnist1d import MEAN, POINTS, STD, Mnist1d, drawn, templates
from testbed.errors import DataError
from testbed.seeding import Rng

HERE = (Path(os.environ.get("TESTBED_DATA", "")) / "adult" / "adult_train.csv.gz").is_file()
data = pytest.mark.skipif(not HERE, reason="TESTBED_DATA names no folder with adult/")

# Of 40,000 examples of the package mnist1d 0.0.2 (`transform` of every template in turn, np.random.seed(0), before its
# standardising): mean, standard deviation and that of the differences of neighbours, by class.
REFERENCE = np.array(
    [
        [0.06569, -0.02106, -0.00036, 0.04462, -0.02401, -0.00684, -0.06557, 0.02077, -0.04463, -0.02882],
        [0.18389, 0.13491, 0.12916, 0.15438, 0.13825, 0.12953, 0.18407, 0.13476, 0.15421, 0.13974],
        [0.08793, 0.08574, 0.08095, 0.11015, 0.08908, 0.08601, 0.08819, 0.08543, 0.11012, 0.09618],
    ]
)


@data
@pytest.mark.parametrize(
    ("part", "rows", "rich", "unknown"), [("train", 32561, 7841, 2399), ("test", 16281, 3846, 1221)]
)
def test_adult_has_the_official_counts(part, rows, rich, unknown):
    found = Adult().load(part)
    asked = [list(COLUMNS).index(name) for name in ("workclass", "occupation", "native_country")]

    assert (len(found), int(found.y.sum())) == (rows, rich)
    assert int((found.x[:, asked] == 0).any(axis=1).sum()) == unknown
    low, high = np.array(found.spec.bounds).T
    assert (found.x >= low).all() and (found.x <= high).all() and found.x.dtype == np.float32


@data
def test_adult_groups_are_sex_and_race_in_their_official_numbers():
    both, sex = Adult("sex_and_race").load("train"), Adult().load("train")

    assert np.bincount(sex.groups).tolist() == [10771, 21790] and sex.group_names == ("Female", "Male")
    assert both.group_names[4] == "Female, White" and np.bincount(both.groups)[:5].sum() == 10771


def test_a_damaged_adult_file_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "adult").mkdir()
    for part in ("train", "test"):
        with gzip.open(tmp_path / "adult" / f"adult_{part}.csv.gz", "wt") as file:
            file.write("age,income\n39,<=50K\n")
    monkeypatch.setenv("TESTBED_DATA", str(tmp_path))

    with pytest.raises(DataError, match=r"expected 16281 rows of age, workclass.*got 1 rows of age, income"):
        Adult().load("test")


def test_templates_start_at_zero_and_have_a_sixth_of_a_unit_spread():
    assert np.allclose(templates()[:, 0], 0) and np.allclose(templates().std(axis=1), 1 / 6)


def test_mnist1d_has_the_distribution_of_the_published_generator():
    ids = np.arange(20_000)
    x = drawn(ids % 10, Rng("mnist1d", 1, 7, ids))
    mine = [x[ids % 10 == k] for k in range(10)]
    found = np.array([[f(v) for v in mine] for f in (np.mean, np.std, lambda v: np.diff(v).std())])

    # standard error of a class mean over 2,000 examples: 0.0006; of its spreads less
    assert np.abs(found - REFERENCE).max() < 4 * 0.0008
    assert abs(x.mean() - MEAN) < 4e-4 and abs(x.std() / STD - 1) < 5e-3


def test_an_mnist1d_example_does_not_depend_on_how_many_are_drawn():
    few, many = Mnist1d(train_size=10, test_size=10), Mnist1d(train_size=50, test_size=10)

    assert (few.load("train").x == many.load("train").x[:10]).all()
    assert few.load("test").x.shape == (10, POINTS, 1)
    assert not (Mnist1d(10, 10, seed=1).load("test").x == few.load("test").x).any()

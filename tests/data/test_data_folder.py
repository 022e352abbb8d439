"""The sets of the local data folder: their sizes, labels and ids are what their description says."""

import os
from pathlib import Path

import numpy as np
import pytest

from testbed import plugins
from testbed.data.base import data_root

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not os.environ.get("TESTBED_DATA") or not Path(os.environ["TESTBED_DATA"]).is_dir(),
        reason="TESTBED_DATA names no folder",
    ),
]

#: name -> (parts checked, shape, classes, examples of the smallest and largest class of the checked part)
SETS = {
    "mnist": ("test", (28, 28, 1), 10, 892, 1135),
    "fashion_mnist": ("test", (28, 28, 1), 10, 1000, 1000),
    "cifar10": ("test", (32, 32, 3), 10, 87, 114),
    "omniglot28": ("all", (28, 28, 1), 242, 20, 20),
    "gtsrb32": ("test", (32, 32, 3), 43, None, None),
    "cifar10_jpeg": ("test", (32, 32, 3), 10, 1000, 1000),
}


@pytest.mark.parametrize("name", SETS)
def test_sets_are_as_described(name):
    part, shape, classes, least, most = SETS[name]
    dataset = plugins.read("dataset", name).build()
    got = dataset.load(part)
    counts = np.bincount(got.y, minlength=classes)

    assert got.x.shape == (dataset.sizes()[part], *shape) and dataset.spec().shape == shape
    assert len(counts) == classes == dataset.spec().classes
    assert (counts.min(), counts.max()) == (least or counts.min(), most or counts.max()) and counts.min() > 0
    assert len(np.unique(got.ids)) == len(got) and all(path.is_file() for path in dataset.files())


def test_the_jpeg_copy_is_near_the_exact_pixels_and_has_their_ids():
    exact, jpeg = (plugins.read("dataset", name).build() for name in ("cifar10", "cifar10_jpeg"))
    a = exact.load("test")
    b = jpeg.load_rows("test", np.arange(1017))
    t = exact.load("train").take(np.arange(0, 8068, 40))
    u = jpeg.load_rows("train", t.ids)

    assert (a.ids == b.ids).all() and (a.y == b.y).all() and (t.y == u.y).all()
    assert abs(np.abs(a.x.astype(float) - b.x).mean() - 5.8) < 0.1
    assert np.abs(t.x.astype(float) - u.x).mean(axis=(1, 2, 3)).max() < 14


def test_mnist5k_holds_training_digits_only():
    full, few = (plugins.read("dataset", name).build() for name in ("mnist", "mnist5k"))
    train, test = ({image.tobytes() for image in full.load(part).x} for part in ("train", "test"))
    images = {image.tobytes() for image in few.load("all").x}

    assert data_root() is not None and images <= train and not images & test

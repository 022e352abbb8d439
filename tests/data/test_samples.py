"""The images in foolbox's wheel: sizes, labels, and labels that are part of the identity."""

import numpy as np
import pytest

from testbed.data.base import fingerprint
from testbed.data.samples import FoolboxSamples

SHAPES = {
    "imagenet": (224, 224, 3), "cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_each_set_has_twenty_labelled_images(name):
    found = FoolboxSamples(name).load("all")

    assert found.x.shape == (20, *SHAPES[name]) and found.x.dtype == np.uint8
    assert found.y.min() >= 0 and found.y.max() < found.spec.classes
    assert len(np.unique(found.ids)) == 20 and found.x.std() > 20


def test_labels_are_those_of_the_file_names_and_in_the_fingerprint():
    data = FoolboxSamples("imagenet")

    assert data.load("all").y[:4].tolist() == [243, 559, 438, 990]
    assert fingerprint(data)["labels"] == data.load("all").y.tolist()

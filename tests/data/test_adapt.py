"""Adapting images: the rule in words is the rule in numbers."""

import numpy as np
import pytest

from testbed.data.adapt import adapt, rule, to_channels
from testbed.errors import UsageError
from testbed.types import Spec

GREY28, RGB32 = Spec("image", (28, 28, 1), 10), Spec("image", (32, 32, 3), 10)


def test_luma_by_hand_and_grey_repeats():
    pixel = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [7, 7, 7]], dtype=np.uint8)

    assert to_channels(pixel, 1)[:, 0].tolist() == [76, 150, 29, 255, 7]
    assert to_channels(to_channels(pixel[3:], 1), 3).tolist() == pixel[3:].tolist()


def test_resizing_keeps_a_constant_and_the_mean_of_a_ramp():
    ramp = np.broadcast_to(np.linspace(0, 248, 32).astype(np.uint8)[None, :, None, None], (1, 32, 32, 3)).copy()
    out = adapt(ramp, RGB32, GREY28)

    assert out.shape == (1, 28, 28, 1) and out.dtype == np.uint8
    assert abs(float(out.mean()) - float(ramp.mean())) < 1
    assert (adapt(np.full((2, 32, 32, 3), 9, np.uint8), RGB32, GREY28) == 9).all()


def test_another_aspect_is_cropped_at_the_centre():
    wide = np.zeros((1, 10, 30, 1), np.uint8)
    wide[:, :, 10:20] = 200
    source, target = Spec("image", (10, 30, 1), 2), Spec("image", (10, 10, 1), 2)

    assert (adapt(wide, source, target) == 200).all()
    assert rule(source, target) == "centre crop to 10:10; 10x30 to 10x10 by antialiased bilinear"


def test_nothing_is_done_where_nothing_is_needed():
    x = np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(1, 32, 32, 3)

    assert rule(RGB32, RGB32) == "as is" and (adapt(x, RGB32, RGB32) == x).all()


def test_only_images_are_adapted():
    with pytest.raises(UsageError, match="not tabular float32"):
        rule(Spec("tabular", (4,), 2, dtype="float32", layout="f"), GREY28)

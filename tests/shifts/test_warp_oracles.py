"""C-bar's and MNIST-C's warps against SciPy's own resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from testbed_shifts.cbar_warp import magnifier, turn_shares

from testbed.perturb.shift import Shift
from testbed.plugins import read

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 20, 26, 2)).astype(np.uint8)


def test_circular_motion_blur_is_the_mean_of_scipys_rotations() -> None:
    shift = Shift(read("shift", "circular_motion_blur"), {"severity": 5, "params": "cifar32"})  # level 6: 9 degrees
    unit = IMAGES.astype(np.float64) / 255
    turned = [f * ndimage.rotate(unit, 9 * t, axes=(2, 1), reshape=False) for t, f in turn_shares()]
    backwards = [f * ndimage.rotate(unit, -9 * t, axes=(2, 1), reshape=False) for t, f in turn_shares()]
    for mean in (sum(turned), sum(backwards)):  # the weights are symmetric, so the sense of rotation cannot matter
        expected = np.clip(255 * np.asarray(mean), 0, 255).astype(int)
        assert np.abs(shift(IMAGES, ids=range(3)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.5])
def test_magnifier_is_scipys_zoom_without_prefilter(factor: float) -> None:
    line = np.random.default_rng(1).uniform(size=32)
    zoomed = ndimage.zoom(line, factor, order=3, prefilter=False)
    edge = (len(zoomed) - 32) // 2
    assert magnifier(32, factor) @ line == pytest.approx(zoomed[edge : edge + 32], abs=1e-12)


@pytest.mark.parametrize("name", ["shear", "scale", "rotate"])
def test_affine_maps_are_scipys_bilinear_ones(name: str) -> None:
    shift = Shift(read("shift", name), {"severity": 3, "params": "mnist28"})
    got = shift(IMAGES, ids=range(3), seed=5)
    draws = shift.sample(IMAGES.shape[1:], ids=range(3), seed=5)
    centre = (np.array(IMAGES.shape[1:3]) - 1) / 2
    for i, image in enumerate(IMAGES):
        angle = 0.4 * float(draws["sign"][i]) if draws else 0.0
        cos, sin = math.cos(angle), math.sin(angle)
        linear = {
            "shear": np.array([[cos, 0], [-sin, 1]]),
            "scale": np.eye(2) / 0.7,
            "rotate": np.array([[cos, sin], [-sin, cos]]),
        }[name]
        for k in range(2):
            plane = np.pad(image[:, :, k].astype(float), 1)  # a black rim, so that SciPy fades out as MNIST-C does
            offset = centre - linear @ centre + linear @ np.array([-1.0, -1.0]) + 1
            moved = ndimage.affine_transform(plane, linear, offset, order=1)[1:-1, 1:-1]
            assert np.abs(got[i, :, :, k].astype(int) - np.floor(moved + 1e-3)).max() <= 1


def test_translate_moves_by_whole_pixels() -> None:
    shift = Shift(read("shift", "translate"), {"severity": 3})
    down, right = (3 * shift.sample(IMAGES.shape[1:], ids=[0])["sign"][0]).tolist()
    expected = ndimage.shift(IMAGES[0], (-down, -right, 0), order=0)
    assert (shift(IMAGES[:1], ids=[0])[0] == expected).all()

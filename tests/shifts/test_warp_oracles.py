"""C-bar's and MNIST-C's warps against SciPy's own resampling."""

from __future__ import annotations

import math
import time

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


@pytest.mark.parametrize("compat", [True, False])
def test_mnist_c_blurs_the_columns_of_grey_images_alone(compat: bool) -> None:
    grey = np.random.default_rng(2).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    sigma = (1.0, 0.0) if compat else (1.0, 1.0)
    for name, published in (("gaussian_blur", 1), ("glass_blur", 3)):
        shift = Shift(read("shift", name), {"severity": published, "params": "mnist28", "compat": compat})
        got = shift(grey, ids=range(3), seed=1)
        draws = shift.sample(grey.shape[1:], ids=range(3), seed=1)
        for i, image in enumerate(grey[..., 0]):
            if name == "gaussian_blur":
                level = shift.built.setting(grey.shape[1:])["sigma"]
                expected = 255 * ndimage.gaussian_filter(image / 255, [level * s for s in sigma], mode="nearest")
                assert np.abs(got[i, :, :, 0] - (expected + (0 if compat else 0.5))).max() <= 1
            else:
                glassy = shuffled(cut(image, sigma, compat), draws["offset"][i])
                assert (got[i, :, :, 0] == cut(glassy, sigma, compat)).mean() > 0.99
    colour = Shift(read("shift", "glass_blur"), {"severity": 3, "params": "mnist28", "compat": compat})
    three = colour(np.repeat(grey, 3, axis=3), ids=range(3), seed=1)
    assert (three[..., 0] == got[..., 0]).all() != compat  # channels are channels there, so both axes are blurred


def cut(image: np.ndarray, sigma: tuple[float, ...], compat: bool) -> np.ndarray:
    """Glass blur's Gaussian of 0.7, as 8 bits."""
    blurred = ndimage.gaussian_filter(image / 255, [0.7 * s for s in sigma], mode="nearest")
    return (255 * blurred + (0 if compat else 0.5)).astype(np.uint8)


def shuffled(image: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Two passes of MNIST-C's glass by its own loop: half of the pixels swap with one at most 1 away."""
    image = image.copy()
    for p in range(2):
        for y in range(27, 1, -1):
            for x in range(27, 1, -1):
                down, right = (np.float32(2) * offsets[p, y, x]).tolist()
                if right - math.floor(right) < 0.5:
                    continue
                yy, xx = y + int(down) - 1, x + int(right) - 1
                image[y, x], image[yy, xx] = image[yy, xx], image[y, x]
    return image


def test_lines_are_drawn_one_after_the_other_as_the_formula_says() -> None:
    shift = Shift(read("shift", "lines"), {"severity": 5, "params": "cifar32"})
    for shape in ((2, 40, 70, 3), (1, 2, 90, 1)):
        images = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
        draws = shift.sample(shape[1:], ids=range(shape[0]), seed=4)
        y, x = np.mgrid[: shape[1], : shape[2]].astype(np.float64)
        expected = images.astype(np.float64)
        for i in range(shape[0]):
            way, count = draws["way"][i].astype(np.float64), int(0.25 * math.sqrt(shape[1] * shape[2]))
            for line in draws["line"][i, :count].astype(np.float64):
                angle = 2 * math.pi * (way[0] + (0.1 + 0.9 * way[1]) * (line[2] - 0.5))
                row, column = np.floor(line[0] * shape[1]), np.floor(line[1] * shape[2])
                away = np.abs((y - row) * np.sin(angle) - (x - column) * np.cos(angle))
                cover = np.maximum(1 - away, 0)[..., None]
                expected[i] = expected[i] * (1 - cover) + 128 * cover
        got = shift(images, ids=range(shape[0]), seed=4)
        assert np.abs(got - expected.astype(np.float32).astype(np.uint8).astype(int)).max() <= 1
        assert (got != images).any()


@pytest.mark.parametrize("shape", [(2, 80, 90, 3), (1, 66, 70, 5)])
def test_turning_a_large_image_is_the_mean_of_scipys_rotations_too(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(4).integers(0, 256, shape).astype(np.uint8)
    shift = Shift(read("shift", "circular_motion_blur"), {"severity": 5, "params": "cifar32"})
    turned = [f * ndimage.rotate(images / 255, 9 * t, axes=(2, 1), reshape=False) for t, f in turn_shares()]
    expected = np.clip(255 * np.asarray(sum(turned)), 0, 255).astype(int)
    got = shift(images, ids=range(shape[0])).astype(int)
    assert np.abs(got - expected).max() <= 1 and (got != expected).mean() < 1e-3


@pytest.mark.parametrize("name", ["lines", "circular_motion_blur"])
def test_the_cost_is_that_of_the_pixels(name: str) -> None:
    shift = Shift(read("shift", name), {"severity": 3, "params": "cifar32"})

    def seconds(size: int) -> float:
        images = np.zeros((1, size, size, 3), np.uint8)
        shift(images, ids=[0])
        least = math.inf
        for _ in range(3):
            before = time.process_time()
            shift(images, ids=[0])
            least = min(least, time.process_time() - before)
        return least

    # 16 times the pixels; what grew with the side besides took 64 times as long for the lines
    assert seconds(288) < 32 * seconds(72)

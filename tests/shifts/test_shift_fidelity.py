"""The corruptions against the published scripts: golden outputs of the deterministic ones, statistics of the
random ones.

tests/golden/make_shifts_reference.py made the golden file by running the reference. The images are crops of the two
photographs that scikit-learn ships, drawn with a fixed seed, so only outputs are committed.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from testbed_shifts.quality import psnr, ssim

from testbed.perturb.shift import Shift
from testbed.plugins import read

GOLDEN = Path(__file__).parent.parent / "golden" / "shifts_reference.npz"
EXACT = (
    "gaussian_blur",
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
)
RANDOM = (
    "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur", "snow", "frost",
    "fog", "elastic_transform", "spatter",
)  # fmt: skip
EXACT_SETS = {"cifar32": (32, 5), "imagenet224": (72, 1)}
STATISTICS_OF = 1000


@lru_cache(maxsize=4)
def photographs(size: int, n: int) -> np.ndarray:
    """Fixed crops uint8 `[n size size 3]`, of the photographs shrunk by 4."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(20)
    photos = [p[::4, ::4] for p in load_sample_images().images]
    corners = [(i % 2, *(rng.integers(0, photos[i % 2].shape[k] - size + 1) for k in (0, 1))) for i in range(n)]
    return np.stack([photos[p][y : y + size, x : x + size] for p, y, x in corners])


def statistics(clean: np.ndarray, shifted: np.ndarray) -> np.ndarray:
    """float64 `[n 11]`: mean, standard deviation, PSNR, SSIM and the log power in seven rings of the spectrum."""
    grey = shifted.mean(axis=3)
    power = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    radius = np.hypot(np.fft.fftfreq(grey.shape[1])[:, None], np.fft.fftfreq(grey.shape[2]))
    ring = np.minimum((radius * 12).astype(int), 6)
    rings = [np.log(power[:, ring == k].mean(axis=1) + 1) for k in range(7)]
    flat = shifted.reshape(len(shifted), -1)
    close = np.minimum(psnr(clean, shifted), 60)
    return np.stack([flat.mean(axis=1), flat.std(axis=1), close, ssim(clean, shifted), *rings], axis=1)


def ours(name: str, params: str, severity: float, images: np.ndarray) -> np.ndarray:
    return Shift(read("shift", name), {"severity": severity, "params": params})(
        images, ids=np.arange(len(images)), seed=0
    )


@pytest.mark.parametrize("params", EXACT_SETS)
@pytest.mark.parametrize("name", EXACT)
def test_deterministic_ones_are_within_one_level(name: str, params: str) -> None:
    golden = np.load(GOLDEN)
    if f"{params}/{name}" not in golden:
        pytest.skip(f"the reference fixes the image size of {name} with {params}")
    images = photographs(*EXACT_SETS[params])
    for severity, expected in enumerate(golden[f"{params}/{name}"], start=1):
        difference = np.abs(ours(name, params, severity, images).astype(int) - expected)
        if name in ("pixelate", "jpeg_compression"):
            assert difference.max() == 0
        else:
            assert (difference <= 1).mean() >= 0.995


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM)
def test_random_ones_match_in_distribution(name: str) -> None:
    """Each statistic within 4 standard errors of the reference, which was run twice to learn its own spread.

    Synthetic frost stands for photographs: within 10 % in mean, standard deviation and PSNR.
    """
    images = photographs(32, STATISTICS_OF)
    for severity, (mean, variance) in enumerate(np.load(GOLDEN)[f"statistics/{name}"], start=1):
        got = statistics(images, ours(name, "cifar32", severity, images)).mean(axis=0)
        if name == "frost":
            assert got[:3] == pytest.approx(mean[:3], rel=0.1)
            continue
        error = np.sqrt(variance * 1.5 / STATISTICS_OF)  # ours once, the reference's mean of two runs
        assert (np.abs(got - mean) <= 4 * error + 1e-6).all(), (severity, (got - mean) / error)


def test_image_quality_measures_by_hand() -> None:
    image = photographs(32, 2)
    assert psnr(image, np.where(image > 245, image - 10, image + 10)).tolist() == pytest.approx([28.1308] * 2, abs=1e-4)
    assert ssim(image, image).tolist() == [1, 1] and (ssim(image, 255 - image) < 0).all()


@pytest.mark.parametrize("size", [(32, 32, 3), (28, 28, 1), (33, 47, 3), (17, 300, 4), (1, 7, 1)], ids=str)
def test_pixelate_is_pillows_box_filter_at_any_size_and_severity(size):
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.uint8)
    for severity in (0.3, 1, 2.5, 5):
        handle = Shift(read("shift", "pixelate"), {"severity": severity})
        fraction = handle.built.setting(size)["fraction"]
        small = max(1, int(size[1] * fraction)), max(1, int(size[0] * fraction))
        box = Image.Resampling.BOX
        for image, found in zip(images, handle(images, ids=[0, 1]), strict=True):
            for k in range(size[2]):
                whole = Image.fromarray(np.ascontiguousarray(image[..., k]))
                assert (np.asarray(whole.resize(small, box).resize(whole.size, box)) == found[..., k]).all()

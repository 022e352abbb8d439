"""Severity by quality: the quality asked for is had, never rises, and needs no batch."""

import numpy as np
import pytest
from testbed_shifts.quality import psnr, ssim

from testbed.errors import UsageError
from testbed.perturb.shift import Shift
from testbed.plugins import read


@pytest.fixture(scope="module")
def photographs():
    from sklearn.datasets import load_sample_images

    return np.stack([p[100:356:8, 200:456:8] for p in load_sample_images().images])


def shifted(images, of, severity, by, **params):
    handle = Shift(read("shift", "monotone"), {"of": of, "severity": severity, "by": by, **params})
    return handle(images, ids=np.arange(len(images)))


@pytest.mark.parametrize("of", ["gaussian_noise", "elastic_transform", "glass_blur", "frost", "jpeg_compression"])
@pytest.mark.parametrize(("by", "measure"), [("ssim", ssim), ("psnr", psnr)])
def test_quality_never_rises_with_the_severity(photographs, of, by, measure):
    found = np.stack([measure(photographs, shifted(photographs, of, s, by)) for s in (0.5, 1, 2, 3, 4, 5)])

    assert (np.diff(found, axis=0) <= 1e-9).all()


def test_the_quality_asked_for_is_had_where_it_can_be(photographs):
    for s in (1, 3, 5):
        found = psnr(photographs, shifted(photographs, "contrast", s, "psnr"))
        reachable = psnr(photographs, Shift(read("shift", "contrast"), {"severity": 5.0})(photographs, ids=[0, 1]))
        assert (np.abs(found - np.maximum(35 - 4 * s, reachable)) < 0.5).all()
    assert np.abs(ssim(photographs, shifted(photographs, "gaussian_noise", 1, "ssim")) - 0.84).max() < 0.02


def test_the_published_table_is_not_monotone_here_and_the_draws_are_the_corruptions_own(photographs):
    levels = [Shift(read("shift", "elastic_transform"), {"severity": s})(photographs, ids=[0, 1]) for s in (1, 5)]
    assert (psnr(photographs, levels[1]) > psnr(photographs, levels[0])).all()

    noise = shifted(photographs, "gaussian_noise", 2, "psnr").astype(float) - photographs
    own = Shift(read("shift", "gaussian_noise"), {"severity": 3.0})(photographs, ids=[0, 1]).astype(float) - photographs
    assert np.corrcoef(noise.ravel(), own.ravel())[0, 1] > 0.9


def test_an_image_does_not_depend_on_its_batch_and_no_table_is_an_error(photographs):
    whole = shifted(photographs, "fog", 3, "ssim")
    handle = Shift(read("shift", "monotone"), {"of": "fog", "severity": 3, "by": "ssim"})

    assert (handle(photographs[1:], ids=[1]) == whole[1:]).all()
    for of, words in (("label_dirichlet", "has no severity table"), ("fogg", "did you mean 'fog'")):
        with pytest.raises(UsageError, match=words):
            shifted(photographs, of, 3, "ssim")

"""The near-duplicate detector: copies are found through re-colouring, noise and shifts; different images are not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from testbed.data.audit import correlation, fine, near_duplicates
from testbed.data.packaged import Digits
from testbed.errors import DataError


def scenes(n, seed, side=32, channels=3):
    """Smooth random scenes with edges, uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, side, side, 1)) + 0.2 * rng.normal(size=(n, side, side, channels))
    smooth = gaussian_filter(noise, (0, 1.5, 1.5, 0))
    return np.clip(128 + 260 * smooth, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (40 + 0.5 * x).astype(np.uint8),
        lambda x: np.repeat(x.mean(-1, keepdims=True), 3, -1).astype(np.uint8),
        lambda x: np.clip(x + np.random.default_rng(3).normal(0, 6, x.shape), 0, 255).astype(np.uint8),
        lambda x: np.roll(x, (2, -1), axis=(1, 2)),
    ],
    ids=["darker", "grey", "noisy", "shifted"],
)
def test_changed_copies_are_found_and_nothing_else(change):
    bank, others = scenes(60, 0), scenes(20, 1)
    pairs = near_duplicates(np.concatenate([change(bank[10:20]), others]), bank, threshold=0.8)

    assert sorted(pairs.left.tolist()) == list(range(10))
    assert (pairs.right == pairs.left + 10).all() and (np.diff(pairs.score) <= 0).all()


def test_within_a_set_each_pair_comes_once_and_no_image_matches_itself():
    x = scenes(30, 2)
    x[7], x[20] = x[3], x[5]
    pairs = near_duplicates(x)

    assert sorted(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == [(3, 7), (5, 20)]
    assert pairs.score.min() > 0.999


def test_a_correlation_with_itself_is_one_and_is_symmetric():
    a, b = fine(scenes(8, 3)), fine(scenes(8, 4))

    np.testing.assert_allclose(correlation(a, a), 1, atol=1e-5)
    np.testing.assert_allclose(correlation(a, b), correlation(b, a), atol=1e-6)
    assert np.abs(correlation(a, b)).max() < 0.9


def test_small_and_grey_images_and_empty_sets():
    digits = Digits().load("all").x[:50]
    pairs = near_duplicates(digits[:5], digits)

    assert sorted(pairs.left.tolist()) == sorted(pairs.right.tolist()) == list(range(5))
    assert len(near_duplicates(digits[:0], digits)) == len(near_duplicates(digits[:1])) == 0


def test_sets_that_do_not_go_together_are_an_error():
    with pytest.raises(DataError, match="with the same channels"):
        near_duplicates(scenes(2, 0), scenes(2, 0, channels=1))
    with pytest.raises(DataError, match="two sets of uint8 images"):
        near_duplicates(scenes(2, 0).astype(float))

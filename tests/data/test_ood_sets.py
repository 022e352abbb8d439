"""Out-of-distribution sets: shape of the ID set, no labels, one example a function of its id."""

import numpy as np
import pytest
from scipy import stats

from testbed.data import ood
from testbed.data.classes import HeldOut, OnlyClasses, OnlyPart
from testbed.data.generated import Blobs, Gaussian, Uniform
from testbed.data.packaged import Digits, Mnist5k
from testbed.data.patches import NaturalPatches, ScrambledPatches
from testbed.data.splits import materialise, split_plan
from testbed.errors import UsageError
from testbed.types import Examples, Spec

GREY, RGB = Spec("image", (28, 28, 1), 10), Spec("image", (20, 24, 3), 10)
TABLE = Spec("tabular", (3,), 2, dtype="float32", layout="f", bounds=((0, 1), (-5, 5), (10, 20)))


def drawn(dataset, *, size=10**6, given=None, **asked):
    """The set in one piece."""
    parts = list(ood.stream(dataset, size=size, given=given if given is None else [given], **asked))
    x, y, ids = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "ids"))
    return Examples(x, y, ids, parts[0].spec)


@pytest.mark.parametrize("like", [GREY, RGB])
@pytest.mark.parametrize(
    "dataset", [Gaussian(n=30), Uniform(n=30), Blobs(n=30), NaturalPatches(n=30), Digits()], ids=repr
)
def test_a_set_takes_the_shape_of_the_id_set(dataset, like):
    whole = drawn(dataset, like=like, seed=1)
    part = drawn(dataset, like=like, seed=1, limit=10)

    assert whole.x.shape[1:] == like.shape and whole.x.dtype == np.uint8 and whole.spec == like
    assert (whole.y == -1).all() and len(np.unique(whole.ids)) == len(whole)
    assert len(part) == 10 and set(part.ids) <= set(whole.ids)
    assert (part.x == whole.x[np.isin(whole.ids, part.ids)]).all()
    assert (drawn(dataset, like=like, seed=1).x == whole.x).all()
    assert ood.rule(dataset, like)


@pytest.mark.parametrize("limit", [None, 17])
@pytest.mark.parametrize(
    "dataset", [Uniform(n=30), NaturalPatches(n=30), ScrambledPatches(), Digits(), Mnist5k()], ids=repr
)
def test_a_set_that_comes_in_parts_is_the_set_that_comes_at_once(dataset, limit):
    given = Mnist5k().load("all").take(slice(40))
    asked = {"like": GREY, "seed": 1, "limit": limit}
    at_once = drawn(dataset, given=given, **asked)
    cut = [given.take(slice(start, start + 12)) for start in range(0, 40, 12)]
    parts = list(ood.stream(dataset, size=12, given=cut, **asked))

    assert [len(part) for part in parts[:-1]] == [12] * (len(parts) - 1) and sum(map(len, parts)) == len(at_once)
    assert limit is None or len(at_once) == limit
    for name in ("x", "y", "ids"):
        whole = getattr(at_once, name)
        assert (np.concatenate([getattr(part, name) for part in parts]) == whole).all()


def test_gaussian_and_uniform_have_the_stated_law():
    clipped = drawn(Gaussian(n=100, mean=0.5, std=0.2), like=GREY, seed=0).x / 255
    flat = drawn(Uniform(n=100), like=GREY, seed=0).x / 255

    inside = clipped[(clipped > 0.05) & (clipped < 0.95)][:5000]
    law = stats.truncnorm(-0.45 / 0.2, 0.45 / 0.2, 0.5, 0.2)
    assert stats.kstest(inside, law.cdf).pvalue > 1e-3
    assert stats.kstest(flat.ravel()[:2000], "uniform").statistic < 0.04
    assert abs((clipped == 0).mean() - stats.norm.cdf(-2.5)) < 0.005


def test_noise_follows_the_bounds_of_a_table():
    x = drawn(Uniform(n=2000), like=TABLE, seed=0).x

    assert x.dtype == np.float32
    np.testing.assert_allclose(x.min(0), [0, -5, 10], atol=0.05)
    np.testing.assert_allclose(x.max(0), [1, 5, 20], atol=0.05)


def test_blobs_have_empty_and_bright_parts():
    x = drawn(Blobs(n=20), like=GREY, seed=0).x

    assert 0.2 < (x == 0).mean() < 0.9
    assert not ((x > 0) & (x < 191)).any()


def test_natural_patches_are_smoother_than_noise_and_come_from_both_photographs():
    x = drawn(NaturalPatches(n=40), like=GREY, seed=0).x[..., 0].astype(float)
    noise = drawn(Uniform(n=40), like=GREY, seed=0).x[..., 0].astype(float)

    assert np.abs(np.diff(x, axis=2)).mean() < 0.3 * np.abs(np.diff(noise, axis=2)).mean()
    assert len({image.tobytes() for image in x}) == 40


def test_a_patch_that_does_not_fit_is_an_error():
    with pytest.raises(UsageError, match="do not fit in a photograph"):
        drawn(NaturalPatches(n=1, scale=20), like=GREY, seed=0)


def test_scrambled_images_keep_their_pixels_and_lose_their_place():
    given = Mnist5k().load("all").take(slice(0, 5000, 500))
    out = drawn(ScrambledPatches(grid=4), like=GREY, seed=0, given=given)

    assert (np.sort(out.x.reshape(10, -1)) == np.sort(given.x.reshape(10, -1))).all()
    tiles = lambda x: {x[i : i + 7, j : j + 7].tobytes() for i in range(0, 28, 7) for j in range(0, 28, 7)}
    assert all(tiles(a) == tiles(b) for a, b in zip(out.x, given.x, strict=True))
    assert (out.x != given.x).any(axis=(1, 2, 3)).all()
    some = given.take(slice(3, 5))
    assert (drawn(ScrambledPatches(grid=4), like=GREY, seed=0, given=some).x == out.x[3:5]).all()


def test_scrambled_images_need_the_id_set():
    with pytest.raises(UsageError, match="none were given"):
        drawn(ScrambledPatches(), like=GREY, seed=0)
    with pytest.raises(UsageError, match="does not cut"):
        drawn(ScrambledPatches(grid=40), like=GREY, seed=0, given=Mnist5k().load("all").take(slice(2)))


def test_kept_and_held_out_classes_share_no_example():
    kept, out = OnlyClasses("digits", (3, 1, 4)), HeldOut("digits", (8, 9))
    a, b, whole = kept.load("all"), out.load("all"), Digits().load("all")

    assert kept.spec().classes == 3 and kept.spec().class_names == ("3", "1", "4")
    assert not set(a.ids) & set(b.ids)
    assert (np.array([3, 1, 4])[a.y] == whole.y[np.isin(whole.ids, a.ids)]).all()
    assert (b.y == -1).all() and kept.sizes() == {"all": len(a)}
    with pytest.raises(UsageError, match="not among the 10 classes"):
        OnlyClasses("digits", (3, 12)).spec()


def test_one_part_is_a_set_of_its_own(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x_train=np.zeros((9, 4, 4), np.uint8),
        x_test=np.ones((5, 4, 4), np.uint8),
        y_train=np.arange(9) % 2,
        y_test=np.arange(5) % 2,
    )
    part = OnlyPart({"use": "npz", "path": str(tmp_path / "a.npz"), "x": "x_{part}", "y": "y_{part}"}, "test")
    draws = split_plan(part.sizes(), calibration=2, test=3)

    assert part.sizes() == {"test": 5} and part.spec().shape == (4, 4, 1) and (part.load("test").x == 1).all()
    assert [len(materialise(part, draws[split], 0)) for split in ("train", "calibration", "test")] == [0, 2, 3]
    with pytest.raises(UsageError, match="no part 'tset'; did you mean 'test'"):
        OnlyPart(part.of, "tset").sizes()
    with pytest.raises(UsageError, match="no part 'train'"):
        part.load("train")
    with pytest.raises(UsageError, match="a mapping with `use`"):
        OnlyPart({"path": "a.npz"}, "test").sizes()

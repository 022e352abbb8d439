"""OOD unit tests: every kind on grey and colour sets, what each recipe promises, one example a function of its id."""

import numpy as np
import pytest
from scipy import stats

from testbed import plugins
from testbed.data import ood
from testbed.data.packaged import Mnist5k
from testbed.types import Examples, Spec

GREY, RGB = Spec("image", (28, 28, 1), 10), Spec("image", (40, 32, 3), 10)
KINDS = (
    "uniform", "rademacher", "gaussian_mixed", "blobs_mixed", "low_frequency", "low_frequency_channels",
    "low_frequency_colours", "pixel_permutation", "smooth_permutation", "black", "white", "grey", "monochrome",
    "tricolour", "tricolour_primary", "horizontal_stripes", "vertical_stripes",
)  # fmt: skip


def drawn(dataset, *, size=10**6, given=None, **asked):
    """The set in one piece."""
    parts = list(ood.stream(dataset, size=size, given=given if given is None else [given], **asked))
    x, y, ids = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "ids"))
    return Examples(x, y, ids, parts[0].spec)


def made(name, like=RGB, count=40, **params):
    dataset = plugins.read("dataset", name).build(**params)
    given = None
    if ood.source(dataset) == "id":
        rng = np.random.default_rng(0)
        given = drawn(plugins.read("dataset", "uniform").build(n=count), like=like, seed=3)
        given.x[:] = np.sort(rng.integers(0, 200, given.x.shape).astype(np.uint8), axis=1)
    return drawn(dataset, like=like, seed=0, limit=count, given=given), given


def test_there_are_seventeen():
    assert len(KINDS) == 17 and set(KINDS) <= set(plugins.installed("dataset"))


@pytest.mark.parametrize("like", [GREY, RGB], ids=["grey", "rgb"])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_fills_the_shape_and_keeps_an_example_whatever_the_count(name, like):
    whole, given = made(name, like)
    assert whole.x.shape == (40, *like.shape) and whole.x.dtype == np.uint8 and (whole.y == -1).all()
    if given is None:
        assert (made(name, like, count=7)[0].x == whole.x[:7]).all()
    if name not in ("black", "white"):
        assert len({image.tobytes() for image in whole.x}) > 10


def test_one_colour_is_one_colour():
    for name in ("black", "white", "grey", "monochrome"):
        x = made(name)[0].x
        assert (x == x[:, :1, :1]).all()
    assert (made("black")[0].x == 0).all() and (made("white")[0].x == 255).all()
    grey, colour = made("grey")[0].x, made("monochrome")[0].x
    assert (grey == grey[..., :1]).all() and (colour != colour[..., :1]).any()


@pytest.mark.parametrize(("name", "axis"), [("horizontal_stripes", 1), ("vertical_stripes", 2)])
def test_stripes_lie_along_their_axis_in_a_number_that_is_asked_for(name, axis):
    x = made(name)[0].x.astype(int)
    assert (np.diff(x, axis=3 - axis) == 0).all()
    changes = (np.diff(x, axis=axis) != 0).any(axis=(3, 3 - axis)).sum(axis=1)
    assert set(changes + 1) <= {4, 5, 7, 10, 15, 20} and len(set(changes)) > 2


def test_flags_have_three_colours_and_primary_ones_are_pure():
    x = made("tricolour")[0].x
    assert max(len(np.unique(image.reshape(-1, 3), axis=0)) for image in x) == 3
    assert set(np.unique(made("tricolour_primary")[0].x)) == {0, 255}


def test_stretched_noise_uses_the_whole_range():
    whole, channels = made("low_frequency")[0].x, made("low_frequency_channels")[0].x
    assert (whole.min(axis=(1, 2, 3)) == 0).all() and (whole.max(axis=(1, 2, 3)) == 255).all()
    assert (channels.min(axis=(1, 2)) == 0).all() and (channels.max(axis=(1, 2)) == 255).all()
    rough = made("uniform")[0].x.astype(int)
    assert np.abs(np.diff(whole.astype(int), axis=2)).mean() < 0.2 * np.abs(np.diff(rough, axis=2)).mean()


def test_rademacher_and_gaussian_have_the_stated_law():
    x = made("rademacher")[0].x
    assert set(np.unique(x)) == {0, 255} and abs((x == 255).mean() - 0.5) < 0.01
    spread = made("gaussian_mixed", count=400)[0].x.astype(float).std(axis=(1, 2, 3)) / 255
    asked = [stats.truncnorm.std(-0.5 / s, 0.5 / s, 0, s) for s in (0.05, 0.075, 0.1, 0.15)]
    assert all(np.abs(spread - s).min() < 0.01 for s in asked)


def test_permuted_images_keep_their_pixels_and_smooth_ones_their_mean():
    mixed, given = made("pixel_permutation")
    order = lambda x: np.sort(x.reshape(len(x), -1, 3).astype(np.int64) @ [1, 256, 65536], axis=1)
    assert (order(mixed.x) == order(given.x)).all() and (mixed.x != given.x).any(axis=(1, 2, 3)).all()
    smooth, given = made("smooth_permutation")
    np.testing.assert_allclose(smooth.x.mean(axis=(1, 2, 3)), given.x.mean(axis=(1, 2, 3)), atol=1.0)
    assert (smooth.x.std(axis=(1, 2, 3)) < given.x.std(axis=(1, 2, 3))).all()


def test_permutation_of_real_images_depends_on_the_id_only():
    given = Mnist5k().load("all").take(slice(0, 5000, 500))
    dataset = plugins.read("dataset", "pixel_permutation").build()
    some = given.take(slice(3, 5))
    whole, part = (drawn(dataset, like=GREY, seed=0, given=g).x for g in (given, some))
    assert (whole[3:5] == part).all()

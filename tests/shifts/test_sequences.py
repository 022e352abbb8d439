"""Perturbation sequences: length, the frame that changes nothing, draws; and what is measured of them."""

import numpy as np
import pytest

from testbed import plugins
from testbed.errors import PluginViolation
from testbed.metrics import corruption
from testbed.metrics.aggregates import Measures
from testbed.metrics.bootstrap import Draws
from testbed.metrics.stability import FlipProbability, MeanFlipProbability, MeanFlipRate, MeanTop5Distance, Top5Distance
from testbed.perturb.shift import SLOTS, Shift
from testbed.runner.operations.aggregates import as_films
from testbed.types import Examples, Spec

FRAMES = {
    "gaussian_noise": 31, "shot_noise": 31, "speckle_noise": 31, "motion_blur": 21, "zoom_blur": 31, "snow": 31,
    "brightness": 31, "gaussian_blur": 31, "spatter": 31, "translate": 16, "rotate": 31, "shear": 31, "tilt": 31,
    "scale": 31,
}  # fmt: skip
#: The frame in which nothing has changed.
STILL = {
    "gaussian_noise": 0, "shot_noise": 0, "speckle_noise": 0, "zoom_blur": 0, "brightness": 15, "translate": 7,
    "rotate": 15, "shear": 15, "tilt": 15, "scale": 15,
}  # fmt: skip


def smooth(n=3, size=32, channels=3):
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 255, (n, 4, 4, channels))
    place = np.linspace(0, 3, size).round().astype(int)
    return coarse[:, place][:, :, place].astype(np.uint8)


def filmed(name, images, ids=None, **params):
    ids = np.arange(len(images)) if ids is None else np.asarray(ids)
    examples = Examples(images, np.zeros(len(ids), np.int64), ids, Spec("image", images.shape[1:], 2))
    return Shift(plugins.read("shift", f"{name}_sequence"), params).on(examples, seed=0)


def films(name, images, **params):
    found = filmed(name, images, **params)
    return found.x.reshape(len(images), -1, *images.shape[1:])


@pytest.mark.parametrize("name", FRAMES)
def test_a_sequence_has_its_frames_and_one_of_them_is_the_image(name):
    images = smooth()
    found = films(name, images)

    assert found.shape[1] == FRAMES[name] and found.dtype == np.uint8
    if name in STILL:
        off = np.abs(found[:, STILL[name]].astype(int) - images)
        assert off.max() <= (1 if name == "brightness" else 0)
    changed = (found[:, 1:] != found[:, :-1]).any(axis=(2, 3, 4))
    assert changed.mean() >= 0.9


@pytest.mark.parametrize("name", ["gaussian_noise", "snow", "spatter", "tilt"])
def test_cut_or_reordered_the_films_are_the_same(name):
    images, ids = smooth(), np.array([7, 2, 9])
    whole = filmed(name, images, ids)
    part = filmed(name, images[1:2], ids[1:2])

    assert (part.x == whole.x[whole.ids // SLOTS == 2]).all()
    assert whole.ids[FRAMES[name]] == 2 * SLOTS and len(np.unique(whole.ids)) == len(whole)


def test_translation_moves_a_pixel_a_frame_and_imagenet_has_more_frames():
    images = smooth(1)
    found = films("translate", images)

    assert (found[0, 9, :, 2:] == images[0, :, :-2]).all()
    assert films("translate", images, params="imagenet").shape[1] == 41
    assert films("tilt", smooth(1, 33, 1)).shape[2:] == (33, 33, 1)


def test_difficulty_is_a_noise_level_and_growth_is_slow():
    images = np.full((2, 32, 32, 3), 128, np.uint8)
    spread = [films("gaussian_noise", images, difficulty=k)[:, 1:].std() / 255 for k in (1, 2, 3)]

    assert np.allclose(spread, [0.02, 0.04, 0.06], rtol=0.05)
    blur = films("gaussian_blur", smooth()).astype(float)
    assert np.abs(np.diff(blur, axis=1)).mean() < 2


def test_a_plug_in_that_returns_no_films_is_found():
    text = 'class Bad:\n    level = "frames"\n    def __call__(self, images, *, rng):\n        return images\n'
    shift = Shift(plugins._from_text("shift", "bad", "Bad", text, "bad.py"))
    images = smooth()
    with pytest.raises(PluginViolation, match=r"must return uint8 \[1, 2 to 64 frames, 32, 32, 3\]; got uint8 \[1, 32"):
        shift.on(Examples(images, np.zeros(3, np.int64), np.arange(3), Spec("image", (32, 32, 3), 2)))


def test_flips_and_distances_of_films_are_the_plain_functions():
    rng = np.random.default_rng(0)
    scores, draws = rng.normal(size=(20, 6, 8)), Draws(0, 20, 100)

    for noise, k in ((False, 1), (False, 2), (True, 1)):
        flips = FlipProbability(difficulty=k)(scores, noise, draws=draws)
        far = Top5Distance(difficulty=k)(scores, noise, draws=draws)
        assert flips.value == pytest.approx(corruption.flip_probability(scores.argmax(2), noise=noise, difficulty=k))
        assert far.value == pytest.approx(corruption.top5_distance(scores, noise=noise, difficulty=k))
        assert flips.low < flips.value < flips.high and flips.n == 20
    assert ("first frame" in FlipProbability()(scores, True, draws=draws).convention) is True


def test_frames_come_back_as_films():
    values = np.arange(12.0).reshape(6, 2)

    assert (as_films(values, np.array([0, 1, 2, 64, 65, 66]))[1] == values[3:]).all()


def test_means_over_sequences_by_hand():
    blank = np.full(1, np.nan)
    own = Measures(blank, {"tilt_sequence": np.array([[0.1]]), "snow_sequence": np.array([[0.3]])})
    base = Measures(blank, {"tilt_sequence": np.array([[0.2]]), "snow_sequence": np.array([[0.2]])})

    assert MeanFlipProbability().combine(own, [])[0][0] == pytest.approx(0.2)
    assert MeanFlipRate(baseline="b").combine(own, [base])[0][0] == pytest.approx((0.5 + 1.5) / 2)
    assert MeanTop5Distance().combine(own, [])[0][0] == pytest.approx(0.2)
    lack = MeanFlipProbability(which="cifar").lacks({name: [None] for name in own.shifted})
    assert "gaussian_noise_sequence" in lack and "tilt_sequence" not in lack

"""mCE, flip probability, top-5 distance, effective robustness: by hand, against loops over the definition, bounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from testbed.metrics import corruption as c


def test_resnet50s_published_mean_from_its_published_parts() -> None:
    """The fifteen CE that the ImageNet-C paper's leaderboard prints for ResNet-50 give its mCE of 76.7."""
    published = dict(zip(c.ALEXNET, (80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77), strict=True))
    errors = {name: [published[name] / 100 * c.ALEXNET[name]] * 5 for name in published}
    assert 100 * c.mean_corruption_error(errors) == pytest.approx(76.7, abs=0.3)  # the parts are rounded to 1


def test_relative_error_of_a_model_that_loses_nothing_is_0() -> None:
    errors = {name: [0.2] * 5 for name in c.ALEXNET}
    assert c.relative_mean_corruption_error(errors, 0.2, 0.43) == pytest.approx(0)


def test_every_corruption_is_needed() -> None:
    with pytest.raises(ValueError, match="missing: gaussian_noise"):
        c.mean_corruption_error({n: [0.5] for n in c.ALEXNET if n != "gaussian_noise"})
    with pytest.raises(ValueError, match="missing: speckle_noise"):
        c.mean_error({n: [0.5] for n in c.ALEXNET}, which=19)
    with pytest.raises(ValueError, match="fractions"):
        c.corruption_error([76.0], 0.8)


def by_definition(labels: np.ndarray, noise: bool, difficulty: int) -> float:
    """Chains of frames, as the definition has it."""
    means = []
    for sequence in labels:
        flips = []
        for start in range(1 if noise else difficulty):
            chain = sequence[start :: 1 if noise else difficulty]
            flips += [chain[0] != now if noise else before != now for before, now in pairwise(chain)]
        means.append(np.mean(flips))
    return float(np.mean(means))


@pytest.mark.parametrize(("noise", "difficulty"), [(False, 1), (False, 2), (False, 3), (True, 1)])
def test_flip_probability_is_the_definition(noise: bool, difficulty: int) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (5, 11))
    assert c.flip_probability(labels, noise=noise, difficulty=difficulty) == pytest.approx(
        by_definition(labels, noise, difficulty)
    )


def test_a_constant_model_never_flips_and_an_alternating_one_always() -> None:
    assert c.flip_probability(np.zeros((2, 9))) == 0
    assert c.flip_probability(np.tile([0, 1], (2, 5))) == 1
    assert c.flip_probability(np.tile([0, 1], (2, 5)), difficulty=2) == 0
    with pytest.raises(ValueError, match="more frames"):
        c.flip_probability([[1]])


def test_top5_distance_by_hand() -> None:
    first = np.arange(10.0)[::-1]
    reverse = first[::-1]  # ranks 1..5 become 10..6, all C = 5: 5 + 4 + 3 + 2 + 1
    assert c.top5_distance([[first, reverse]]) == 15
    assert c.top5_distance([[first, first]]) == 0
    below = first.copy()
    below[[7, 8]] = below[[8, 7]]  # ranks 8 and 9: outside the top 5
    assert c.top5_distance([[first, below]]) == 0 < c.zipf_distance([[first, below]])
    assert c.top5_distance([[first, reverse, first]], noise=True) == 7.5


def test_effective_robustness_of_the_baselines_themselves_is_0_on_the_line() -> None:
    line = c.RobustnessLine(0.8, -0.5, "probit")
    shifted = line.expected([0.6, 0.7, 0.9])
    fitted = c.fit_robustness_line([0.6, 0.7, 0.9], shifted.tolist(), "probit")
    assert (fitted.slope, fitted.intercept) == pytest.approx((0.8, -0.5))
    assert fitted.effective_robustness([0.6, 0.9], shifted[[0, 2]] + 0.1) == pytest.approx([0.1, 0.1])
    with pytest.raises(ValueError, match="strictly"):
        line.expected(1.0)


def test_worst_group() -> None:
    assert c.worst_group_accuracy([1, 1, 0, 1, 0, 0], [4, 4, 4, 7, 7, 7]) == (7, pytest.approx(1 / 3))
    with pytest.raises(ValueError, match="one group an example"):
        c.worst_group_accuracy([1], [1, 2])

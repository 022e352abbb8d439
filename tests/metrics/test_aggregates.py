"""Aggregates over conditions beside the plain arithmetic of `testbed.metrics.corruption`, and worst-group accuracy."""

import numpy as np
import pytest

from testbed.errors import DataError
from testbed.metrics import corruption
from testbed.metrics.aggregates import (
    ALEXNET_CLEAN,
    EffectiveRobustness,
    MeanCorruptionError,
    MeanError,
    MeanOverShifts,
    Measures,
    RelativeMeanCorruptionError,
    RelativeRobustness,
    WorstShift,
)
from testbed.metrics.bootstrap import Draws
from testbed.metrics.groups import WorstGroupAccuracy

RNG = np.random.default_rng(0)
NAMES = (*corruption.ALEXNET, *corruption.EXTRA)
LEVELS = {name: [1, 2, 3, 4, 5] for name in NAMES}


def model(seed):
    rng = np.random.default_rng(seed)
    return Measures(rng.uniform(0.8, 0.9, 4), {name: rng.uniform(0.3, 0.8, (5, 4)) for name in NAMES})


def errors(of, column=0, names=NAMES):
    return {name: 1 - of.shifted[name][:, column] for name in names}


@pytest.mark.parametrize("column", [0, 3])
def test_published_means_are_those_of_the_plain_functions(column):
    own = model(1)
    found = {m: m.combine(own, [])[0][column] for m in (MeanError(15), MeanError(19), MeanCorruptionError())}

    assert found[MeanError(15)] == pytest.approx(corruption.mean_error(errors(own, column), which=15))
    assert found[MeanError(19)] == pytest.approx(corruption.mean_error(errors(own, column), which=19))
    assert found[MeanCorruptionError()] == pytest.approx(corruption.mean_corruption_error(errors(own, column)))
    relative = corruption.relative_mean_corruption_error(errors(own, column), 1 - own.clean[column], ALEXNET_CLEAN)
    assert RelativeMeanCorruptionError().combine(own, [])[0][column] == pytest.approx(relative)


def test_a_model_as_its_own_baseline_has_ratio_one_and_no_gain():
    own = model(2)

    for ratio in (MeanCorruptionError("net"), RelativeMeanCorruptionError("net")):
        assert ratio.others == ("net",) and np.allclose(ratio.combine(own, [own])[0], 1)
    assert np.allclose(RelativeRobustness("net").combine(own, [own])[0], 0)


def test_effective_robustness_is_that_of_the_fitted_line():
    bases, own = [model(seed) for seed in (3, 4, 5)], model(6)
    mean = [np.mean([row.mean(axis=0) for row in one.shifted.values()], axis=0) for one in (*bases, own)]

    for axes in ("logit", "probit"):
        value, words = EffectiveRobustness(("a", "b", "c"), axes).combine(own, bases)
        line = corruption.fit_robustness_line([b.clean[2] for b in bases], [m[2] for m in mean[:3]], axes)
        assert value[2] == pytest.approx(float(line.effective_robustness(own.clean[2], mean[3][2])))
        assert axes in words


def test_the_worst_shift_is_named_and_worst_in_each_replicate():
    own = Measures(np.ones(2), {"fog": np.array([[0.5, 0.2]]), "snow": np.array([[0.4, 0.9]])})
    value, words = WorstShift().combine(own, [])

    assert value.tolist() == [0.4, 0.2] and "on snow" in words


def test_any_metric_can_be_averaged():
    own = Measures(np.zeros(1), {"fog": np.array([[0.1], [0.3]]), "snow": np.array([[0.4]])})

    assert MeanOverShifts("ece").measured == "ece"
    assert MeanOverShifts("ece").combine(own, [])[0][0] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("metric", "conditions", "words"),
    [
        (MeanError(), {}, "at least one of the shifts"),
        (MeanError(19), {**LEVELS, "spatter": [1, 2]}, "each of 19 corruptions; not so: spatter"),
        (MeanCorruptionError(), {"fog": [1, 2, 3, 4, 5]}, "not so: gaussian_noise, shot_noise"),
        (MeanCorruptionError("net"), {"fog": [3]}, ""),
        (EffectiveRobustness(("net",)), LEVELS, "two `baselines` at least"),
        (MeanError(19), LEVELS, ""),
    ],
)
def test_what_the_grid_lacks_is_said(metric, conditions, words):
    assert words in metric.lacks(conditions) and bool(metric.lacks(conditions)) == bool(words)


def test_worst_group_accuracy_by_hand_and_its_interval():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    predicted = np.array([0, 0, 1, 1, 1, 1, 1, 0])
    groups = np.array([0, 1, 1, 0, 0, 0, 2, 1])
    found = WorstGroupAccuracy()(np.eye(2)[predicted], labels, groups, names=("a", "b", "c"), draws=Draws(0, 8, 200))

    assert found.value == pytest.approx(1 / 3) and "b (n=3)" in found.convention
    assert found.low <= found.value <= found.high
    by_class = WorstGroupAccuracy(by="class")(np.eye(2)[predicted], labels, None, draws=Draws(0, 8, 200))
    assert by_class.value == pytest.approx(2 / 3)
    few = WorstGroupAccuracy(least=4)(np.eye(2)[predicted], labels, groups, draws=Draws(0, 8, 200))
    assert few.value == 1.0


def test_a_set_without_groups_is_an_error():
    with pytest.raises(DataError, match="needs a data set with groups"):
        WorstGroupAccuracy()(np.eye(2), np.array([0, 1]), None, draws=Draws(0, 2, 5))

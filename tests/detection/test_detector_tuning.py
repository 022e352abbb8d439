"""Hyper-parameters are chosen on a named tuning set, by AUROC, and never on a set that is scored."""

import pytest

from testbed import plugins
from testbed.detection.tuning import sweeps, tune
from testbed.errors import DataError, UsageError
from testbed.metrics.ood import auroc


def test_the_best_combination_wins_and_all_are_kept(world) -> None:
    found = tune("react", world.train, world.test, world.ood, tuning_set="tin", scored_sets=["svhn"])
    assert [t.params["percentile"] for t in found.trials] == [85, 90, 95, 99]
    best = max(found.trials, key=lambda t: t.auroc)
    assert found.params == best.params and found.auroc == best.auroc and found.tuned_on == "tin"
    detector = plugins.read("detector", "react").build(**found.params).fit(world.train)
    assert auroc(detector.score(world.test), detector.score(world.ood)) == found.auroc


def test_combinations_that_cannot_be_fitted_are_trials_with_a_reason(world) -> None:
    found = tune("knn", world.train, world.test, world.ood, tuning_set="tin", scored_sets=[])
    assert [t.auroc is None for t in found.trials] == [False, False, False, True, True]
    assert "the bank has 400 rows" in found.trials[3].error
    with pytest.raises(DataError, match="none of 2 combinations"):
        tune("vim", world.train, world.test, world.ood, tuning_set="tin", scored_sets=[])


def test_a_scored_set_cannot_tune(world) -> None:
    with pytest.raises(UsageError, match="'svhn' is scored"):
        tune("react", world.train, world.test, world.ood, tuning_set="svhn", scored_sets=["mnist", "svhn"])


def test_a_detector_without_a_sweep_needs_one(world) -> None:
    with pytest.raises(UsageError, match="no published sweep"):
        tune("msp", world.train, world.test, world.ood, tuning_set="tin", scored_sets=[])
    found = tune(
        "energy",
        world.train,
        world.test,
        world.ood,
        tuning_set="tin",
        scored_sets=[],
        sweep={"temperature": [1.0, 2.0]},
    )
    assert len(found.trials) == 2


def test_published_sweeps_name_real_parameters() -> None:
    for name, sweep in sweeps().items():
        known = {p.name for p in plugins.read("detector", name).parameters}
        assert set(sweep) <= known

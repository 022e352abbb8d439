"""What every installed detector must keep to, one table for all of them.

A new detector is held to this the moment its entry point exists; `CASES` names parameters where the published
defaults do not fit a bank of 400 examples of width 16.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from testbed import plugins
from testbed.detection.base import FitWarning
from testbed.errors import DataError, UsageError
from testbed.metrics.ood import auroc
from testbed.types import Paper

#: Parameters for the small world of conftest.py; {} = the defaults.
CASES = {
    "knn": {"k": 10},
    "nnguide": {"k": 10, "share": 0.2},
    "weighted_energy": {"weights": (1.0, 0.5, 1.0, 0.8, 1.2)},
}

NAMES = sorted(
    n for n in plugins.installed("detector") if "inputs" not in plugins.read("detector", n).facts["consumes"]
)


#: Extras that a detector needs: its tests skip where one is absent.
EXTRAS = {"knn_faiss": "faiss"}


def build(name):
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"the extra of {name} is not installed")
    return plugins.read("detector", name).build(**CASES.get(name, {}))


def fitted(name, world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return build(name).fit(world.train)


def test_there_are_detectors() -> None:
    assert {"msp", "energy", "mahalanobis", "knn"} <= set(NAMES)
    assert set(CASES) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_larger_means_more_ood(name, world) -> None:
    detector = fitted(name, world)
    inside, outside = detector.score(world.test), detector.score(world.ood)
    assert inside.shape == (len(world.test),) and inside.dtype == np.float64
    assert np.isfinite(inside).all() and np.isfinite(outside).all()
    assert auroc(inside, outside) > 0.65


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_stated(name) -> None:
    facts = plugins.read("detector", name).facts
    assert set(facts["consumes"]) <= {"logits", "features", "head"} and facts["consumes"]
    assert facts["fitted_on"] in (None, "train", "calibration")
    assert isinstance(facts["reference"], Paper) and facts["reference"].year >= 2000
    assert isinstance(facts["version"], int)


@pytest.mark.parametrize("name", NAMES)
def test_reads_exactly_what_it_declares(name, world, only) -> None:
    """Without the undeclared parts the scores are the same; without a declared one the error names it."""
    whole = fitted(name, world)
    parts = whole.consumes
    reduced = world._replace(train=only(world.train, parts), test=only(world.test, parts))
    np.testing.assert_array_equal(fitted(name, reduced).score(reduced.test), whole.score(world.test))
    for part, gone in {"features": "features", "head": "head_weight"}.items():
        if part in parts:
            with pytest.raises(DataError, match="needs"):
                build(name).fit(replace(world.train, **{gone: None}))


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip(name, world) -> None:
    """State is plain (numbers, strings, booleans, arrays) and restores to the same bits in a fresh object."""
    detector = fitted(name, world)
    state = detector.state()
    assert all(isinstance(v, (bool, int, float, str, np.ndarray)) for v in state.values())
    assert all(v.dtype != object for v in state.values() if isinstance(v, np.ndarray))
    again = build(name).restore({key: np.array(v) if isinstance(v, np.ndarray) else v for key, v in state.items()})
    np.testing.assert_array_equal(again.score(world.ood), detector.score(world.ood))


@pytest.mark.parametrize("name", NAMES)
def test_scoring_needs_no_labels_and_no_head_again(name, world) -> None:
    detector = fitted(name, world)
    bare = replace(world.test, labels=None, ids=None, head_weight=None, head_bias=None)
    np.testing.assert_array_equal(detector.score(bare), detector.score(world.test))


@pytest.mark.parametrize("name", NAMES)
def test_same_input_same_bits(name, world) -> None:
    np.testing.assert_array_equal(fitted(name, world).score(world.ood), fitted(name, world).score(world.ood))


@pytest.mark.parametrize("name", NAMES)
def test_each_example_is_scored_by_itself(name, world) -> None:
    """Permuted or cut, the rows keep their scores (to rounding of the matrix products)."""
    detector = fitted(name, world)
    scores = detector.score(world.test)
    scale = np.abs(scores).max()
    rows = np.random.default_rng(0).permutation(len(world.test))
    np.testing.assert_allclose(detector.score(world.test.take(rows)), scores[rows], rtol=1e-6, atol=1e-7 * scale)
    np.testing.assert_allclose(detector.score(world.test.take(slice(3, 4))), scores[3:4], rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone(name, world) -> None:
    before = [
        world.train.logits.copy(),
        world.train.features.copy(),
        world.test.logits.copy(),
        world.test.features.copy(),
    ]
    fitted(name, world).score(world.test)
    after = [world.train.logits, world.train.features, world.test.logits, world.test.features]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_not_finite_score_nan_and_only_they(name, world) -> None:
    detector = fitted(name, world)
    logits, features = world.test.logits.copy(), world.test.features.copy()
    logits[4, 1] = features[4, 2] = np.nan
    logits[9, 0] = features[9, 0] = np.inf
    scores = detector.score(replace(world.test, logits=logits, features=features))
    assert np.flatnonzero(np.isnan(scores)).tolist() == [4, 9]
    good = np.isfinite(scores)
    np.testing.assert_allclose(scores[good], detector.score(world.test)[good], rtol=1e-6, atol=1e-9)
    if detector.fitted_on:
        with pytest.raises(DataError, match=r"2 of \d+ rows"):
            build(name).fit(replace(world.train, logits=logits, features=features, labels=world.test.labels))


@pytest.mark.parametrize("name", NAMES)
def test_an_unfitted_detector_says_so(name, world) -> None:
    if build(name).fitted_on is None:
        assert build(name).score(world.test).shape == (len(world.test),)
    else:
        with pytest.raises(UsageError, match="not fitted"):
            build(name).score(world.test)


@pytest.mark.parametrize("name", NAMES)
def test_features_of_another_width_are_refused(name, world) -> None:
    detector = fitted(name, world)
    if "features" in detector.consumes and (detector.fitted_on or "head" in detector.consumes):
        with pytest.raises(DataError, match="width"):
            detector.score(replace(world.test, features=world.test.features[:, :-1]))


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_read_only_where_stated(name, world) -> None:
    detector = fitted(name, world)
    unlabelled = replace(world.train, labels=None)
    if detector.labelled:
        with pytest.raises(DataError, match="needs labels"):
            build(name).fit(unlabelled)
        with pytest.raises(DataError, match="labels in 0"):
            build(name).fit(replace(world.train, labels=world.train.labels + 1))
    else:
        same = fitted(name, world._replace(train=unlabelled))
        np.testing.assert_array_equal(same.score(world.ood), detector.score(world.ood))


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_is_an_error(name, world) -> None:
    with pytest.raises(DataError, match="at least one row"):
        fitted(name, world).score(world.test.take(slice(0, 0)))

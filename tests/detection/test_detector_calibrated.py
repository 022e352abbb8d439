"""Detectors on calibrated logits, as the runner hands them over: what temperature scaling may and may not move."""

from dataclasses import replace

import numpy as np
import pytest

from testbed import plugins
from testbed.calibration.isotonic import Isotonic
from testbed.calibration.matrix import Matrix
from testbed.calibration.temperature import Temperature
from testbed.calibration.vector import Vector
from testbed.errors import DataError
from testbed.metrics.ood import auroc
from testbed.runner.operations.fits import calibrated_logits


@pytest.fixture(scope="module")
def noisy(world):
    """The world's training outputs with a fifth of the labels wrong, so that a calibrator has something to do."""
    rng = np.random.default_rng(0)
    wrong = rng.random(len(world.train)) < 0.2
    return replace(world.train, labels=np.where(wrong, rng.integers(0, 5, len(world.train)), world.train.labels))


def through(calibrator, outputs):
    return replace(outputs, logits=calibrated_logits(calibrator, {}, outputs))


def measured(name, train, world):
    detector = plugins.read("detector", name).build().fit(train)
    return auroc(detector.score(world.test), detector.score(world.ood))


@pytest.mark.parametrize("kind", [Temperature, Vector, Matrix])
def test_a_calibrators_own_logits_give_its_probabilities(kind, noisy) -> None:
    calibrator = kind().fit(noisy.logits, noisy.labels)
    logits = calibrator.logits(noisy.logits)
    p = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), calibrator.probs(noisy.logits), atol=1e-12)


def test_temperature_leaves_maxlogit_and_knn_alone_and_moves_energy(world, noisy) -> None:
    calibrator = Temperature().fit(noisy.logits, noisy.labels)
    assert calibrator.state()["temperature"] > 1.2
    sets = world._replace(test=through(calibrator, world.test), ood=through(calibrator, world.ood))
    train = through(calibrator, world.train)
    for name in ("maxlogit", "mahalanobis", "knn"):
        assert measured(name, train, sets) == measured(name, world.train, world)
    for name in ("msp", "energy", "gen"):
        assert measured(name, train, sets) != measured(name, world.train, world)
    assert measured("vim", train, sets) == pytest.approx(measured("vim", world.train, world), abs=0.02)


def test_probabilities_alone_keep_the_free_energy_of_the_raw_logits(world, noisy) -> None:
    """Probabilities fix logits up to a constant an example: the energy stays, and softmax gives the probabilities."""
    calibrator = Isotonic().fit(noisy.logits, noisy.labels)
    seen = through(calibrator, world.test)
    p = np.exp(seen.logits - seen.logits.max(1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), calibrator.probs(world.test.logits), atol=1e-9)
    energy = plugins.read("detector", "energy").build()
    np.testing.assert_allclose(energy.score(seen), energy.score(world.test), atol=1e-5)


def test_vim_refuses_log_probabilities(world) -> None:
    """Their largest is below 0, so alpha would be negative and turn the residual round."""
    log_probs = world.train.logits - np.log(np.exp(world.train.logits).sum(1, keepdims=True)) - 0.1
    with pytest.raises(DataError, match="log-probabilities"):
        plugins.read("detector", "vim").build().fit(replace(world.train, logits=log_probs))

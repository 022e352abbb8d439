"""MSP, energy, Mahalanobis and KNN: hand values, plain-numpy oracles, and what they do on degenerate banks."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from testbed.detection.base import FitWarning
from testbed.detection.collect import Nearest
from testbed.detection.energy import Energy
from testbed.detection.knn import KNN
from testbed.detection.mahalanobis import Mahalanobis
from testbed.detection.msp import MSP
from testbed.detection.similarity import run_pass, side
from testbed.errors import DataError, UsageError
from testbed.types import Outputs


def nearest(bank, query, k):
    """Distances and bank rows of the k nearest, through the float32 search."""
    known, asked = side(bank), side(query)
    squares, rows = Nearest(k).search(asked.narrow @ known.narrow.T, known, asked.wide)
    assert (np.sqrt(squares) == run_pass(bank, query, [Nearest(k)])[0]).all()
    return np.sqrt(squares), rows


def logits_only(values) -> Outputs:
    return Outputs(np.asarray(values, dtype=np.float64))


def test_msp_is_one_minus_the_largest_probability(world) -> None:
    f = world.test.logits.astype(np.float64)
    p = np.exp(f) / np.exp(f).sum(1, keepdims=True)
    np.testing.assert_allclose(MSP().score(world.test), 1 - p.max(1), atol=1e-15)


def test_msp_keeps_the_order_of_saturated_examples() -> None:
    """Where max p rounds to 1 for both, the more confident example still scores lower."""
    scores = MSP().score(logits_only([[60.0, 0.0, 0.0], [50.0, 0.0, 0.0], [800.0, 0.0, 0.0]]))
    assert scores[2] < scores[0] < scores[1] < 1e-20


def test_energy_by_hand_and_at_huge_logits() -> None:
    np.testing.assert_allclose(Energy().score(logits_only([[0.0, np.log(3.0)]])), [-np.log(4.0)])
    np.testing.assert_allclose(Energy(temperature=2.0).score(logits_only([[0.0, 0.0]])), [-2 * np.log(2.0)])
    np.testing.assert_allclose(Energy().score(logits_only([[5000.0, 5000.0]])), [-5000 - np.log(2.0)])


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_must_be_positive(temperature) -> None:
    with pytest.raises(UsageError, match="temperature"):
        Energy(temperature=temperature)


def test_mahalanobis_is_the_textbook_formula(world) -> None:
    z, y = world.train.features.astype(np.float64), world.train.labels
    means = np.stack([z[y == c].mean(0) for c in range(5)])
    covariance = sum((z[y == c] - means[c]).T @ (z[y == c] - means[c]) for c in range(5)) / len(z)
    gaps = world.ood.features.astype(np.float64)[:, None] - means
    expected = np.einsum("ncd,de,nce->nc", gaps, np.linalg.inv(covariance), gaps).min(1)
    np.testing.assert_allclose(Mahalanobis().fit(world.train).score(world.ood), expected, rtol=1e-9)


def test_mahalanobis_is_invariant_to_linear_maps_and_offsets(world) -> None:
    rng = np.random.default_rng(0)
    matrix, offset = rng.normal(size=(16, 16)), 1e4 * rng.normal(size=16)

    def moved(outputs):
        return replace(outputs, features=outputs.features.astype(np.float64) @ matrix + offset)

    plain = Mahalanobis().fit(world.train).score(world.ood)
    np.testing.assert_allclose(Mahalanobis().fit(moved(world.train)).score(moved(world.ood)), plain, rtol=1e-5)


def test_mahalanobis_with_dead_and_copied_features_warns_and_equals_the_reduced_problem(world) -> None:
    def widened(outputs):
        z = outputs.features
        return replace(outputs, features=np.c_[z, np.zeros((len(z), 2)), z[:, :1]].astype(np.float32))

    with pytest.warns(FitWarning, match="3 of 19 directions"):
        wide = Mahalanobis().fit(widened(world.train))
    np.testing.assert_allclose(
        wide.score(widened(world.ood)), Mahalanobis().fit(world.train).score(world.ood), rtol=1e-6
    )


def test_mahalanobis_without_any_variance_is_an_error() -> None:
    flat = Outputs(np.zeros((4, 2)), np.ones((4, 3)), np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match="no variance"):
        Mahalanobis().fit(flat)


def test_mahalanobis_with_a_class_missing_warns_and_uses_the_others(world) -> None:
    rows = world.train.labels != 3
    with pytest.warns(FitWarning, match="class 3"):
        detector = Mahalanobis().fit(world.train.take(rows))
    assert detector.state()["means"].shape == (4, 16)
    far = detector.score(world.test.take(world.test.labels == 3))
    near = detector.score(world.test.take(world.test.labels != 3))
    assert far.min() > np.median(near)


def test_knn_is_the_brute_force_distance(world) -> None:
    unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
    bank, query = unit(world.train.features.astype(np.float64)), unit(world.ood.features.astype(np.float64))
    distances = np.sort(np.linalg.norm(query[:, None] - bank, axis=2), axis=1)
    for k in (1, 7, 400):
        np.testing.assert_allclose(KNN(k=k).fit(world.train).score(world.ood), distances[:, k - 1], atol=1e-12)


def test_knn_refuses_a_bank_smaller_than_k(world) -> None:
    with pytest.raises(DataError, match="k = 50 neighbours asked for"):
        KNN().fit(world.train.take(slice(0, 20)))
    with pytest.raises(UsageError, match="at least 1"):
        KNN(k=0)


def test_nearest_resolves_what_float32_cannot() -> None:
    """300 bank rows closer together than float32 products can tell: the float64 order is found all the same."""
    rng = np.random.default_rng(1)
    bank = np.r_[1 + 1e-6 * rng.normal(size=(300, 12)), rng.normal(size=(200, 12))]
    query = 1 + 1e-6 * rng.normal(size=(5, 12))
    unit = lambda z: z / np.linalg.norm(z, axis=1, keepdims=True)
    distances = np.linalg.norm(unit(query)[:, None] - unit(bank), axis=2)
    found, rows = nearest(bank, query, k=5)
    np.testing.assert_array_equal(rows, np.argsort(distances, axis=1)[:, :5])
    np.testing.assert_allclose(found, np.sort(distances, axis=1)[:, :5], rtol=1e-9)


def test_nearest_with_zero_rows_and_copies() -> None:
    bank = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    found, rows = nearest(bank, np.array([[2.0, 0.0], [0.0, 0.0], [-1.0, 1e-3]]), k=3)
    assert rows[0].tolist() == [0, 1, 2]
    assert found[0].tolist() == [0.0, 0.0, 1.0]
    assert found[1].tolist() == [0.0, 1.0, 1.0] and rows[1, 0] == 2
    assert rows[2, :2].tolist() == [3, 2]


def test_no_warning_on_a_sound_bank(world) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Mahalanobis().fit(world.train).score(world.test)


def test_gmm_that_would_not_fit_in_memory_is_refused(world, monkeypatch) -> None:
    from testbed.detection import gmm

    monkeypatch.setattr(gmm, "MOST_BYTES", 5 * 16 * 16 * 8 - 1)
    with pytest.raises(DataError, match="5 covariances of 16 x 16"):
        gmm.GMM().fit(world.train)

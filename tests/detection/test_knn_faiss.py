"""KNN through faiss: exact where every cell is looked into, never too small elsewhere, a clear error without faiss."""

import sys

import numpy as np
import pytest

from testbed.detection.knn import KNN
from testbed.detection.knn_faiss import KNNFaiss
from testbed.errors import DataError, MissingExtra
from testbed.types import Outputs


def outputs(n, seed, d=8):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(20, d))
    z = (centres[rng.integers(0, 20, n)] + 0.3 * rng.normal(size=(n, d))).astype(np.float32)
    return Outputs(np.zeros((n, 2), np.float32), z)


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss", reason="the extra faiss is not installed")


def test_every_cell_looked_into_is_the_exact_search(faiss) -> None:
    bank, query = outputs(3000, 1), outputs(200, 2)
    exact = KNN(k=10).fit(bank).score(query)
    np.testing.assert_allclose(KNNFaiss(k=10, probes=10_000).fit(bank).score(query), exact, rtol=1e-12)


def test_a_few_cells_give_nearly_the_same_and_never_less(faiss) -> None:
    bank, query = outputs(20_000, 3), outputs(300, 4)
    exact, found = KNN(k=10).fit(bank).score(query), KNNFaiss(k=10).fit(bank).score(query)
    assert (found >= exact - 1e-12).all()
    assert np.mean(np.isclose(found, exact)) > 0.9


def test_state_travels_as_arrays_and_scores_are_the_same_again(faiss) -> None:
    bank, query = outputs(2000, 5), outputs(50, 6)
    fitted = KNNFaiss(k=5).fit(bank)
    again = KNNFaiss(k=5).fit(bank)
    assert all(isinstance(v, np.ndarray) for v in fitted.state().values())
    assert np.array_equal(KNNFaiss(k=5).restore(fitted.state()).score(query), again.score(query))


def test_a_bank_in_few_cells_still_has_its_k_neighbours(faiss) -> None:
    bank, query = outputs(60, 7), outputs(20, 8)
    exact = KNN(k=50).fit(bank).score(query)
    np.testing.assert_allclose(KNNFaiss(k=50, lists=30, probes=1).fit(bank).score(query), exact, rtol=1e-12)
    with pytest.raises(DataError, match="the bank has 60 rows"):
        KNNFaiss(k=61).fit(bank)


def test_without_faiss_the_pip_line_is_given(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match="pip install faiss-cpu"):
        KNNFaiss().fit(outputs(100, 9))

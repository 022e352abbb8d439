"""Every detector against pytorch-ood 0.4.0 (stored float64 scores) or, where it has none, against the plain formula.

The stored file is made by tests/golden/make_detection_pytorch_ood.py. `PAIRS` says, a detector: our parameters, and how
our score becomes theirs (they divide by constants, take p_unknown itself, or regularise by 1e-6).
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

from testbed import plugins
from testbed.detection.base import FitWarning
from testbed.detection.cfood import GRID
from testbed.types import Outputs

FILE = Path(__file__).parents[1] / "golden" / "detection_pytorch_ood.npz"
N, K = 120, 4


def same(score):
    return score


#: stored name -> (detector, parameters, our score -> theirs, largest relative difference allowed)
PAIRS = {
    "msp": ("msp", {}, lambda s: s - 1, 1e-12),
    "maxlogit": ("maxlogit", {}, same, 1e-12),
    "energy": ("energy", {}, same, 1e-12),
    "energy_t2": ("energy", {"temperature": 2.0}, same, 1e-12),
    "entropy": ("entropy", {}, same, 1e-5),  # theirs clips p at 1e-7
    "gen": ("gen", {}, lambda s: s / K, 1e-12),
    "weighted_energy": ("weighted_energy", {"weights": (1.0, 0.5, 2.0, -1.0)}, same, 1e-12),
    "mcm": ("mcm", {"temperature": 0.5}, lambda s: s - 1, 1e-12),
    "klm": ("klm", {}, same, 1e-10),
    "openmax": ("openmax", {}, lambda s: 1 / (1 + np.exp(-s)), 2e-4),  # theirs fits by Nelder-Mead
    "mahalanobis": ("mahalanobis", {}, lambda s: s / (2 * N), 1e-6),
    "rmds": ("rmds", {}, lambda s: s / N, 1e-5),
    "gmm": ("gmm", {}, same, 1e-10),
    "knn": ("knn", {"k": 7}, same, 1e-12),
    "vim": ("vim", {"dim": 5}, same, 1e-10),
    "react": ("react", {}, same, 1e-12),
    "dice": ("dice", {"percentile": 70.0}, same, 1e-12),
    "ash_p": ("ash_p", {"percentile": 65.0}, same, 1e-12),
    "ash_b": ("ash_b", {"percentile": 65.0}, same, 1e-12),
    "ash_s": ("ash_s", {"percentile": 65.0}, same, 1e-12),
    "scale": ("scale", {"percentile": 65.0}, same, 1e-12),
    "lts": ("lts", {"top": 20.0}, same, 1e-12),
    "she": ("she", {}, same, 1e-12),
    "nnguide": ("nnguide", {"k": 10, "share": 1.0}, same, 1e-12),
    "fdbd": ("fdbd", {}, same, 1e-12),
    "nci": ("nci", {"alpha": 0.01}, same, 1e-12),
    "pnml": ("pnml", {}, same, 1e-9),
    "gradnorm": ("gradnorm", {}, lambda s: s / K, 1e-12),
    "grad_uncertainty": ("grad_uncertainty", {}, same, 1e-12),
}


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(FILE, allow_pickle=False))


@pytest.fixture(scope="module")
def sets(stored):
    """(bank, query) as Outputs in float64."""
    weight, bias = stored["weight"], stored["bias"]

    def outputs(z, labels=None):
        return Outputs(z @ weight.T + bias, z, labels, None, weight, bias)

    return outputs(stored["bank"], stored["labels"]), outputs(stored["query"])


def scores_of(name, parameters, bank, query):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return plugins.read("detector", name).build(**parameters).fit(bank).score(query)


def test_every_stored_score_is_compared(stored) -> None:
    assert {name.removeprefix("score_") for name in stored if name.startswith("score_")} == set(PAIRS)


@pytest.mark.parametrize("stored_name", PAIRS)
def test_agrees_with_pytorch_ood(stored_name, stored, sets) -> None:
    name, parameters, theirs, allowed = PAIRS[stored_name]
    expected = stored[f"score_{stored_name}"]
    ours = theirs(scores_of(name, parameters, *sets))
    assert np.abs(ours - expected).max() <= allowed * np.abs(expected).max()


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def softmax(f):
    e = np.exp(f - f.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_vra_is_the_energy_of_clipped_features(sets) -> None:
    bank, query = sets
    low, high = np.percentile(bank.features, [20, 85])
    f = np.clip(query.features, low, high) @ query.head_weight.T + query.head_bias
    expected = -np.log(np.exp(f).sum(1))
    np.testing.assert_allclose(scores_of("vra", {"high": 85.0, "low": 20.0}, bank, query), expected, rtol=1e-12)


def test_residual_is_the_norm_outside_the_principal_subspace(sets) -> None:
    bank, query = sets
    origin = -np.linalg.pinv(query.head_weight) @ query.head_bias
    centred = bank.features - origin
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    minor = right[6:]
    expected = np.linalg.norm((query.features - origin) @ minor.T, axis=1)
    np.testing.assert_allclose(scores_of("residual", {"dim": 6}, bank, query), expected, rtol=1e-9)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_relation_is_the_plain_double_sum(power, sets) -> None:
    bank, query = sets
    edges = np.maximum(unit(query.features) @ unit(bank.features).T, 0) * (
        softmax(query.logits) @ softmax(bank.logits).T
    )
    expected = -np.where(edges > 0.1, edges**power, 0).sum(1)
    parameters = {"power": power, "threshold": 0.1}
    np.testing.assert_allclose(scores_of("relation", parameters, bank, query), expected, rtol=2e-6)


def test_relation_decides_edges_at_the_threshold_exactly(sets) -> None:
    """Query and bank are copies with equal predictions: edges are exactly 1 x 1 and must not pass a threshold of 1."""
    z = np.tile([[0.3, 0.4]], (50, 1))
    same_set = Outputs(np.tile([[2000.0, 0.0]], (50, 1)), z)
    below = scores_of("relation", {"threshold": 1 - 1e-12}, same_set, same_set)
    np.testing.assert_allclose(below, -50.0)


def cfood_by_definition(bank, query, share):
    m = len(bank)
    places = (GRID * m - 1).astype(int)
    between = np.linalg.norm(bank[:, None] - bank, axis=2)
    own = np.sort(between + np.where(np.eye(m) > 0, -1.0, 0.0), axis=1)[:, 1:]
    reach = np.linalg.norm(query[:, None] - bank, axis=2)
    out = np.ones(len(query))
    for level in range(len(GRID) - 1, -1, -1):
        held = (reach <= own[:, places[level]] + 1e-12).mean(1) >= share
        out[held] = GRID[np.flatnonzero(places == places[level])[0]]
    return out


def test_cfood_is_the_definition(sets) -> None:
    bank, query = sets
    for share in (0.01, 0.1, 0.6):
        expected = cfood_by_definition(unit(bank.features), unit(query.features), share)
        np.testing.assert_array_equal(scores_of("cfood", {"alpha": 1.0, "k": share}, bank, query), expected)


def test_cop_is_what_pca_does_not_reconstruct(sets) -> None:
    from sklearn.decomposition import PCA

    bank, query = sets
    pca = PCA(n_components=0.85, svd_solver="full").fit(unit(bank.features))
    z = unit(query.features)
    expected = np.linalg.norm(z - pca.inverse_transform(pca.transform(z)), axis=1)
    np.testing.assert_allclose(scores_of("cop", {}, bank, query), expected, rtol=1e-9)


def test_corp_maps_to_features_whose_products_are_the_gaussian_kernel(sets) -> None:
    from testbed.detection.kernel_pca import fourier, random_basis

    z = unit(sets[1].features)
    mapped = fourier(z, random_basis(z.shape[1], 20000, gamma=2.0, seed=0))
    gaps = ((z[:, None] - z) ** 2).sum(2)
    np.testing.assert_allclose(mapped @ mapped.T, np.exp(-2.0 * gaps), atol=0.04)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_corp_is_pca_of_those_features(sets) -> None:
    from sklearn.decomposition import PCA

    from testbed.detection.kernel_pca import CoRP, fourier

    bank, query = sets
    detector = CoRP().fit(bank)
    state = detector.state()
    assert state["phases"].shape == (40,)
    pca = PCA(n_components=0.8, svd_solver="full").fit(fourier(unit(bank.features), state))
    z = fourier(unit(query.features), state)
    expected = np.linalg.norm(z - pca.inverse_transform(pca.transform(z)), axis=1)
    np.testing.assert_allclose(detector.score(query), expected, rtol=1e-9)


def test_tempscale_finds_the_minimum_of_the_nll(sets) -> None:
    from scipy.optimize import minimize_scalar

    bank, query = sets
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(N) < 0.3, rng.integers(0, K, N), bank.labels)

    def nll(log_t):
        p = softmax(bank.logits / np.exp(log_t))
        return -np.log(p[np.arange(N), noisy]).mean()

    best = np.exp(minimize_scalar(nll, bracket=(-1, 1), tol=1e-12).x)
    ours = scores_of("tempscale", {}, Outputs(bank.logits, labels=noisy), query)
    np.testing.assert_allclose(ours, 1 - softmax(query.logits / best).max(1), atol=1e-6)


def test_weibull_fit_agrees_with_scipy() -> None:
    from scipy.stats import weibull_min

    from testbed.detection.openmax import fit_weibull

    values = np.random.default_rng(1).gamma(3.0, 2.0, 50)
    shape, _, scale = weibull_min.fit(values, floc=0)
    assert fit_weibull(values) == pytest.approx((shape, scale), rel=1e-4)

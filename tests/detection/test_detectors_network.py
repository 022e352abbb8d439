"""Detectors that run the network: against numpy where the network is simple, and against their definitions."""

from dataclasses import replace

import numpy as np
import pytest

from testbed import plugins
from testbed.detection.adascale import AdaSCALE
from testbed.detection.gram import Gram, deviation
from testbed.detection.mahalanobis import Mahalanobis
from testbed.detection.mahalanobis_network import MahalanobisLayers, MahalanobisODIN, children, spatial_means
from testbed.detection.mc_dropout import MCDropout, spread
from testbed.detection.nac import NAC
from testbed.detection.odin import ODIN
from testbed.detection.rankfeat import RankFeat, without_rank_one
from testbed.detection.shaping import LTS, SCALE
from testbed.errors import DataError, UsageError
from testbed.metrics.ood import auroc
from testbed.types import Outputs, Paper, Spec

torch = pytest.importorskip("torch")
Classifier = pytest.importorskip("testbed.models.classifier").Classifier

SPEC = Spec("image", (8, 8, 1), classes=3)
NAMES = sorted(
    name for name in plugins.installed("detector") if "inputs" in plugins.read("detector", name).facts["consumes"]
)


@pytest.fixture(scope="module")
def network():
    """A small convolutional net with a dropout layer, trained for a few steps to tell three bar patterns apart."""
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.ReLU())
    deep = torch.nn.Sequential(torch.nn.Conv2d(6, 8, 3, stride=2, padding=1), torch.nn.ReLU())
    net = torch.nn.Sequential(
        body, deep, torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 3)
    )
    x, y = bars(0, 300)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), torch.from_numpy(y)).backward()
        optimiser.step()
    return Classifier(net, spec=SPEC)


def bars(seed, n):
    """Noisy images of one bright bar: horizontal, vertical, or diagonal."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    patterns = np.zeros((3, 8, 8))
    patterns[0, 3:5], patterns[1, :, 3:5], patterns[2] = 1, 1, np.eye(8)
    x = np.clip(0.8 * patterns[y] + rng.normal(0.1, 0.08, (n, 8, 8)), 0, 1)
    return torch.from_numpy(x[:, None].astype(np.float32)), y


def noise(n):
    return torch.from_numpy(np.random.default_rng(9).uniform(size=(n, 1, 8, 8)).astype(np.float32))


def fitted(name, network):
    detector = plugins.read("detector", name).build()
    x, y = bars(1, 300)
    return detector.fit_network(network, x, y)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, network) -> None:
    """Orientation, shape, batches, determinism, state round trip, a network left as it was, and the stated facts."""
    detector = fitted(name, network)
    x, _ = bars(2, 70)
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    inside, outside = detector.score_network(network, x), detector.score_network(network, noise(70))
    assert inside.shape == (70,) and inside.dtype == np.float64 and np.isfinite(inside).all()
    assert auroc(inside, outside) > 0.6
    np.testing.assert_array_equal(detector.score_network(network, x), inside)
    if name != "mc_dropout":
        np.testing.assert_allclose(detector.score_network(network, x, batch=17), inside, rtol=1e-3, atol=1e-6)
    again = plugins.read("detector", name).build().restore(detector.state())
    np.testing.assert_array_equal(again.score_network(network, x), inside)
    assert all(isinstance(v, (bool, int, float, str, np.ndarray)) for v in detector.state().values())
    assert all((before[key] == value).all() for key, value in network.module.state_dict().items())
    assert not any(m.training for m in network.module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.module.modules())
    facts = plugins.read("detector", name).facts
    assert isinstance(facts["reference"], Paper) and detector.passes["forward"] >= 1


@pytest.mark.parametrize("name", NAMES)
def test_errors(name, network) -> None:
    detector = plugins.read("detector", name).build()
    x, y = bars(1, 30)
    with pytest.raises(UsageError, match="reads inputs"):
        fitted(name, network).score(Outputs(np.zeros((2, 3))))
    with pytest.raises(UsageError, match="reads inputs"):
        detector.fit(Outputs(np.zeros((2, 3))))
    with pytest.raises(DataError, match="at least one example"):
        fitted(name, network).score_network(network, x[:0])
    if detector.fitted_on:
        with pytest.raises(UsageError, match="not fitted"):
            detector.score_network(network, x)
    if detector.labelled:
        with pytest.raises(DataError, match="one label"):
            detector.fit_network(network, x, y[:-1])


def test_odin_on_a_linear_network_is_closed_form() -> None:
    """Gradient of -log p_y for logits W x: sum_c p_c w_c - w_y, so the step is known."""
    weight = np.random.default_rng(0).normal(size=(3, 64))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(weight))
    x = np.random.default_rng(1).uniform(size=(10, 1, 8, 8))
    flat = x.reshape(10, -1)
    p = np.exp(flat @ weight.T / 10)
    p /= p.sum(1, keepdims=True)
    step = np.sign(p @ weight - weight[p.argmax(1)])
    moved = (flat - 0.01 * step) @ weight.T / 10
    expected = 1 - np.exp(moved).max(1) / np.exp(moved).sum(1)

    class Bare:
        module = net

        def logits(self, z):
            return net(z)

    ours = ODIN(temperature=10.0, eps=0.01).score_network(Bare(), torch.from_numpy(x))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_mahalanobis_without_a_step_is_mahalanobis(network) -> None:
    x, y = bars(3, 200)
    logits, features = (t.numpy() for t in network.outputs(x))
    plain = Mahalanobis().fit(Outputs(logits, features, y)).score(Outputs(logits, features))
    still = MahalanobisODIN(eps=0.0).fit_network(network, x, y)
    np.testing.assert_allclose(still.score_network(network, x), plain, rtol=1e-5)
    stepped = MahalanobisODIN(eps=0.002).fit_network(network, x, y).score_network(network, x)
    assert (stepped < plain).mean() > 0.95


def test_mahalanobis_layers_is_the_weighted_sum(network) -> None:
    x, y = bars(4, 200)
    layers = children(network, x)
    assert layers == ["0", "1", "2"]
    found = MahalanobisLayers(weights=(1.0, 0.0, 2.0)).fit_network(network, x, y).score_network(network, x)
    total = np.zeros(200)
    for means, weight in zip(spatial_means(network, x, layers, 64), (1.0, 0.0, 2.0), strict=True):
        data = Outputs(np.zeros((200, 3)), means, y)
        total += weight * Mahalanobis().fit(data).score(data)
    np.testing.assert_allclose(found, total, rtol=1e-5)
    with pytest.raises(DataError, match="2 weights for 3 layers"):
        MahalanobisLayers(weights=(1.0, 1.0)).fit_network(network, x, y)


def test_rank_one_removal_is_numpys_svd() -> None:
    maps = np.random.default_rng(5).normal(size=(4, 6, 3, 3))
    left, values, right = np.linalg.svd(maps.reshape(4, 6, 9), full_matrices=False)
    values[:, 0] = 0
    expected = (left * values[:, None]) @ right
    np.testing.assert_allclose(without_rank_one(torch.from_numpy(maps)).numpy().reshape(4, 6, 9), expected, atol=1e-12)


def test_rankfeat_is_the_energy_behind_the_changed_map(network) -> None:
    x, _ = bars(6, 20)
    with torch.no_grad():
        changed = without_rank_one(network.module[:2](x))
        logits = network.module[2:](changed).double()
    ours = RankFeat(layer="1").score_network(network, x)
    np.testing.assert_allclose(ours, -logits.logsumexp(1).numpy(), rtol=1e-6)
    with pytest.raises(UsageError, match="no such module"):
        RankFeat(layer="9").score_network(network, x)


def test_gram_statistics_and_ranges_by_definition(network) -> None:
    x, y = bars(7, 120)
    detector = Gram(layers=("0", "1"), orders=(1, 3)).fit_network(network, x, y)
    state = detector.state()
    query, _ = bars(8, 15)
    with torch.no_grad():
        maps = [network.module[:1](query).double().numpy(), network.module[:2](query).double().numpy()]
        predicted = network.logits(query).argmax(1).numpy()
    expected = np.zeros(15)
    for i, layer in enumerate(maps):
        flat = layer.reshape(15, layer.shape[1], -1)
        sums = [np.einsum("nap,nbp->na", flat**p, flat**p) for p in (1, 3)]
        values = np.concatenate([np.cbrt(s) if p == 3 else s for s, p in zip(sums, (1, 3), strict=True)], axis=1)
        low, high = state[f"low{i}"][predicted], state[f"high{i}"][predicted]
        expected += deviation(values, low, high) / state[f"expected{i}"]
    np.testing.assert_allclose(detector.score_network(network, query), expected, rtol=1e-9, atol=1e-12)
    inside = [detector.score_network(network, x[y == c]) for c in range(3)]
    assert np.median(np.concatenate(inside)) == pytest.approx(0.0, abs=0.2)


def test_gram_with_a_class_missing_is_an_error(network) -> None:
    x, y = bars(7, 60)
    with pytest.raises(DataError, match="class 1"):
        Gram().fit_network(network, x[y != 1], y[y != 1])


@pytest.mark.parametrize("scales", ["features", "logits"])
def test_adascale_with_one_percentile_is_scale_or_lts(scales, network) -> None:
    """With low = high nothing adapts: the scores are SCALE's, or LTS's, at that percentile."""
    x, _ = bars(3, 60)
    logits, features = (t.double().numpy() for t in network.outputs(x))
    weight, bias = network.head()
    given = Outputs(logits, features, head_weight=weight, head_bias=bias)
    other = SCALE(percentile=75.0) if scales == "features" else LTS(top=25.0)
    ours = AdaSCALE(low=75.0, high=75.0, scales=scales).fit_network(network, x).score_network(network, x)
    np.testing.assert_allclose(ours, other.score(given), rtol=1e-5)


def test_adascale_gives_less_stable_examples_a_smaller_percentile(network) -> None:
    x, _ = bars(3, 60)
    detector = AdaSCALE().fit_network(network, x)
    state = detector.state()
    assert (np.diff(state["sorted"]) >= 0).all() and len(state["sorted"]) == 60
    narrow, wide = (replace(detector, low=low, high=85.0).restore(state) for low in (85.0, 75.0))
    gap = wide.score_network(network, x) - narrow.score_network(network, x)
    top = np.argsort(detector._shift(network, x)[1])[-1]
    assert gap[top] > 0


def test_nac_covers_what_it_has_seen(network) -> None:
    x, _ = bars(3, 80)
    detector = NAC(layers=("0", "1"), enough=1, bins=10).fit_network(network, x)
    np.testing.assert_allclose(detector.score_network(network, x), -2.0)
    assert detector.state()["counts0"].shape == (6, 10) and (detector.state()["counts0"].sum(axis=1) == 80).all()


def test_nac_states_are_the_gradient_of_the_divergence(network) -> None:
    """On the map of layer 1 by a second route: the rest of the network alone, differentiated at the map."""
    x, _ = bars(5, 8)
    with torch.no_grad():
        maps = network.module[:2](x)
    maps.requires_grad_()
    loss = -network.module[2:](maps).log_softmax(1).mean(1).sum()
    (slope,) = torch.autograd.grad(loss, maps)
    expected = torch.sigmoid(100 * (maps * slope).double().flatten(2).mean(2)).detach().numpy()
    np.testing.assert_allclose(NAC()._states(network, x, ["1"])[0], expected, rtol=1e-5)


def test_mc_dropout_measures(network) -> None:
    p = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    assert spread(p, "mean") == pytest.approx([0.3])
    assert spread(p, "variance") == pytest.approx([0.08])
    entropy = lambda q: -(q * np.log(q)).sum()
    assert spread(p, "mutual_information") == pytest.approx(
        [entropy(np.array([0.7, 0.3])) - 0.5 * (entropy(p[0]) + entropy(p[1]))]
    )
    x, _ = bars(2, 10)
    first, second = (MCDropout(seed=s).score_network(network, x) for s in (0, 1))
    assert (first != second).any()
    state = torch.get_rng_state()
    MCDropout().score_network(network, x)
    assert (torch.get_rng_state() == state).all()


def test_mc_dropout_without_dropout_is_an_error() -> None:
    plain = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), spec=replace(SPEC))
    with pytest.raises(DataError, match="no dropout module"):
        MCDropout().score_network(plain, noise(2))

"""C&W, EAD, DDN and DeepFool: steps by hand, foolbox's distances on real nets, and that examples are on their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks.carlini_wagner import CW
from testbed_attacks.closest import Closest
from testbed_attacks.ddn import DDN
from testbed_attacks.deepfool import DeepFool
from testbed_attacks.ead import EAD
from testbed_attacks.tradeoff import bisect

import testbed
from testbed.perturb.victim import Victim

SHORT = {"steps": 150, "binary_search_steps": 4, "initial_const": 1.0}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("cw", "l2", SHORT),
    ("ead", "l1", SHORT),
    ("ddn", "l2", {"steps": 60}),
    ("deepfool", "l2", {}),
    ("deepfool", "linf", {}),
]
EACH = pytest.mark.parametrize(("name", "norm", "params"), CASES, ids=lambda v: v if isinstance(v, str) else "")


class Affine(torch.nn.Module):
    """Logits W x + b of flat inputs, and the inputs it was asked about."""

    def __init__(self, weight: list[list[float]], bias: list[float]) -> None:
        super().__init__()
        self.weight, self.bias = torch.tensor(weight), torch.tensor(bias)
        self.seen: list[list[float]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach()[0].tolist())
        return x @ self.weight.T + self.bias


def smooth(classes: int = 4) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A small smooth net, 60 inputs of it and what it says of them."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Tanh(), torch.nn.Linear(20, classes)).eval()
    x = torch.rand(60, 30)
    return model, x, model(x).argmax(1)


HERE, ZERO = torch.tensor([[0.5, 0.5]]), torch.tensor([0])


@pytest.mark.verifies("deepfool", by="hand", against="(1 + overshoot) |f| / |w|_q on affine models, nearest of three")
@pytest.mark.parametrize(("norm", "moved"), [("l2", [0.12, 0.16]), ("linf", [1 / 7, 1 / 7])])
def test_deepfool_crosses_a_plane_in_one_step(norm: str, moved: list[float]) -> None:
    model = Affine([[3.0, 4.0], [0.0, 0.0]], [-2.5, 0.0])  # f = 1, w = (3, 4)
    out = testbed.attack("deepfool", norm=norm, overshoot=0.1).run(model, HERE, ZERO)
    torch.testing.assert_close(out.x, HERE - 1.1 * torch.tensor([moved]))
    assert out.success.all() and out.first_step.tolist() == [2] and out.gradients.tolist() == [2]


@pytest.mark.parametrize(("candidates", "moved"), [(2, [0.102, 0.0]), (3, [0.0, 0.0204])])
def test_deepfool_takes_the_nearest_boundary_not_the_likeliest_class(candidates: int, moved: list[float]) -> None:
    model = Affine([[0.0, 0.0], [1.0, 0.0], [0.0, 10.0]], [0.0, -0.6, -5.2])  # 0.1 and 0.02 away
    out = testbed.attack("deepfool", norm="l2", candidates=candidates)(model, HERE, ZERO)
    torch.testing.assert_close(out, HERE + torch.tensor([moved]))


def test_deepfool_leaves_a_tie() -> None:
    model = Affine([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])  # equal logits, said to be class 0
    out = testbed.attack("deepfool", norm="l2").run(model, HERE, ZERO)
    assert out.success.all() and 0 < out.distance < 2e-4


@pytest.mark.verifies("ddn", by="hand", against="the radii (1 +- gamma) r along a linear model's gradient")
def test_the_radii_of_ddn_by_hand() -> None:
    model = Affine([[3.0, 4.0], [0.0, 0.0]], [-2.5, 0.0])  # the boundary is 0.2 away
    out = testbed.attack("ddn", steps=4, init_epsilon=0.1, gamma=0.5).run(model, HERE, ZERO)
    gone = (HERE - torch.tensor(model.seen[1:6])) @ torch.tensor([0.6, 0.8])  # the runner asks first
    np.testing.assert_allclose(gone, [0.0, 0.15, 0.225, 0.1125, 0.16875], atol=1e-6)
    assert out.distance == pytest.approx(0.225, abs=1e-6) and out.queries.tolist() == [5]


def test_ddn_follows_a_saturated_softmax_and_keeps_to_a_grid() -> None:
    model = Affine([[3e4, 4e4], [0.0, 0.0]], [-2.5e4, 0.0])  # cross-entropy has no gradient here in float32
    out = testbed.attack("ddn", steps=200).run(model, HERE, ZERO)
    assert out.distance == pytest.approx(0.2, rel=0.02) and not out.flags.any()
    out = testbed.attack("ddn", steps=50, levels=11).run(model, HERE, ZERO)
    assert out.success.all()
    torch.testing.assert_close(10 * out.x, (10 * out.x).round())


@pytest.mark.verifies("cw", "ead", by="hand", against="c after each round of a bisection whose threshold is known")
def test_the_bisection_of_c_by_hand() -> None:
    # the first example is fooled from c = 0.3 on, the second by nothing
    closest = Closest(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), None, "l2")
    tried: list[list[float]] = []

    def run(rows: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        tried.append(c.tolist())
        return (c >= 0.3) & (rows == 0)

    bisect(closest, 0.001, 10, run)
    first = [0.001, 0.01, 0.1, 1.0, 0.55, 0.325, 0.2125, 0.26875, 0.296875, 0.325]  # the last: the smallest that fooled
    np.testing.assert_allclose(tried, np.stack([first, 10.0 ** np.arange(-3, 7)], axis=1), rtol=1e-6)


@pytest.mark.verifies(
    "cw", by="hand", against="Adam's first step in tanh space; min d^2 + c (D - d), fooled for c > 2 D"
)
def test_cw_by_hand() -> None:
    # lead = d - 0.2 along the first value, so the best d is min(c / 2, 0.2)
    model = Affine([[1.0, 0.0], [0.0, 0.0]], [-0.3, 0.0])
    one = {"binary_search_steps": 1, "steps": 300, "stepsize": 0.005}
    below = testbed.attack("cw", initial_const=0.3, **one).run(model, HERE, ZERO)
    assert not below.success.any() and below.distance == pytest.approx(0.15, abs=0.01)
    assert model.seen[2] == pytest.approx([0.5 - 0.5 * np.tanh(0.005), 0.5], abs=1e-6)
    above = testbed.attack("cw", initial_const=0.5, **one).run(model, HERE, ZERO)
    assert above.success.all() and above.distance == pytest.approx(0.2, abs=1e-3)
    sure = testbed.attack("cw", initial_const=0.8, confidence=0.1, **one).run(model, HERE, ZERO)
    assert sure.distance == pytest.approx(0.3, abs=1e-3) and sure.margin == pytest.approx(-0.1, abs=1e-3)


@pytest.mark.verifies("ead", by="hand", against="three steps of FISTA with a shrinkage of 0.01, worked out by hand")
def test_ead_by_hand() -> None:
    # G = 2 (y - x) + (3, 0.5) where c = 1; a = 0.01, 0.01 sqrt(2/3), 0.01 sqrt(1/3). The second value moves by 0.005,
    # less than it is shrunk by. Models are asked at y_0, x_1, y_1 = x_1, x_2, y_2 = x_2 + (x_2 - x_1) / 4, x_3
    model = Affine([[3.0, 0.5], [0.0, 0.0]], [10.0, 0.0])
    testbed.attack("ead", steps=3, binary_search_steps=1, initial_const=1.0).run(model, HERE, ZERO)
    d1 = 0.03 - 0.01
    d2 = d1 + 0.0081650 * (3 - 2 * d1) - 0.01
    y2 = d2 + (d2 - d1) / 4
    d3 = y2 + 0.0057735 * (3 - 2 * y2) - 0.01
    seen = 0.5 - torch.tensor(model.seen[1:7])
    np.testing.assert_allclose(seen[:, 0], [0.0, d1, d1, d2, y2, d3], atol=1e-6)
    np.testing.assert_allclose(seen[:, 1], 0.0, atol=1e-6)


def test_the_decision_rule_of_ead() -> None:
    model, x, y = smooth()
    runs = {rule: testbed.attack("ead", decision_rule=rule, **SHORT).run(model, x, y) for rule in ("EN", "L1")}
    size = lambda out, order: torch.linalg.vector_norm(out.x - x, ord=order, dim=1).numpy()
    elastic = {rule: 0.01 * size(out, 1) + size(out, 2) ** 2 for rule, out in runs.items()}
    assert (size(runs["L1"], 1) <= size(runs["EN"], 1) + 1e-6).all() and (elastic["EN"] <= elastic["L1"] + 1e-6).all()
    assert (runs["L1"].x != runs["EN"].x).any()


class Deaf(torch.nn.Module):
    """The smooth net, but flat where the first value is above 0.99."""

    def __init__(self) -> None:
        super().__init__()
        self.net = smooth()[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.eye(4)[torch.zeros(len(x), dtype=torch.long)]
        return torch.where(x[:, :1] > 0.99, flat + 0 * x[:, :1], self.net(x))


@EACH
def test_an_example_that_is_never_fooled_costs_the_others_nothing(name: str, norm: str, params: dict[str, Any]) -> None:
    model, (_, x, y) = Deaf().eval(), smooth()
    x, y = x.clone(), y.clone()
    x[::3, 0], y[::3] = 1.0, 0
    x[1::3, 0], x[2::3, 0] = 0.5, 0.5
    y = torch.where(x[:, 0] > 0.99, y, model(x).argmax(1))
    rest = np.flatnonzero(x[:, 0].numpy() < 0.9)
    attack = testbed.attack(name, norm=norm, **params)
    whole, part = attack.run(model, x, y), attack.run(model, x[rest], y[rest], ids=rest)
    assert not whole.success[::3].any() and whole.success[rest].mean() > 0.9
    torch.testing.assert_close(part.x, whole.x[rest], atol=1e-4, rtol=0)
    assert (part.gradients == whole.gradients[rest]).all()


def test_runs_without_progress_end_for_their_example_alone() -> None:
    model, (_, x, _) = Deaf().eval(), smooth()
    x = x.clone()
    x[:, 0] = 0.5
    x[0, 0] = 1.0
    y = model(x).argmax(1)
    for name in ("cw", "ead"):
        out = testbed.attack(name, abort_early=True, **SHORT).run(model, x, y)
        assert out.gradients[0] == 4 * 16, "four rounds that end at a tenth of 150 steps"
        assert out.gradients[1:].mean() > 1.5 * 4 * 16 and out.success[1:].all()


@EACH
def test_within_a_budget_it_stops_at_the_first_image_inside(name: str, norm: str, params: dict[str, Any]) -> None:
    model, x, y = smooth()
    free = testbed.attack(name, norm=norm, **params).run(model, x, y)
    eps = float(np.median(free.distance))
    held = testbed.attack(name, norm=norm, eps=eps, **params).run(model, x, y)
    near = free.success & (free.distance <= eps)
    assert (held.success[near]).all() and 0 < held.success.mean() < 1
    assert (held.distance <= eps * (1 + 1e-5)).all() and held.x.min() >= 0 and held.x.max() <= 1
    if name != "deepfool":
        assert held.queries[near].mean() < 0.7 * free.queries[near].mean()


@EACH
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(name: str, norm: str, params: dict[str, Any], classes: int) -> None:
    model, x, y = smooth(classes)
    out = testbed.attack(name, norm=norm, **params).run(model, x, y)
    assert out.success.mean() > 0.9
    assert ((model(out.x).argmax(1) != y).numpy() == out.success).all()


@pytest.mark.parametrize(("name", "norm", "params"), CASES[:3], ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("target", ["second", "least", "random"])
def test_targets_are_reached(name: str, norm: str, params: dict[str, Any], target: str) -> None:
    model, x, y = smooth()
    ids = np.arange(60) + 7
    out = testbed.attack(name, norm=norm, target=target, **params).run(model, x, y, ids=ids)
    some = testbed.attack(name, norm=norm, target=target, batch=5, **params).run(model, x[9:17], y[9:17], ids=ids[9:17])
    assert out.audit["targets_reached"] > 40
    torch.testing.assert_close(some.x, out.x[9:17], atol=1e-4, rtol=0)
    if target != "random":
        ranked = model(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
        wanted = ranked[:, 0 if target == "second" else 2]
        assert int((model(out.x).argmax(1) == wanted).sum()) == out.audit["targets_reached"]


@pytest.mark.parametrize("attack", [CW(**SHORT), EAD(**SHORT), DDN(steps=30), DeepFool(), DeepFool(norm="linf")])
def test_what_is_called_found_fools(attack: Any) -> None:
    model, x, y = smooth()
    victim = Victim(model, ids=range(60), labels=y, batch=16)
    found = attack(victim, x, y, rng=None)
    first = victim.counts.first_wrong if found.first_step is None else found.first_step
    assert ((model(found.x).argmax(1) != y) == (first > 0)).all() and (first > 0).float().mean() > 0.9
    assert found.x.min() >= 0 and found.x.max() <= 1


def test_features_have_bounds_of_their_own() -> None:
    model, x, _ = smooth()
    bounds = [(0.5, 0.5), (-2.0, 3.0), *[(0.0, 1.0)] * 28]  # the first feature has no room
    x = x.clone()
    x[:, 0] = 0.5
    y = model(x).argmax(1)
    for name, norm, params in CASES:
        out = testbed.attack(name, norm=norm, bounds=bounds, **params).run(model, x, y)
        assert (out.x[:, 0] == 0.5).all() and out.success.mean() > 0.9


def test_bad_settings_are_refused() -> None:
    for kind, bad in (
        (CW, {"steps": 0}), (CW, {"confidence": -1.0}), (EAD, {"initial_const": 0.0}), (EAD, {"regularization": -0.1}),
        (DDN, {"gamma": 1.0}), (DDN, {"levels": 1}), (DeepFool, {"candidates": 1}), (DeepFool, {"overshoot": -0.1}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            kind(**bad)


@pytest.fixture(scope="module", params=["kw", "cnn_a"])
def real(request: pytest.FixtureRequest, subject: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    return subject(request.param, 30)


FOOLBOX = [
    ("cw", "l2", "L2CarliniWagnerAttack", 6, {"steps": 200, "binary_search_steps": 3, "initial_const": 1.0}),
    ("ead", "l1", "EADAttack", 8, {"steps": 100, "binary_search_steps": 3, "initial_const": 10.0}),
    ("ddn", "l2", "DDNAttack", 30, {}),
    ("deepfool", "l2", "L2DeepFoolAttack", 30, {}),
    ("deepfool", "linf", "LinfDeepFoolAttack", 30, {}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "norm", "theirs", "params"), [
    ("cw", "l2", "L2CarliniWagnerAttack", {"steps": 60, "binary_search_steps": 3, "initial_const": 1.0}),
    ("ead", "l1", "EADAttack", {"steps": 60, "binary_search_steps": 3, "initial_const": 10.0}),
    ("ddn", "l2", "DDNAttack", {"steps": 60}), ("deepfool", "l2", "L2DeepFoolAttack", {}),
    ("deepfool", "linf", "LinfDeepFoolAttack", {}), ("fmn", "l2", "L2FMNAttack", {}),
])  # fmt: skip
def test_a_small_net_is_fooled_no_further_than_by_foolbox(
    name: str, norm: str, theirs: str, params: dict[str, Any]
) -> None:
    net, x, y = smooth()
    whole = {"abort_early": False} if name in ("cw", "ead") else {}
    ours = testbed.attack(name, norm=norm, **params, **whole).run(net, x, y)
    other = testbed.attack(f"foolbox:{theirs}", norm=norm, **params, **whole).run(net, x, y)
    far = [np.where(run.success, run.distance, np.inf) for run in (ours, other)]
    assert np.median(far[0]) <= 1.02 * np.median(far[1]) and np.isfinite(far[0]).mean() > 0.8


@pytest.mark.slow
@pytest.mark.verifies(
    "cw", "ead", "ddn", "deepfool",
    by="reference", against="foolbox 3.3.4 on two MNIST nets: median distance, and the same images fooled",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "norm", "theirs", "n", "params"), FOOLBOX)
def test_no_further_than_foolbox(
    name: str, norm: str, theirs: str, n: int, params: dict[str, Any], real: tuple[Any, torch.Tensor, torch.Tensor]
) -> None:
    net, x, y = real[0], real[1][:n], real[2][:n]
    whole = {"abort_early": False} if name in ("cw", "ead") else {}  # foolbox's watches the sum over the batch
    out = testbed.attack(name, norm=norm, **params, **whole).run(net, x, y)
    other = testbed.attack(f"foolbox:{theirs}", norm=norm, **params, **whole).run(net, x, y)
    right = out.first_step != 0
    black = (other.x == 0).flatten(1).all(1).numpy()  # what foolbox's C&W and EAD return where they find nothing
    far = [np.where(run.success & ~none, run.distance, np.inf)[right] for run, none in ((out, False), (other, black))]
    assert np.median(far[0]) <= 1.02 * np.median(far[1]) and np.isfinite(np.median(far[0]))
    easy = far[1] <= np.median(far[1])
    assert np.isfinite(far[0][easy]).all() and np.isfinite(far[0]).mean() >= np.isfinite(far[1]).mean() - 0.13

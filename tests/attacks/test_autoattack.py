"""The parts of AutoAttack against hand-worked values, solvers and the reference's own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from testbed_attacks.ascent import Ascent
from testbed_attacks.autoattack import AutoAttack, AutoAttackFast
from testbed_attacks.cascade import run
from testbed_attacks.hyperplane import step_onto
from testbed_attacks.square import side
from testbed_attacks.square_ascent import SquareAscent
from testbed_attacks.square_search import window

import testbed
from testbed.perturb.victim import Victim, frozen
from testbed.seeding import Rng


def problem(seed: int, d: int = 6) -> tuple[np.ndarray, np.ndarray, float]:
    """A point of the unit box, a direction and a reachable offset."""
    rng = np.random.default_rng(seed)
    x, w = rng.random(d), rng.normal(size=d)
    reach = np.where(w > 0, (1 - x) * w, -x * w).sum()
    return x, w, float(reach * rng.uniform(0.05, 0.95))


def solve(x: np.ndarray, w: np.ndarray, b: float, norm: str) -> float:
    """The least norm of a step d with w . d = b and x + d in the box, by a general solver."""
    d = len(x)
    if norm == "l2":
        bounds = list(zip(-x, 1 - x))
        start = np.clip(w * b / (w @ w), -x, 1 - x)
        best = minimize(
            lambda s: s @ s, start, bounds=bounds, constraints={"type": "eq", "fun": lambda s: w @ s - b}, tol=1e-14
        )
        return float(np.linalg.norm(best.x))
    if norm == "l1":  # d = p - q, minimise sum(p + q)
        bounds = [*zip(np.zeros(d), 1 - x), *zip(np.zeros(d), x)]
        return float(linprog(np.ones(2 * d), A_eq=np.r_[w, -w][None], b_eq=[b], bounds=bounds).fun)
    a = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])  # |d_i| <= t
    bounds = [*zip(-x, 1 - x), (0, None)]
    return float(linprog(np.r_[np.zeros(d), 1], a, np.zeros(2 * d), np.r_[w, 0][None], [b], bounds=bounds).fun)


@pytest.mark.verifies("fab", by="reference", against="scipy linprog and minimize: the step onto a hyperplane in a box")
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_step_onto_a_hyperplane_is_the_smallest(norm: str) -> None:
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    for seed in range(20):
        x, w, b = problem(seed)
        sign = -1.0 if seed % 2 else 1.0
        d = step_onto(torch.tensor(x)[None], torch.tensor(sign * w)[None], torch.tensor([sign * b]), norm, 0.0, 1.0)[
            0
        ].numpy()
        np.testing.assert_allclose(sign * w @ d, sign * b, rtol=2e-5)
        assert (x + d >= -1e-9).all() and (x + d <= 1 + 1e-9).all()
        np.testing.assert_allclose(np.linalg.norm(d, order), solve(x, w, b, norm), rtol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_hyperplane_out_of_reach_moves_everything_to_the_bound(norm: str) -> None:
    d = step_onto(torch.tensor([[0.2, 0.7]]), torch.tensor([[1.0, -2.0]]), torch.tensor([50.0]), norm, 0.0, 1.0)
    torch.testing.assert_close(d, torch.tensor([[0.8, -0.7]]))


def test_checkpoints_of_other_lengths() -> None:
    assert list(Ascent(0.1, "linf", 100).checkpoints().values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(Ascent(0.1, "linf", 20).checkpoints().values()) == [4, 3, 2, *[1] * 11]


@pytest.mark.verifies("square", by="hand", against="the window sides of the paper's schedule, every place of the image")
def test_square_windows_have_the_stated_side_and_reach_every_pixel() -> None:
    assert [side(i, 0.8, 32, 32) for i in (0, 10, 11, 51, 201, 501, 1001, 2001, 4001)] == [
        29,
        29,
        20,
        14,
        10,
        7,
        5,
        4,
        3,
    ]
    assert side(4999, 0.0001, 8, 8) == 1
    torch.manual_seed(0)
    where = window(torch.rand(2000, 2), 3, 2, 7, 9)
    assert where.shape == (2000, 18)
    assert set(where.flatten().tolist()) == set(range(2 * 7 * 9))
    one = window(torch.tensor([[0.999999, 0.0]]), 2, 1, 4, 5)
    assert one.tolist() == [[10, 11, 15, 16]]


@pytest.mark.verifies("apgd", by="hand", against="the top of a parabola inside the ball")
def test_apgd_halves_its_step_towards_a_peak_and_reports_the_best_point() -> None:
    class Hill(torch.nn.Module):
        """The margin falls towards x = 0.537 and never reaches zero."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([1 + 10 * (x - 0.537).pow(2).sum(1), torch.zeros(len(x))], dim=1)

    x = torch.full((4, 1), 0.5)
    out = testbed.attack("apgd", eps=0.1, steps=100).run(Hill(), x, torch.zeros(4, dtype=torch.long))
    # twenty steps of 2 eps would swing about the peak for ever; halving finds it to a small part of eps
    assert (out.x - 0.537).abs().max() < 2e-3 and not out.success.any()


@pytest.mark.verifies("fab", by="hand", against="distance to the boundary of a linear model, linf l2 l1")
def test_fab_finds_the_distance_of_a_linear_model() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(50, 3)
    model.bias.data = -0.5 * model.weight.data.sum(1)  # the three logits meet in the middle of the box
    x = 0.5 + 0.05 * (torch.rand(400, 50) - 0.5)
    z, w = model(x).detach(), model.weight.detach()
    y = z.argmax(1)
    for norm, dual in (("linf", 1), ("l2", 2), ("l1", torch.inf)):
        gaps = torch.stack([(z[i, y[i]] - z[i]) / (w[y[i]] - w).norm(dual, dim=1).clamp_min(1e-9) for i in range(400)])
        exact, near = gaps.scatter(1, y[:, None], torch.inf).amin(1).sort()
        some = near[:5]
        assert exact[4] < 0.48, "the box would be in the way"
        out = testbed.attack("fab", norm=norm, steps=30).run(model, x[some], y[some])
        assert out.success.all()
        np.testing.assert_allclose(out.distance, exact[:5], rtol=0.05, atol=1e-3)


@pytest.mark.verifies("autoattack", by="hand", against="worst case of a linear model in ball and box, every verdict")
def test_the_stages_of_each_cascade() -> None:
    def stages(**how: Any) -> list[str]:
        return [name for name, _ in AutoAttack(0.1, **how).stages()]

    standard = ["apgd-ce", "apgd-t", "square", "fab-t"]
    assert stages() == stages(norm="l1") == standard
    assert stages(cascade="plus") == ["apgd-ce", "apgd-dlr", "apgd-t", "square", "fab", "fab-t"]
    assert stages(cascade="rand") == ["apgd-ce", "apgd-dlr"]
    runs = dict(AutoAttack(0.1, norm="l1").stages())
    assert (runs["apgd-ce"].restarts, runs["apgd-t"].targets, runs["fab-t"].targets) == (5, 5, 9)
    plus = dict(AutoAttack(0.1, cascade="plus").stages())
    assert (plus["apgd-ce"].restarts, plus["apgd-dlr"].restarts, plus["fab"].restarts) == (5, 5, 5)
    assert not plus["fab"].targeted and plus["fab-t"].targeted and plus["apgd-t"].targets == 9


def test_the_number_of_targets_adapts_and_is_said() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(35, 3))
    x = torch.rand(10, 1, 5, 7)
    out = testbed.attack("autoattack", eps=0.001, steps=5, queries=5).run(model, x, model(x).argmax(1))
    assert out.audit["apgd-t_targets"] == 2 and out.audit["fab-t_targets"] == 2


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("shape", [(1, 5, 9), (4, 12, 7), (7, 3, 3)])
def test_any_shape_and_channel_count(norm: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 3))
    x = torch.rand(4, *shape)
    out = testbed.attack("autoattack", norm=norm, eps=0.01, steps=10, queries=20).run(model, x, model(x).argmax(1))
    assert len(out) == 4 and np.isfinite(out.distance).all()


def test_a_cascade_says_which_stage_fooled_each_example() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    x = torch.rand(30, 1, 8, 8)
    y = model(x).argmax(1)
    out = testbed.attack("autoattack", eps=0.02, steps=10, queries=100).run(model, x, y)
    names = ["apgd-ce", "apgd-t", "square", "fab-t"]
    for number, name in enumerate(names):
        assert (out.stage == number).sum() == out.audit[f"found_by_{name}"]
    assert ((out.stage >= 0) == out.success).all() and 0 < out.success.mean() < 1
    # for a linear model the worst point of the box is known, and nothing may miss it or find more
    w = model[1].weight.detach()
    gaps = model(x).detach()[torch.arange(30), y][:, None] - model(x).detach()
    fall = torch.stack([_fall(w[y[i]] - w, x[i].flatten(), 0.02) for i in range(30)])
    worst = (gaps - fall).scatter(1, y[:, None], torch.inf).amin(1)
    assert ((worst < 0).numpy() == out.success).all()


@pytest.mark.verifies("apgd", "apgd_t", "fab", "autoattack_fast", by="hand", against="worst case of a linear model")
@pytest.mark.parametrize("name", ["apgd", "apgd_t", "fab", "autoattack_fast"])
def test_every_verdict_on_a_linear_model_is_the_exact_one(name: str) -> None:
    torch.manual_seed(2)
    classes = 2 if name == "apgd" else 5  # cross-entropy alone does not aim at one class of several
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
    x = torch.rand(40, 1, 8, 8)
    z, w = model(x).detach(), model[1].weight.detach()
    y = z.argmax(1)
    fall = torch.stack([_fall(w[y[i]] - w, x[i].flatten(), 0.02) for i in range(40)])
    worst = (z[torch.arange(40), y][:, None] - z - fall).scatter(1, y[:, None], torch.inf).amin(1)
    clear = (worst.abs() > 1e-3).numpy()
    out = testbed.attack(name, eps=0.02).run(model, x, y)
    assert ((worst < 0).numpy() == out.success)[clear].all() and 0 < out.success.mean() < 1 and clear.sum() > 30


def test_the_fast_tier_loses_nothing_to_its_first_two_stages_and_searches_near_misses_only() -> None:
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 6))
    x, eps, steps = torch.rand(30, 1, 8, 8), 0.02, 10
    y, fast = net(x).argmax(1), AutoAttackFast(eps, steps=steps)
    with frozen(net), torch.no_grad():
        found = fast(Victim(net, ids=range(30)), x, y, rng=Rng("fast", 1, 0, range(30)))
        first = list(fast.stages())[:2]
        two = run(first, Victim(net, ids=range(30)), x, y, Rng("fast", 1, 0, range(30)), inside=(eps, "linf"))
        victim = Victim(net, ids=range(30))
        alone = SquareAscent(eps)(victim, x, y, rng=Rng("fast", 1, 0, range(30)))
    assert (found.first_step[two.first_step >= 0] == two.first_step[two.first_step >= 0]).all()
    # a standing image costs its clean pass, 100 queries, and 20 steps with the start; a near miss 1000 and 50 more
    stood = alone.first_step < 0
    assert set(victim.counts.queries[stood].tolist()) == {1.0 + 100 + 21, 1.0 + 100 + 21 + 1000 + 51}
    assert set(victim.counts.gradients[stood].tolist()) == {20.0, 70.0}


def test_the_last_stage_of_the_fast_tier_gets_past_a_hidden_gradient() -> None:
    class Stairs(torch.nn.Module):
        """Steps without a gradient anywhere; fooled where pixels rise by 0.06 on average."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rise = (x - 0.5).flatten(1).mean(1)
            return torch.stack([torch.full_like(rise, 0.05), torch.floor(rise * 100) / 100], dim=1)

    x, y = torch.full((8, 1, 8, 8), 0.5), torch.zeros(8, dtype=torch.long)
    out = testbed.attack("autoattack_fast", eps=0.1).run(Stairs(), x, y)
    assert out.success.all() and (out.audit["stage"] == 2).all()
    flat = testbed.attack("autoattack_fast", eps=0.1).run(Stairs(), x.flatten(1), y)
    assert not flat.success.any()


def _fall(difference: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    """How far the margins can fall inside the ball and the box."""
    down, up = torch.minimum(x, torch.tensor(eps)), torch.minimum(1 - x, torch.tensor(eps))
    return (difference.clamp_min(0) * down - difference.clamp_max(0) * up).sum(1)


@pytest.mark.slow
def test_hopeless_runs_end_early_without_changing_a_verdict() -> None:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 6))
    x = torch.rand(12, 1, 8, 8)
    y = model(x).argmax(1)
    quick = testbed.attack("autoattack", eps=0.02, queries=1100).run(model, x, y)
    whole = testbed.attack("autoattack", eps=0.02, queries=1100, exhaustive=True).run(model, x, y)
    assert (quick.success == whole.success).all() and 0 < quick.success.mean() < 1
    assert quick.queries[~quick.success].sum() < whole.queries[~whole.success].sum()


def test_no_run_of_fab_is_hopeless_before_it_has_a_pace() -> None:
    # a pace takes two looks, after 10 and 20 steps; the first target's run takes all of its 40
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 24), torch.nn.ReLU(), torch.nn.Linear(24, 6))
    x = torch.rand(12, 1, 8, 8)
    for norm, eps in (("linf", 1e-3), ("l2", 5e-3), ("l1", 2e-2)):
        run = testbed.attack("fab", norm=norm, eps=eps, steps=40, targets=3, hopeless=True)
        out = run.run(model, x, model(x).argmax(1))
        assert not out.success.any() and out.gradients.min() >= 40 + 2 * 20 and out.gradients.max() < 3 * 40


def test_a_randomised_model_is_judged_on_fresh_draws() -> None:
    class Noisy(torch.nn.Module):
        """Right on average, wrong in about one draw of six."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(len(x))
            return torch.stack([torch.ones(len(x)), noise], dim=1) + 0 * x.flatten(1).sum(1, keepdim=True)

    x, y = torch.rand(40, 1, 2, 2), torch.zeros(40, dtype=torch.long)
    torch.manual_seed(0)
    out = testbed.attack("autoattack", eps=0.1, cascade="rand", steps=5, eot=2, judge=60).run(Noisy(), x, y)
    assert out.audit["found_by_apgd-ce"] + out.audit["found_by_apgd-dlr"] <= 1

"""FMN: its first step by hand, distances of linear models, foolbox's on real nets, and that it says nothing untrue."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks.fmn import FMN
from testbed_attacks.radius_steps import into_ball

import testbed

NORMS = ("linf", "l2", "l1", "l0")
FOOLBOX = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}


def affine(weight: torch.Tensor, bias: float) -> torch.nn.Module:
    """Logits (w . x + bias, 0) of flat inputs."""
    model = torch.nn.Linear(weight.numel(), 2)
    model.weight.data = torch.stack([weight, torch.zeros_like(weight)])
    model.bias.data = torch.tensor([bias, 0.0])
    return model


@pytest.mark.verifies("fmn", by="hand", against="the first radius |L| / |g|_q and the projected first step; 4 norms")
@pytest.mark.parametrize(
    ("norm", "moved"),
    [
        ("linf", [1.001 / 7, 1.001 / 7]),
        ("l2", [0.12012, 0.16016]),
        ("l1", [0.025125, 0.225125]),
        ("l0", [0.0, 0.5]),
    ],
)
def test_the_first_step_by_hand(norm: str, moved: list[float]) -> None:
    # L = 1, g = (3, 4): radii 1/7, 1/5, 1/4, a thousandth more; alpha g/|g| = (0.6, 0.8) alpha, from which l1 takes
    # (1.4 - 0.25025) / 2 off each value; in l0 the value that gains most goes to its bound
    model = affine(torch.tensor([3.0, 4.0]), -2.5)
    out = testbed.attack("fmn", norm=norm, steps=1)(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    torch.testing.assert_close(out, 0.5 - torch.tensor([moved]))


def test_the_radius_follows_the_boundary_by_gamma() -> None:
    # the slope at 0.5 puts the boundary at 0.3, a cliff at 0.35. Steps are long, so x is where the radius is: 0, then
    # 0.2002 (estimate), then 0.8 (fooled), 0.8 (fooled) and 1.2 (not fooled) times the last
    seen = []

    class Cliff(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(0.5 - float(x.detach()[0, 0]))
            z = x[:, 0] - 0.3 - (x[:, 0] < 0.35).float()
            return torch.stack([z, 0 * z], dim=1)

    still = {"gamma": 0.2, "min_gamma": 0.2, "min_stepsize": 10.0}
    out = testbed.attack("fmn", norm="linf", steps=4, **still).run(Cliff(), torch.tensor([[0.5]]), torch.tensor([0]))
    np.testing.assert_allclose(
        seen[1:6], 0.2002 * np.array([0.0, 1.0, 0.8, 0.64, 0.768]), atol=1e-6
    )  # the runner asks first
    assert out.success.all() and out.distance == pytest.approx(0.2002 * 0.768, abs=1e-6)
    assert (out.gradients.tolist(), out.queries.tolist()) == ([4], [5])


def test_the_l0_projection_keeps_the_best_values() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, delta = torch.from_numpy(rng.random((1, 5))), torch.from_numpy(rng.normal(size=(1, 5)))
        for count in range(6):
            out = into_ball(delta, x, "l0", torch.full((1, 1), float(count)), 0.0, 1.0) - x
            clipped = (x + delta).clamp(0, 1) - x
            ways = [
                float(((delta - clipped * torch.tensor([i in kept for i in range(5)])) ** 2).sum())
                for kept in itertools.combinations(range(5), count)
            ]
            assert int((out != 0).sum()) <= count
            assert float(((delta - out) ** 2).sum()) == pytest.approx(min(ways))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_feasible_point_is_nearer_than_the_projection(norm: str) -> None:
    torch.manual_seed(1)
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    x, delta = torch.rand(200, 4, dtype=torch.float64), torch.randn(200, 4, dtype=torch.float64)
    radius = torch.full((200, 1), 0.6, dtype=torch.float64)
    out = into_ball(delta, x, norm, radius, 0.0, 1.0)
    assert (torch.linalg.vector_norm(out - x, ord=order, dim=1) <= 0.6 + 1e-9).all() and out.min() >= 0 <= 1 - out.max()
    feasible = (torch.rand(2000, 4, dtype=torch.float64) * 2 - 1) * 0.6
    feasible = feasible[torch.linalg.vector_norm(feasible, ord=order, dim=1) <= 0.6]
    for row in range(200):  # the projection p of a point d on a convex set: (d - p) . (f - p) <= 0 for every f in it
        inside = feasible[((x[row] + feasible >= 0) & (x[row] + feasible <= 1)).all(1)]
        p = out[row] - x[row]
        assert ((inside - p) @ (delta[row] - p) <= 1e-5).all()


@pytest.mark.verifies("fmn", by="hand", against="distance to the boundary of a linear model, linf l2 l1 l0")
@pytest.mark.parametrize(("classes", "targets"), [(2, 0), (3, 2)])
def test_the_distance_of_a_linear_model(classes: int, targets: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(50, classes)
    model.bias.data = -0.5 * model.weight.data.sum(1)  # the logits meet in the middle of the box
    x = 0.5 + 0.05 * (torch.rand(100, 50) - 0.5)
    z, w = model(x).detach(), model.weight.detach()
    y = z.argmax(1)
    gaps, slopes = z.gather(1, y[:, None]) - z, w[y][:, None] - w
    for norm, dual in (("linf", 1), ("l2", 2), ("l1", torch.inf)):
        distances = gaps / torch.linalg.vector_norm(slopes, ord=dual, dim=2).clamp_min(1e-9)
        exact = distances.scatter(1, y[:, None], torch.inf).amin(1).numpy()
        assert exact.max() < 0.45, "the box would be in the way"
        out = testbed.attack("fmn", norm=norm, targets=targets).run(model, x, y)
        assert out.success.all() and out.audit.get("targets", 0) == targets
        np.testing.assert_allclose(out.distance, exact, rtol=2e-3, atol=1e-6)
    falls = (slopes * torch.where(slopes > 0, x[:, None], x[:, None] - 1)).sort(dim=2, descending=True).values
    counts = (falls.cumsum(2) <= gaps[..., None]).sum(2) + 1  # values that must go to their bound
    fewest = counts.scatter(1, y[:, None], 50).amin(1).numpy()
    out = testbed.attack("fmn", norm="l0", targets=targets).run(model, x, y)
    assert (out.distance >= fewest).all() and (out.distance == fewest).mean() > 0.8


def test_within_a_budget_it_stops_at_the_first_iterate_inside() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Tanh(), torch.nn.Linear(20, 4)).eval()
    x = torch.rand(60, 30)
    y = model(x).argmax(1)
    for norm in NORMS:
        free = testbed.attack("fmn", norm=norm).run(model, x, y)
        eps = float(np.median(free.distance))
        held = testbed.attack("fmn", norm=norm, eps=eps).run(model, x, y)
        assert (held.success == (free.success & (free.distance <= eps))).all() and 0 < held.success.mean() < 1
        assert (free.gradients == 100).all() and held.gradients[held.success].mean() < 60


def test_bad_settings_are_refused() -> None:
    for bad in ({"steps": 0}, {"gamma": 1.0}, {"max_stepsize": 0.0}, {"min_stepsize": 20.0}, {"targets": -1}):
        with pytest.raises(ValueError, match="got"):
            FMN(norm="linf", **bad)


@pytest.fixture(scope="module", params=["kw", "cnn_a"])
def real(request: pytest.FixtureRequest, subject: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    return subject(request.param, 40)


@pytest.mark.slow
@pytest.mark.verifies("fmn", by="reference", against="foolbox 3.3.4 FMN on two MNIST nets: median distance, 4 norms")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", NORMS)
def test_no_further_than_foolbox_and_never_untrue(norm: str, real: tuple[Any, torch.Tensor, torch.Tensor]) -> None:
    net, x, y = real
    out = testbed.attack("fmn", norm=norm).run(net, x, y)
    theirs = testbed.attack(f"foolbox:{FOOLBOX[norm]}", norm=norm).run(net, x, y)  # success is the runner's verdict
    right = out.first_step != 0
    median = lambda run: float(np.median(np.where(run.success, run.distance, np.inf)[right]))
    assert median(out) <= 1.02 * median(theirs) and np.isfinite(median(out))
    assert out.success.mean() >= theirs.success.mean() - 0.03 and out.success.mean() > 0.9
    found = out.success & right
    assert (net(out.x).argmax(1) != y)[found].all()
    sizes = (out.x - x).flatten(1).double()
    order = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    np.testing.assert_allclose(torch.linalg.vector_norm(sizes, ord=order, dim=1), out.distance, rtol=1e-6)

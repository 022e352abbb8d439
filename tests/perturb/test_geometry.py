"""Balls and norms: hand-worked values and the properties a projection has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from testbed.perturb.geometry import confine, inside, length, project, random_direction, steepest
from testbed.seeding import Rng

NORMS = ("linf", "l2", "l1")


@pytest.mark.parametrize("norm", NORMS)
def test_projection_lands_in_the_ball_and_keeps_what_is_inside(norm: str) -> None:
    torch.manual_seed(0)
    delta = torch.randn(50, 3, 4, 4)
    for eps in (0.01, 0.5, 100.0):
        once = project(delta, norm, eps)
        assert inside(length(once, norm), eps, norm, 48).all()
        torch.testing.assert_close(project(once, norm, eps), once, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(project(delta, norm, 1e4), delta)


def test_l1_projection_is_the_nearest_point() -> None:
    v, eps = np.array([0.9, -0.6, 0.2, 0.05]), 0.8
    best = minimize(
        lambda d: ((d - v) ** 2).sum(),
        np.zeros(4),
        constraints={"type": "ineq", "fun": lambda d: eps - np.abs(d).sum()},
        tol=1e-12,
    )
    np.testing.assert_allclose(project(torch.tensor(v)[None], "l1", eps)[0], best.x, atol=1e-4)


def test_l0_projection_keeps_the_largest_values() -> None:
    assert project(torch.tensor([[0.1, -3.0, 2.0]]), "l0", 2).tolist() == [[0.0, -3.0, 2.0]]


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_has_unit_length_and_rises_most(norm: str) -> None:
    torch.manual_seed(1)
    gradient = torch.randn(5, 9)
    step = steepest(gradient, norm)
    np.testing.assert_allclose(length(step, norm), 1.0, rtol=1e-5)
    assert (steepest(torch.zeros(2, 3), norm) == 0).all()
    if norm != "l1":
        others = torch.randn(200, 9)
        others = others / length(others, norm)[:, None].float()
        assert ((gradient * step).sum(1)[:, None] >= gradient @ others.T - 1e-5).all()


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_fill_the_ball_and_are_the_examples_own(norm: str) -> None:
    like = torch.zeros(400, 1, 3, 3)
    rng = Rng("start", 1, 0, range(400))
    draws = random_direction(rng, like, norm, "a")
    size = length(draws, norm)
    assert size.max() <= 1 + 1e-6 and size.min() > 0
    # the radius of a uniform point of the d-ball has mean d / (d + 1)
    assert abs(float(size.mean()) - 9 / 10) < 0.02
    torch.testing.assert_close(random_direction(rng.take([7, 3]), like[:2], norm, "a"), draws[[7, 3]])


def test_confine_respects_ball_and_box() -> None:
    x = torch.tensor([[0.05, 0.95]])
    out = confine(torch.tensor([[-1.0, 2.0]]), x, "linf", 0.1, 0.0, 1.0)
    torch.testing.assert_close(out, torch.tensor([[0.0, 1.0]]))

"""The search by queries on confidence: a linear model by hand, goals, labels, and calibrators on top."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import testbed
from testbed.perturb.victims import calibrated


def linear(x: torch.Tensor) -> torch.Tensor:
    """Logits (sum over the 2x2 image, 0)."""
    return torch.stack([x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)], dim=1)


@pytest.mark.verifies(
    "calibration_square", by="hand", against="the corner of the ball that is worst for a linear model"
)
@pytest.mark.parametrize(("goal", "total"), [("underconfidence", 1.6), ("overconfidence", 2.4), ("maximum", 1.6)])
def test_the_corner_of_the_ball_is_found_on_a_linear_model(goal: str, total: float) -> None:
    x = torch.full((3, 1, 2, 2), 0.5)
    out = testbed.attack("calibration_square", eps=0.1, goal=goal, queries=100).run(linear, x, torch.tensor([0, 0, 0]))
    np.testing.assert_allclose(out.confidence_after, 1 / (1 + np.exp(-total)), atol=1e-5)
    assert (out.gradients == 0).all() and (out.queries == 100).all()


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(36, 24), torch.nn.Tanh(), torch.nn.Linear(24, 4)
        )

    def forward(self, x: torch.Tensor) -> Any:
        return 4 * self.layers(x)


@pytest.mark.parametrize("goal", ["underconfidence", "overconfidence", "maximum", "random"])
def test_labels_stay_and_confidence_moves_almost_as_far_as_with_gradients(goal: str) -> None:
    model = Net().eval()
    x = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    y[:10] = (y[:10] + 1) % 4
    asked, seen = (
        testbed.attack(name, eps=0.05, goal=goal, **budget).run(model, x, y)
        for name, budget in (("calibration_square", {"queries": 200}), ("calibration_attack", {}))
    )
    assert (model(asked.x).argmax(1) == model(x).argmax(1)).all()
    moved, could = (np.abs(out.confidence_after - out.confidence_before).mean() for out in (asked, seen))
    assert moved > 0.5 * could
    if goal == "maximum":
        change = asked.confidence_after - asked.confidence_before
        assert (change[:10] >= -1e-6).all() and (change[10:] <= 1e-6).all()


@pytest.mark.parametrize("name", ["calibration_square", "calibration_attack"])
@pytest.mark.parametrize("calibrator", ["temperature", "isotonic"])
def test_a_calibrator_on_top_is_attacked_through(name: str, calibrator: str) -> None:
    model = Net().eval()
    x = torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    logits = model(x).detach().double().numpy()
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(200) < 0.7, logits.argmax(1), rng.integers(0, 4, 200))
    fitted = testbed.calibrator(calibrator).fit(logits, labels)
    victim = calibrated(model, fitted).eval()
    budget = {"queries": 100} if name == "calibration_square" else {"steps": 20}
    out = testbed.attack(name, eps=0.05, goal="underconfidence", **budget).run(
        victim, x[:20], torch.from_numpy(labels[:20])
    )
    assert out.confidence_after.mean() < out.confidence_before.mean() - 0.02
    assert (victim(out.x).argmax(1) == victim(x[:20]).argmax(1)).all()

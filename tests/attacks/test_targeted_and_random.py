"""Targeted PGD reaches the class it is sent to; gradients of models that draw random numbers are averaged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import testbed

#: Logits W x of a pixel pair: class 0 wins at (0.5, 0.4), class 1 needs more x1, class 2 needs less of both.
WEIGHT = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])


def linear(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1) @ WEIGHT.T


@pytest.mark.parametrize(("target", "wanted"), [("second", 1), ("least", 2)])
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_the_target_is_reached_where_the_ball_holds_it(target: str, wanted: int, loss: str) -> None:
    # class 1 is 0.05 away in each pixel; class 2 only wins below (0, 0), so within the box it is never reached
    x, y = torch.tensor([[[[0.5, 0.4]]]]), torch.tensor([0])
    out = testbed.attack("pgd", eps=0.2, steps=20, target=target, loss=loss).run(linear, x, y)
    assert out.audit["targets_reached"] == (wanted == 1)
    if wanted == 1:
        assert linear(out.x).argmax(1).tolist() == [1]
    else:
        torch.testing.assert_close(out.x, torch.tensor([[[[0.3, 0.2]]]]))  # the corner nearest to class 2


def test_random_targets_are_drawn_by_example_and_never_the_label() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 6))
    x = torch.rand(30, 1, 4, 4)
    y = model(x).argmax(1)
    attack = testbed.attack("pgd", eps=0.5, steps=30, target="random", random_start=False)
    whole = attack.run(model, x, y)
    part = attack.run(model, x[10:], y[10:], ids=np.arange(10, 30))
    torch.testing.assert_close(whole.x[10:], part.x)
    reached = model(whole.x).argmax(1)
    assert whole.audit["targets_reached"] > 15 and len(set(reached.tolist())) >= 4


class Noisy(torch.nn.Module):
    """A linear model whose slope is drowned by noise that has no mean."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([1.0, -1.0, 1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = ((x.flatten(1) - 0.5) * (self.slope + 4 * torch.randn(len(x), 4))).sum(1)
        return torch.stack([z, torch.zeros_like(z) - 50], dim=1)  # never fooled: only the direction is asked for


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_averaged_gradients_find_the_direction_that_noise_hides(name: str) -> None:
    x, y = torch.full((40, 1, 2, 2), 0.5), torch.zeros(40, dtype=torch.long)
    right = -torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(1, 1, 2, 2)
    more = {} if name == "fgsm" else {"steps": 3, "random_start": False, "step_size": 0.1}
    found = {}
    for eot in (1, 100):
        out = testbed.attack(name, eps=0.1, eot=eot, loss="margin", **more).run(Noisy(), x, y)
        found[eot] = float(((out.x - x).sign() == right).double().mean())
        assert out.gradients.mean() == eot * (1 if name == "fgsm" else 3)
    assert found[100] > 0.95 and found[1] < 0.8

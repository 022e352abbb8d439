"""The audit flags what must be flagged, passes what must pass; victims other than the bare classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import testbed
from testbed.perturb import audit
from testbed.perturb.targets import BPDA, ScoreAsLogits, with_bpda
from testbed.types import FLAG_FAILED


class Net(torch.nn.Module):
    """A smooth two-layer net; `before` works on the input and `after` on the logits."""

    def __init__(self, before: Any = None, after: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = before or torch.nn.Identity()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(36, 24), torch.nn.Tanh(), torch.nn.Linear(24, 4)
        )
        self.after = after or torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(4 * self.layers(self.before(x)))


class Do(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def data(model: torch.nn.Module, n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.rand(n, 1, 6, 6)
    return x, model(x).argmax(1)


def failed(checks: list[audit.Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


def test_a_plain_net_under_a_strong_attack_passes_everything() -> None:
    model = Net().eval()
    x, y = data(model)
    assert failed(audit.full(testbed.attack("apgd_t", eps=0.03, targets=3), model, x, y, queries=200)) == set()


@pytest.mark.parametrize(
    ("model", "flag"),
    [
        (Net(after=Do(lambda z: z * 1000)), "zero_gradient_share"),
        (Net(before=Do(lambda x: (x * 16).round() / 16)), "zero_gradient_share"),
        (Net(after=Do(lambda z: z.softmax(1))), "softmax_as_logits"),
        (Net(after=Do(lambda z: z + torch.randn_like(z) / 50)), "randomised_forward"),
        (Net().train(), "was_in_train_mode"),
    ],
    ids=["temperature", "quantised", "softmax", "randomised", "training"],
)
def test_masked_models_are_flagged_by_the_basic_tier(model: Net, flag: str) -> None:
    if flag != "was_in_train_mode":
        model.eval()
    x, y = data(model)
    assert flag in failed(audit.basic(testbed.attack("pgd", eps=0.03, steps=10).run(model, x, y)))


def test_temperature_masking_shows_as_a_gap_between_cross_entropy_and_margin() -> None:
    model = Net(after=Do(lambda z: z * 1000)).eval()
    x, y = data(model)
    flags = failed(audit.full(testbed.attack("pgd", eps=0.05, steps=10), model, x, y, queries=100))
    assert {"ce_margin_gap", "more_effort"} <= flags


def test_a_weak_attack_is_flagged_by_more_effort() -> None:
    model = Net().eval()
    x, y = data(model)
    weak = testbed.attack("pgd", eps=0.06, steps=2, step_size=0.005, random_start=False)
    assert "more_effort" in failed(audit.full(weak, model, x, y, queries=100))


def test_bpda_finds_what_quantisation_hid() -> None:
    model = Net(before=Do(lambda x: (x * 16).round() / 16)).eval()
    x, y = data(model)
    twin = with_bpda(model, "before")
    torch.testing.assert_close(twin(x), model(x))
    assert twin.layers[1].weight is model.layers[1].weight and isinstance(twin.before, BPDA)
    hidden, seen = (testbed.attack("pgd", eps=0.1).run(m, x, y) for m in (model, twin))
    assert seen.success.mean() > hidden.success.mean() + 0.2


@pytest.mark.parametrize("name", ["msp", "maxlogit", "energy", "entropy"])
def test_a_detectors_score_is_pushed_both_ways(name: str) -> None:
    model = Net().eval()
    x, _ = data(model)
    before = ScoreAsLogits(model, name)(x)[:, 1].detach()
    for label, reach in ((0, 1e3), (1, -1e3)):
        victim = ScoreAsLogits(model, name, threshold=reach)
        out = testbed.attack("pgd", eps=0.05, loss="margin").run(victim, x, torch.full((len(x),), label))
        after = ScoreAsLogits(model, name)(out.x)[:, 1].detach()
        assert ((after - before) * (1 if label == 0 else -1) > 0).float().mean() > 0.95


def test_a_score_outside_torch_is_attacked_by_queries() -> None:
    model = Net().eval()
    x, _ = data(model, 10)
    victim = ScoreAsLogits(model, lambda z: -np.asarray(z.detach()).max(1), threshold=1e3)
    out = testbed.attack("square", eps=0.1, queries=60).run(victim, x, torch.zeros(10, dtype=torch.long))
    assert (victim(out.x)[:, 1] > victim(x)[:, 1]).float().mean() > 0.8


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("goal", ["underconfidence", "overconfidence", "maximum", "random"])
def test_calibration_attacks_keep_the_label_and_move_confidence(goal: str, norm: str) -> None:
    model = Net().eval()
    x, y = data(model)
    y[:20] = (y[:20] + 1) % 4
    eps = {"linf": 0.05, "l2": 0.3, "l1": 2.0}[norm]
    out = testbed.attack("calibration_attack", norm=norm, eps=eps, goal=goal).run(model, x, y)
    assert (model(out.x).argmax(1) == model(x).argmax(1)).all()
    change = out.confidence_after - out.confidence_before
    if goal == "random":
        assert (change > 0).any() and (change < 0).any()
        return
    wanted = np.ones(60) if goal == "overconfidence" else -np.ones(60)
    wanted[:20] *= -1.0 if goal == "maximum" else 1.0
    assert ((change * wanted) >= -1e-6).all() and np.abs(change).mean() > 0.02


@pytest.mark.verifies("calibration_attack", by="hand", against="least confidence in the ball of a linear model")
def test_underconfidence_is_exact_on_a_linear_model() -> None:
    # one feature, logits (4x, 0): inside the ball of 0.1 the least confidence that keeps label 0 is at x - 0.1
    model = lambda x: torch.cat([4 * x, 0 * x], dim=1)
    out = testbed.attack("calibration_attack", eps=0.1, goal="underconfidence").run(
        model, torch.tensor([[0.5], [0.05]]), torch.tensor([0, 0])
    )
    np.testing.assert_allclose(out.confidence_after, [1 / (1 + np.exp(-1.6)), 0.5], atol=2e-3)


LIAR = """
class Liar:
    eps: float
    objective = "confidence"

    def __init__(self, eps):
        self.eps = eps

    def __call__(self, model, x, y):
        return (x - self.eps).clamp(0, 1)
"""


def test_a_change_of_label_is_taken_back(tmp_path: Any) -> None:
    (tmp_path / "liar.py").write_text(LIAR)
    model = lambda x: torch.cat([4 * x, 0 * x + 1], dim=1)
    x = torch.tensor([[0.9], [0.3]])
    out = testbed.attack(f"{tmp_path}/liar.py:Liar", eps=0.1).run(model, x, torch.tensor([0, 0]))
    # the second image would cross 0.25, where the label changes
    torch.testing.assert_close(out.x, torch.tensor([[0.8], [0.3]]))
    assert out.flags.tolist() == [0, FLAG_FAILED]

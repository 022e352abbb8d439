"""FGSM, BIM and PGD: hand-worked steps, agreement with foolbox, early stop, batch independence."""

from __future__ import annotations

import pytest
import torch

import testbed


def net(seed: int = 0, features: int = 36, classes: int = 4) -> torch.nn.Module:
    """A small smooth net."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(features, 20), torch.nn.ReLU(), torch.nn.Linear(20, classes)
    )


def data(model: torch.nn.Module, n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.rand(n, 1, 6, 6)
    return x, model(x).argmax(1)


EPS = {"linf": 0.03, "l2": 0.15, "l1": 0.6}


@pytest.mark.verifies(
    "fgsm", by="reference", against="foolbox 3.3.4 {Linf,L2,L1}FastGradientAttack, images and success"
)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fgsm_is_foolbox_fgm(norm: str) -> None:
    model = net()
    x, y = data(model)
    ours = testbed.attack("fgsm", norm=norm, eps=EPS[norm]).run(model, x, y)
    name = {"linf": "LinfFastGradientAttack", "l2": "L2FastGradientAttack", "l1": "L1FastGradientAttack"}[norm]
    theirs = testbed.attack(f"foolbox:{name}", norm=norm, eps=EPS[norm]).run(model, x, y)
    assert (ours.success == theirs.success).all() and 0 < ours.success.mean() < 1
    rose = (ours.x - x).flatten(1).abs().amax(1) > 0
    if norm != "l1":  # foolbox's l1 step sees the box first, ours clips after it
        torch.testing.assert_close(ours.x[rose], theirs.x[rose], atol=1e-5, rtol=0)


@pytest.mark.verifies("bim", by="reference", against="foolbox 3.3.4 LinfBasicIterativeAttack, images and loss")
def test_bim_walks_as_foolbox_where_no_example_is_fooled() -> None:
    model = net()
    x, y = data(model)
    ours = testbed.attack("bim", eps=0.01, steps=5, step_size=0.004).run(model, x, y)
    theirs = testbed.attack("foolbox:LinfBasicIterativeAttack", eps=0.01, steps=5, abs_stepsize=0.004).run(model, x, y)
    both = ~ours.success & ~theirs.success
    assert both.sum() > 10
    assert (ours.loss[both] >= theirs.loss[both] - 1e-4).all()
    # a gradient that rounds to either side of zero may differ in sign
    assert ((ours.x[both] - theirs.x[both]).abs() < 1e-5).float().mean() > 0.98


@pytest.mark.verifies("pgd", by="hand", against="one l2 step on a linear model")
def test_one_pgd_step_by_hand() -> None:
    model = torch.nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    x, y = torch.tensor([[0.9, 0.1]]), torch.tensor([0])
    out = testbed.attack("pgd", norm="l2", eps=0.2, steps=1, step_size=0.1, random_start=False)(model, x, y)
    # the loss falls along (1, -2): one step of 0.1 along (-1, 2) / sqrt 5
    torch.testing.assert_close(out, x + 0.1 * torch.tensor([[-1.0, 2.0]]) / 5**0.5)


def test_fooled_examples_cost_nothing_more_and_restarts_see_only_the_rest() -> None:
    model = net()
    x, y = data(model)
    out = testbed.attack("pgd", eps=EPS["linf"], steps=10, restarts=3).run(model, x, y)
    fooled = out.success
    assert 0 < fooled.mean() < 1
    assert (out.queries[fooled] == out.first_step[fooled]).all()
    assert (out.queries[~fooled] == 33).all() and (out.gradients[~fooled] == 30).all()
    one = testbed.attack("pgd", eps=EPS["linf"], steps=10, restarts=1).run(model, x, y)
    assert (out.success >= one.success).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_batch_changes_nothing_but_rounding(norm: str) -> None:
    model = net().double()
    model.float()
    x, y = data(model)
    ids = torch.arange(100, 140).numpy()
    whole = testbed.attack("pgd", norm=norm, eps=EPS[norm], steps=8).run(model, x, y, ids=ids)
    for part in (slice(0, 7), slice(30, 40)):
        alone = testbed.attack("pgd", norm=norm, eps=EPS[norm], steps=8, batch=3).run(
            model, x[part], y[part], ids=ids[part]
        )
        torch.testing.assert_close(alone.x, whole.x[part], atol=1e-5, rtol=0)


def test_a_standing_example_keeps_its_highest_loss_not_its_last_image() -> None:
    model = torch.nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[0.0], [0.0]])

    class Peak(torch.nn.Module):
        """Loss highest at x = 0.52; steps of 0.05 from 0.5 jump over it and back."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([1 + (x - 0.52).abs(), 0 * x], dim=1)

    out = testbed.attack("pgd", eps=0.1, steps=2, step_size=0.05, random_start=False).run(
        Peak(), torch.tensor([[0.5]]), torch.tensor([0])
    )
    assert not out.success[0]
    # iterates 0.5, 0.55, 0.5: the first is closest to the peak
    torch.testing.assert_close(out.x, torch.tensor([[0.5]]))


def test_restarts_without_a_random_start_are_refused() -> None:
    from testbed_attacks.pgd import PGD

    with pytest.raises(ValueError, match="would repeat one run"):
        PGD(0.1, restarts=2, random_start=False)

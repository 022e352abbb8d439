"""Targeted PGD reaches the class it is sent to; gradients of models that draw random numbers are averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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


MOMENTUM: dict[str, dict[str, Any]] = {
    "mifgsm": {}, "nifgsm": {}, "sinifgsm": {}, "difgsm": {"prob": 0.0}, "tifgsm": {"kernel": 1, "sigma": 1.0},
    "vmifgsm": {"neighbours": 2},
}  # fmt: skip


@pytest.mark.verifies(
    "mifgsm", "nifgsm", "sinifgsm", "difgsm", "tifgsm", "vmifgsm",
    by="hand", against="targeted: the sign of w_t - sum p_j w_j of a linear model, one step",
)  # fmt: skip
@pytest.mark.parametrize("name", MOMENTUM)
def test_one_targeted_step_of_each_momentum_attack(name: str) -> None:
    # z = (1, 0.8, -0.9), p = (0.508, 0.416, 0.076), sum p w = (0.94, 0.756): towards class 2 both values fall, towards
    # class 1, and up the untargeted loss, the second rises
    x, y = torch.tensor([[[[0.5, 0.4]]]]), torch.tensor([0])
    for target, wanted in (("least", [0.4, 0.3]), ("second", [0.4, 0.5]), ("none", [0.4, 0.5])):
        attack = testbed.attack(name, eps=0.1, steps=1, stop=False, target=target, **MOMENTUM[name])
        torch.testing.assert_close(attack(linear, x, y).flatten(), torch.tensor(wanted))


@pytest.mark.parametrize("name", MOMENTUM)
def test_the_momentum_attacks_leave_at_their_target_and_draw_it_by_example(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 6))
    x = torch.rand(30, 1, 4, 4)
    y = model(x).argmax(1)
    more = {"prob": 0.0} if name == "difgsm" else {"kernel": 1} if name == "tifgsm" else {}
    attack = testbed.attack(name, eps=0.6, steps=20, target="random", **more)
    whole, part = attack.run(model, x, y), attack.run(model, x[10:], y[10:], ids=np.arange(10, 30))
    torch.testing.assert_close(whole.x[10:], part.x)
    assert whole.audit["targets_reached"] > 15 and len(set(model(whole.x).argmax(1).tolist())) >= 4


@pytest.mark.parametrize("name", MOMENTUM)
def test_a_target_is_hit_far_more_often_than_by_chance_on_a_real_net(name: str, subject: Any) -> None:
    net, x, y = subject("resnet20", 12)
    right = net(x).argmax(1) == y
    least = net(x).argmin(1)
    more: dict[str, Any] = {"kernel": 3, "sigma": 1.0} if name == "tifgsm" else {}
    more |= {"neighbours": 3} if name == "vmifgsm" else {}
    aimed = testbed.attack(name, eps=8 / 255, target="least", **more).run(net, x, y)
    astray = testbed.attack(name, eps=8 / 255, stop=False, **more)(net, x, y)
    by_chance = float((net(astray).argmax(1) == least)[right].double().mean())
    reached = float((net(aimed.x).argmax(1) == least)[right].double().mean())
    assert reached == aimed.audit["targets_reached"] / int(right.sum())
    assert reached > by_chance + 0.4


class Noisy(torch.nn.Module):
    """A linear model whose slope is drowned by noise that has no mean."""

    def __init__(self, lead: float = 50.0) -> None:
        super().__init__()
        self.lead = lead
        self.slope = torch.nn.Parameter(torch.tensor([1.0, -1.0, 1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = ((x.flatten(1) - 0.5) * (self.slope + 4 * torch.randn(len(x), 4))).sum(1)
        return torch.stack([z, torch.zeros_like(z) - self.lead], dim=1)  # never fooled: only the direction is asked for


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


#: Gradients that one step of each asks for, with the parameters of MOMENTUM.
A_STEP = {"mifgsm": 1, "nifgsm": 1, "sinifgsm": 5, "difgsm": 1, "tifgsm": 1, "vmifgsm": 3}


@pytest.mark.verifies(
    "mifgsm", "nifgsm", "sinifgsm", "difgsm", "tifgsm", "vmifgsm",
    by="hand", against="expectation over transformation: the sign of a slope that noise of four times its size hides",
)  # fmt: skip
@pytest.mark.parametrize("name", MOMENTUM)
def test_averaged_gradients_of_the_momentum_attacks(name: str) -> None:
    x, y = torch.full((40, 1, 2, 2), 0.5), torch.zeros(40, dtype=torch.long)
    right = -torch.tensor([1.0, -1.0, 1.0, -1.0]).reshape(1, 1, 2, 2)
    more = MOMENTUM[name] | ({"copies": 1} if name == "sinifgsm" else {})
    found = {}
    for eot in (1, 100):
        out = testbed.attack(name, eps=0.1, eot=eot, steps=1, stop=False, **more)(Noisy(3.0), x, y)
        found[eot] = float(((out - x).sign() == right).double().mean())
    assert found[100] > 0.95 and found[1] < 0.8


@pytest.mark.parametrize("name", MOMENTUM)
def test_draws_multiply_with_what_a_momentum_attack_averages_itself(name: str) -> None:
    x, y = torch.tensor([[[[0.9, 0.2]]], [[[0.8, 0.1]]]]), torch.tensor([0, 0])
    once, often = (
        testbed.attack(name, eps=0.01, steps=3, eot=eot, **MOMENTUM[name]).run(linear, x, y) for eot in (1, 7)
    )
    torch.testing.assert_close(often.x, once.x)
    assert once.gradients.tolist() == [3 * A_STEP[name]] * 2 and often.gradients.tolist() == [21 * A_STEP[name]] * 2


WITHOUT_A_BALL: dict[str, dict[str, Any]] = {
    "stadv": {"steps": 6}, "patch": {"steps": 6, "area": 0.3}, "universal": {"steps": 6, "norm": "linf", "eps": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_A_BALL)
def test_draws_of_a_deterministic_model_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 5))
    x = torch.rand(30, 1, 6, 6)
    y = model(x).argmax(1)
    once, often = (testbed.attack(name, eot=eot, **WITHOUT_A_BALL[name]).run(model, x, y) for eot in (1, 3))
    torch.testing.assert_close(often.x, once.x, atol=1e-4, rtol=0)
    assert (once.success == often.success).all() and 0 < once.success.mean() < 1
    assert often.gradients.sum() == 3 * once.gradients.sum() and once.gradients[~once.success].max() == 6


@pytest.mark.parametrize("name", WITHOUT_A_BALL)
def test_luck_fools_no_example_whose_mean_prediction_is_right(name: str) -> None:
    x, y = torch.full((60, 1, 6, 6), 0.5), torch.zeros(60, dtype=torch.long)
    out = testbed.attack(name, eot=40, **WITHOUT_A_BALL[name]).run(Lottery(slope=0.0), x, y)
    assert out.audit["fresh_draws"] == 40 and out.audit["already_wrong"] == 0 and out.success.sum() <= 1
    assert (out.gradients == 240).mean() > 0.9


class Lottery(torch.nn.Module):
    """Right on average and wrong in about one draw of six; past the middle of its first value, wrong on average."""

    def __init__(self, slope: float = 20.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lead = 1 - self.slope * (x.flatten(1)[:, 0] - 0.5)
        return torch.stack([lead, lead * 0 + torch.randn(len(x))], dim=1)


RANDOMISED: dict[str, dict[str, Any]] = {
    "fgsm": {"eot": 40}, "bim": {"eot": 40, "steps": 5}, "pgd": {"eot": 40, "steps": 5},
    "apgd": {"eot": 4, "judge": 40, "steps": 5}, "apgd_t": {"eot": 4, "judge": 40, "steps": 5},
    "mifgsm": {"eot": 40, "steps": 5}, "vmifgsm": {"eot": 40, "steps": 5, "neighbours": 1},
    "autoattack": {"cascade": "rand", "eot": 4, "judge": 40, "steps": 5},
}  # fmt: skip


@pytest.mark.parametrize("name", RANDOMISED)
def test_a_randomised_model_is_judged_by_the_mean_of_fresh_draws(name: str) -> None:
    x, y = torch.full((60, 1, 2, 2), 0.5), torch.zeros(60, dtype=torch.long)
    attack = testbed.attack(name, eps=0.001, **RANDOMISED[name])
    out = attack.run(Lottery(), x, y)
    assert out.audit["fresh_draws"] == 40 and out.audit["already_wrong"] == 0 and out.success.sum() <= 1
    assert out.audit["randomised_forward"] > 1
    one = (Lottery()(out.x).argmax(1) != y).double().mean()
    assert 0.05 < one < 0.4, "a single draw would have said otherwise"
    far = testbed.attack(name, eps=0.2, **RANDOMISED[name])
    beaten = far.run(Lottery(), x, y)
    assert beaten.success.mean() > 0.95
    again = far.run(Lottery(), x, y)
    assert (again.success == beaten.success).all() and (again.margin == beaten.margin).all()


@pytest.mark.parametrize("name", ["pgd", "mifgsm"])
def test_draws_are_those_of_a_set_cut_into_batches_and_the_same_each_time(name: str) -> None:
    # a model that draws from torch's generator draws for a batch at a time: other batches, other draws
    x, y = torch.rand(60, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(60, dtype=torch.long)

    def run(batch: int, before: int) -> Any:
        torch.manual_seed(before)
        attack = testbed.attack(name, eps=0.05, eot=2, steps=3)
        return replace(attack, batch=batch).run(Lottery(), x, y)

    one, again, cut = run(64, 1), run(64, 2), run(7, 1)
    assert torch.equal(one.x, again.x) and one.audit == again.audit
    assert all((column == again.ledger()[key]).all() for key, column in one.ledger().items())
    assert not torch.equal(one.x, cut.x)


def test_curves_and_attacks_on_what_is_left_are_judged_by_fresh_draws_too() -> None:
    from testbed.perturb.levels import levels
    from testbed.perturb.only import only

    x, y, ids = torch.full((60, 1, 2, 2), 0.5), torch.zeros(60, dtype=torch.long), np.arange(60)
    attacks = [testbed.attack("pgd", eps=eps, eot=40, steps=2) for eps in (0.001, 0.002)]
    for out in (*levels(attacks, Lottery(), x, y), only(attacks[0], ids).run(Lottery(), x, y, ids=ids)):
        assert out.audit["fresh_draws"] == 40 and out.audit["already_wrong"] == 0 and out.success.sum() <= 1


def test_a_deterministic_model_is_judged_as_ever() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5))
    x = torch.rand(30, 1, 4, 4)
    y = model(x).argmax(1)
    once, often = (testbed.attack("pgd", eps=0.05, steps=5, eot=eot).run(model, x, y) for eot in (1, 3))
    assert (once.success == often.success).all() and 0 < once.success.mean() < 1
    np.testing.assert_allclose(often.margin, once.margin, atol=1e-4)
    assert often.audit["randomised_forward"] == 0 and "fresh_draws" not in once.audit


def test_only_attacks_that_ask_for_fresh_draws_have_them_in_their_recipe() -> None:
    from testbed.grid.planner import plan

    attacks = [{"use": "pgd", "steps": 2}, {"use": "pgd", "steps": 2, "eot": 3}, "autoattack"]
    attacks.append({"use": "autoattack", "cascade": "rand", "judge": 7})
    grid = {
        "name": "recipes", "data": [{"use": "digits", "train": 100, "calibration": 50, "test": 20}],
        "models": [{"use": "small-cnn", "train": {"recipe": "standard", "epochs": 1}}],
        "conditions": [{"attack": attacks, "eps": 0.1}], "metrics": ["accuracy"],
    }  # fmt: skip
    recipes = [job.recipe for job in plan(grid).jobs.values() if job.kind == "attack"]
    assert sorted(recipe.get("fresh_draws", 1) for recipe in recipes) == [1, 1, 3, 7]

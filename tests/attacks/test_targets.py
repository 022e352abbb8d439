"""Targets that are given: one class for all, one an example, and the groups of a grid's set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks.decisions import Decisions
from testbed_attacks.deepfool import DeepFool
from testbed_attacks.hopskipjump import HopSkipJump

import testbed
from testbed import plugins
from testbed.errors import DataError, UsageError
from testbed.perturb.aims import of_groups
from testbed.perturb.attack import Attack, bind
from testbed.perturb.levels import levels
from testbed.perturb.only import only
from testbed.perturb.victim import Victim
from testbed.types import Examples, Spec

#: Attack -> norms and what makes it short; every attack that can be sent to a class.
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "fgsm": (("linf",), {}), "bim": (("l2",), {}), "pgd": (("linf", "l2"), {"steps": 20}),
    "apgd": (("linf", "l2", "l1"), {"steps": 30}), "square": (("linf", "l2", "l1"), {"queries": 250}),
    "mifgsm": (("linf",), {}), "nifgsm": (("linf",), {}), "difgsm": (("linf",), {}), "sinifgsm": (("linf",), {}),
    "tifgsm": (("linf",), {"kernel": 3}), "vmifgsm": (("linf",), {"neighbours": 3}), "ddn": (("l2",), {"steps": 40}),
    "fmn": (("linf", "l2", "l1", "l0"), {"steps": 60}), "deepfool": (("l2", "linf"), {}),
    "cw": (("l2",), {"steps": 60, "binary_search_steps": 4, "initial_const": 1.0}),
    "ead": (("l1",), {"steps": 60, "binary_search_steps": 4, "initial_const": 1.0}),
    "hopskipjump": (("l2", "linf"), {"steps": 3, "initial_gradient_eval_steps": 20}),
    "boundary": (("l2",), {"steps": 60}),
    "foolbox:LinfPGD": (("linf",), {}), "foolbox:DDNAttack": (("l2",), {"steps": 20}),
}  # fmt: skip
EPS = {"linf": 0.5, "l2": 3.0, "l1": 20.0}
EACH = pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, (norms, _) in CASES.items() for norm in norms])


def subject() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A linear net of four classes, 16 images `[1 6 6]`, and what it says of them: all four."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4)).eval()
    model[1].bias.data = -0.5 * model[1].weight.detach().sum(1)  # no class leads on average
    x = torch.rand(400, 1, 6, 6)
    said = model(x).argmax(1)
    some = torch.cat([torch.nonzero(said == k).flatten()[:4] for k in range(4)])
    assert len(some) == 16
    return model, x[some], said[some]


def bound(name: str, norm: str, **more: Any) -> Attack:
    minimal = plugins.read("attack", name).facts["minimal"]
    return testbed.attack(name, norm=norm, eps=None if minimal else EPS[norm], **CASES[name][1], **more)


def test_every_attack_that_takes_a_target_is_here() -> None:
    taking = {name for name in plugins.names("attack") if name != "foolbox"
              and "target" in {p.name for p in plugins.read("attack", name).parameters}}  # fmt: skip
    assert taking == {name for name in CASES if not name.startswith("foolbox")}


@pytest.mark.filterwarnings("ignore")
@EACH
def test_examples_go_to_the_class_they_are_sent_to(name: str, norm: str) -> None:
    model, x, y = subject()
    everyone = bound(name, norm, target=3).run(model, x, y)
    sent = y != 3
    reached = model(everyone.x).argmax(1) == 3
    assert reached[sent].double().mean() >= (0.5 if name in ("square", "nifgsm") else 0.75)
    # those of that class already are left alone, and cost nothing
    assert torch.equal(everyone.x[~sent], x[~sent]) and not everyone.success[~sent.numpy()].any()
    assert (everyone.queries[~sent.numpy()] == 0).all()
    goal = (y + torch.tensor([1, 2, 3, 0] * 4)) % 4
    each = bound(name, norm, target=goal.numpy()).run(model, x, y)
    moved = goal != y
    hit = model(each.x).argmax(1) == goal
    assert hit[moved].double().mean() >= 0.5
    for given in (goal, goal.tolist()):
        assert torch.equal(bound(name, norm, target=given).run(model, x, y).x, each.x)
    if name in ("hopskipjump", "boundary") or name.startswith("foolbox"):
        return  # theirs depend on the set: starts are other examples of it, or draws are the batch's
    part = torch.tensor([9, 2, 12])
    alone = bound(name, norm, target=goal[part]).run(model, x[part], y[part], ids=part.numpy())
    assert torch.allclose(alone.x, each.x[part], atol=1e-5)


def test_deepfool_goes_to_the_boundary_of_the_class_it_is_sent_to() -> None:
    # by hand: f = z_2 - z_0 is -0.3 at x with slope (0, 1): straight up by 0.3, a hundredth part further
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    model = lambda x: x @ weight.T + torch.tensor([0.0, -0.6, -0.8])
    x = torch.tensor([[0.5, 0.5]])
    out = testbed.attack("deepfool", target=2, overshoot=0.01).run(model, x, [0])
    assert torch.allclose(out.x, torch.tensor([[0.5, 0.5 + 0.3 * 1.01]]), atol=1e-6)
    assert DeepFool(target=2).target == 2


def test_a_decision_based_attack_starts_from_the_nearest_image_of_the_class() -> None:
    model = lambda x: torch.cat([0.5 - x[:, :1], x[:, :1] - 0.5], dim=1)
    x, y = torch.tensor([[0.1, 0.5], [0.9, 0.5], [0.95, 0.0]]), torch.tensor([0, 1, 1])
    asked = Decisions(HopSkipJump(target=1), Victim(model, ids=[0]), x[:1], y[:1], (x, y))
    rows, start = asked.start(None)
    assert rows.tolist() == [0] and torch.equal(start, x[1:2])
    out = testbed.attack("hopskipjump", steps=1, target=1).run(model, x, y)
    assert 0.5 < float(out.x[0, 0]) < 0.6 and torch.equal(out.x[1:], x[1:])


def test_a_target_for_each_travels_with_its_example() -> None:
    model, x, y = subject()
    goal = (y + 1) % 4
    plugin = plugins.read("attack", "pgd")
    params = bind(plugin, {"steps": 10, "target": tuple(goal.tolist())}, "linf", 0.5)
    small = Attack(plugin, params, "linf", 0.5, batch=3)
    whole = Attack(plugin, params, "linf", 0.5).run(model, x, y)
    assert torch.allclose(small.run(model, x, y).x, whole.x, atol=1e-6)
    some = only(Attack(plugin, params, "linf", 0.5), np.array([5, 11])).run(model, x, y)
    assert torch.allclose(some.x[[5, 11]], whole.x[[5, 11]], atol=1e-6)
    curve = levels([bound("pgd", "linf", target=goal.tolist())], model, x, y)[0]
    assert (curve.success == bound("pgd", "linf", target=goal.tolist()).run(model, x, y).success).all()
    there = levels([testbed.attack("pgd", eps=eps, target=3) for eps in (0.1, 0.5)], model, x, y)
    assert all(torch.equal(one.x[y == 3], x[y == 3]) for one in there)


@pytest.mark.parametrize("target", [[1, 2], 4, -1, "second-best", [0.5], "groups"])
def test_a_target_that_cannot_be_is_refused(target: Any) -> None:
    model, x, y = subject()
    with pytest.raises((DataError, UsageError), match="target"):
        testbed.attack("pgd", eps=0.1, steps=2, target=target).run(model, x, y)


def test_the_groups_of_a_set_can_be_its_targets() -> None:
    attack, spec = testbed.attack("pgd", eps=0.1, target="groups"), Spec("image", (2, 2, 1), 4)
    x, y, ids = np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, np.int64), np.arange(3)
    spelled = of_groups(attack, Examples(x, y, ids, spec, np.array([1, 0, 1]), ("2", "3")))
    assert spelled.params["target"] == (3, 2, 3)
    for groups, names, words in ((None, (), "has no groups"), (np.array([0, 0, 0]), ("left",), "got 'left'")):
        with pytest.raises(DataError, match=words):
            of_groups(attack, Examples(x, y, ids, spec, groups, names))
    plain = testbed.attack("pgd", eps=0.1, target=3)
    assert of_groups(plain, Examples(x, y, ids, spec)) is plain

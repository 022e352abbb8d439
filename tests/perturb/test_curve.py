"""A sweep gives the curve of separate runs for less; the worst case is per example."""

from __future__ import annotations

import numpy as np
import torch

import testbed
from testbed.perturb.curve import sweep, worst_case
from testbed.perturb.warm import only


def setting() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    x = torch.rand(50, 1, 6, 6)
    return model, x, model(x).argmax(1)


def test_the_sweep_is_the_curve_of_separate_runs_at_twice_the_dearest() -> None:
    model, x, y = setting()
    levels = [0.005 * k for k in range(1, 9)]
    curve = sweep(lambda eps: testbed.attack("apgd", eps=eps, steps=40), levels, model, x, y)
    alone = [testbed.attack("apgd", eps=eps, steps=40).run(model, x, y) for eps in levels]
    assert (np.diff(curve.robust_accuracy) <= 0).all()
    np.testing.assert_allclose(curve.robust_accuracy, [one.robust_accuracy for one in alone], atol=0.021)
    assert curve.gradients <= 2 * max(one.gradients.sum() for one in alone)


def test_the_worst_case_is_per_example() -> None:
    model, x, y = setting()
    runs = [testbed.attack(name, eps=0.02).run(model, x, y) for name in ("fgsm", "square", "pgd")]
    worst = worst_case(runs)
    assert (worst.success == (runs[0].success | runs[1].success | runs[2].success)).all()
    assert (worst.queries == sum(one.queries for one in runs)).all()
    for row in (0, 17, 49):
        assert torch.equal(worst.x[row], runs[worst.audit["attack"][row]].x[row])


def test_an_attack_on_some_examples_leaves_the_others_and_costs_nothing_there() -> None:
    model, x, y = setting()
    whole = testbed.attack("pgd", eps=0.02, steps=5)
    part = only(whole, np.array([3, 4, 40])).run(model, x, y)
    alone = whole.run(model, x, y)
    others = np.setdiff1d(np.arange(50), [3, 4, 40])
    assert torch.equal(part.x[[3, 4, 40]], alone.x[[3, 4, 40]]) and torch.equal(part.x[others], x[others])
    assert part.gradients[others].sum() == 0 and (part.success[[3, 4, 40]] == alone.success[[3, 4, 40]]).all()

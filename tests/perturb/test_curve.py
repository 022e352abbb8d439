"""A sweep gives the curve of separate runs for less; the worst case is per example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import testbed
from testbed import seeding
from testbed.errors import UsageError
from testbed.perturb.curve import Curve, sweep, worst_case
from testbed.perturb.only import only
from testbed.perturb.victim import Victim, frozen


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


def halfspace() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Two classes with margin w . x, and points well inside the box, all of class 0."""
    w = torch.tensor([2.0, -1.0, 0.5, 1.0])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    model[1].weight.data = torch.stack([w, torch.zeros(4)])
    margins = torch.tensor([0.02, 0.11, 0.19, 0.33, 0.47, 0.9])
    x = 0.5 + torch.zeros(6, 4)
    x += ((margins - x @ w) / (w @ w))[:, None] * w
    return model, x.reshape(6, 1, 2, 2), torch.zeros(6, dtype=torch.long)


#: Budgets, and the distance of the points of `halfspace` to its plane: margin / |w|_1 = margin / 4.5, or margin / 2.5.
LEVELS = {"linf": [0.02, 0.04, 0.06, 0.08, 0.15], "l2": [0.03, 0.06, 0.1, 0.15, 0.25]}
DUAL = {"linf": 4.5, "l2": 2.5}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pgd", "bim", "apgd", "autoattack", "fab"])
def test_the_curve_of_a_plane_is_the_distance_to_it(name: str, norm: str) -> None:
    model, x, y = halfspace()
    params: dict[str, Any] = {"autoattack": {"queries": 20}}.get(name, {})
    curve = sweep(lambda eps: testbed.attack(name, norm=norm, eps=eps, **params), LEVELS[norm], model, x, y)
    distance = np.array([0.02, 0.11, 0.19, 0.33, 0.47, 0.9]) / DUAL[norm]
    np.testing.assert_array_equal(curve.fooled, distance < np.array(LEVELS[norm])[:, None])
    assert (curve.distance > distance - 1e-6).all() and np.isinf(curve.distance[-1])


def shrink(model: Any, x: torch.Tensor, y: torch.Tensor, *, eps: float, rng: Any) -> torch.Tensor:
    """A plain function, which takes one budget at a time: the best of 40 random corners."""
    best, found = x, model(x).gather(1, y[:, None])
    for number in range(40):
        near = (x + eps * torch.from_numpy(rng.uniform(x.shape[1:], -1, 1, name=f"{number}")).sign()).clamp(0, 1)
        value = model(near).gather(1, y[:, None])
        best, found = torch.where((value < found)[:, :, None, None], near, best), torch.minimum(found, value)
    return best


def curve_of(name: Any, model: Any, x: torch.Tensor, y: torch.Tensor, ids: Any = None, **params: Any) -> Curve:
    levels = [0.0, *(0.01 * k for k in range(1, 7))]
    return sweep(lambda eps: testbed.attack(name, norm="linf", eps=eps, **params), levels, model, x, y, ids=ids, seed=3)


@pytest.mark.parametrize("name, params", [("pgd", {}), ("apgd_t", {}), ("autoattack", {"queries": 60, "steps": 20})])
def test_a_curve_does_not_depend_on_how_the_set_is_cut(name: Any, params: dict[str, Any]) -> None:
    model, x, y = setting()
    whole = curve_of(name, model, x, y, **params)
    parts = [curve_of(name, model, x[at], y[at], np.arange(50)[at], **params) for at in (slice(0, 17), slice(17, 50))]
    np.testing.assert_array_equal(whole.fooled, np.concatenate([one.fooled for one in parts], axis=1))
    np.testing.assert_allclose(whole.distance, np.concatenate([one.distance for one in parts]), atol=1e-6)
    assert whole.queries == sum(one.queries for one in parts)


@pytest.mark.parametrize("name, params", [("pgd", {}), ("apgd", {"steps": 30}), ("mifgsm", {})])
def test_each_example_stands_where_the_attack_alone_first_fails_from_above(name: Any, params: dict[str, Any]) -> None:
    model, x, y = setting()
    curve = curve_of(name, model, x, y, **params)
    alone = np.stack(
        [
            testbed.attack(name, norm="linf", eps=float(eps), **params).run(model, x, y, seed=3).success
            for eps in curve.eps
        ]
    )
    from_above = np.logical_and.accumulate(alone[::-1])[::-1]
    assert (curve.fooled >= from_above).all() and (curve.fooled != from_above).sum() <= 3
    assert (np.diff(curve.fooled.astype(int), axis=0) >= 0).all()


def test_a_user_s_function_is_swept_a_budget_at_a_time(tmp_path: Any) -> None:
    import inspect

    file = tmp_path / "mine.py"
    file.write_text("from typing import Any\n\nimport torch\n\n\n" + inspect.getsource(shrink))
    model, x, y = setting()
    curve = curve_of(f"{file}:shrink", model, x, y)
    assert (np.diff(curve.robust_accuracy) <= 0).all() and curve.robust_accuracy[0] == 1 > curve.robust_accuracy[-1]


def test_an_attack_on_confidence_has_no_curve() -> None:
    with pytest.raises(UsageError, match="takes an attack on labels"):
        curve_of("calibration_attack", *setting())


CASES = [
    (name, norm, params)
    for name, params in {
        "fgsm": {}, "bim": {}, "pgd": {"steps": 8}, "apgd": {"steps": 25}, "apgd_t": {"steps": 10, "targets": 2},
        "square": {"queries": 40}, "fab": {"steps": 12, "restarts": 2, "hopeless": True},
    }.items()
    for norm in ("linf", "l2", "l1")
]  # fmt: skip


@pytest.mark.parametrize("name, norm, params", CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_a_budget_a_row_is_that_budget_for_each_row(name: str, norm: str, params: dict[str, Any]) -> None:
    """eps as a tensor: rows at one budget move as they do under that number."""
    model, x, y = setting()
    budgets = {"linf": (0.02, 0.05), "l2": (0.1, 0.3), "l1": (0.5, 1.5)}[norm]
    plugin = testbed.attack(name, norm=norm, eps=budgets[0], **params).plugin
    rng, which = seeding.Rng("attack:" + name, 1, 0, np.arange(50)), torch.arange(50) % 2

    def found(eps: Any) -> torch.Tensor:
        build = {"eps": eps, "norm": norm, **params}
        with frozen(model), torch.no_grad():
            out: torch.Tensor = plugin.build(**build)(Victim(model, ids=np.arange(50)), x, y, rng=rng).x
        return out

    mixed, pure = found(torch.tensor(budgets)[which]), [found(eps) for eps in budgets]
    torch.testing.assert_close(mixed, torch.where((which == 0)[:, None, None, None], *pure), atol=1e-4, rtol=0)


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

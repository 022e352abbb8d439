"""What a descent leaves at each budget: images that do what the ledger says, in their balls, monotone per example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks.pgd import PGD

import testbed
from testbed.perturb.curve import sweep
from testbed.perturb.levels import levels

EPS = [0.0, *(0.01 * k for k in range(1, 9))]


def setting() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 20), torch.nn.ReLU(), torch.nn.Linear(20, 4))
    x = torch.rand(60, 1, 6, 6)
    y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % 4
    return model, x, y


def attacks(name: str, params: dict[str, Any], eps: list[float] = EPS) -> list[Any]:
    return [testbed.attack(name, norm="linf", eps=one, **params) for one in eps]


CASES: list[tuple[str, dict[str, Any]]] = [
    ("pgd", {}), ("pgd", {"restarts": 2, "steps": 6}), ("apgd", {"steps": 20}), ("mifgsm", {}), ("fmn", {"steps": 20}),
    ("autoattack", {"queries": 60, "steps": 20}),
]  # fmt: skip


@pytest.mark.parametrize("name, params", CASES, ids=[f"{n}-{len(p)}" for n, p in CASES])
def test_every_ledger_is_true_and_the_curve_that_of_the_sweep(name: str, params: dict[str, Any]) -> None:
    model, x, y = setting()
    found = levels(attacks(name, params), model, x, y, seed=3)
    curve = sweep(lambda eps: testbed.attack(name, norm="linf", eps=eps, **params), EPS, model, x, y, seed=3)
    success = np.stack([one.success for one in found])
    assert (success[1:] >= success[:-1]).all()
    assert (success >= curve.fooled).all() and (success != curve.fooled).sum() <= 1
    for eps, one in zip(EPS, found, strict=True):
        with torch.no_grad():
            wrong = (model(one.x).argmax(1) != y).numpy()
        np.testing.assert_array_equal(one.success, wrong)
        moved = (one.x - x).abs().flatten(1).amax(1).numpy()
        assert moved.max() <= eps + 1e-6
        np.testing.assert_allclose(one.distance, moved, atol=1e-6)
        np.testing.assert_array_equal(one.first_step > 0, one.success & (np.arange(60) >= 3))
        assert (one.first_step[:3] == 0).all()
        np.testing.assert_array_equal(one.stage >= 0, one.first_step > 0)
    spent = [(int(one.gradients.sum()), int(one.queries.sum())) for one in found]
    assert tuple(np.sum(spent, axis=0)) == (curve.gradients, curve.queries)


def test_the_largest_budget_is_the_attack_alone() -> None:
    model, x, y = setting()
    *_, largest = levels(attacks("pgd", {}), model, x, y, seed=3)
    alone = testbed.attack("pgd", norm="linf", eps=EPS[-1]).run(model, x, y, seed=3)
    for name, column in alone.ledger().items():
        np.testing.assert_allclose(getattr(largest, name), column, atol=1e-6, err_msg=name)
    assert torch.allclose(largest.x, alone.x, atol=1e-6)
    assert largest.audit == pytest.approx(dict(alone.audit), abs=1e-6)


def test_passing_over_a_budget_saves_evaluations_and_changes_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = setting()
    with_it = levels(attacks("pgd", {}), model, x, y, seed=3)
    monkeypatch.setattr(PGD, "early", 0)
    without = levels(attacks("pgd", {}), model, x, y, seed=3)
    for one, other in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(one.success, other.success)
    assert sum(one.gradients.sum() for one in with_it) < sum(one.gradients.sum() for one in without)


def test_noise_that_fails_at_a_budget_is_not_tried_at_a_smaller_one() -> None:
    model, x, y = setting()
    found = levels(attacks("pgd", {"steps": 2}, [0.05, 0.2, 0.6]), model, x, y)
    noise = [one.audit["noise_success"] for one in found]
    alone = [one.run(model, x, y).audit["noise_success"] for one in attacks("pgd", {"steps": 2}, [0.05, 0.2, 0.6])]
    assert noise == sorted(noise) and noise[-1] == alone[-1] > 0
    assert all(a <= b for a, b in zip(noise, alone, strict=True))


def test_an_empty_set_has_empty_ledgers() -> None:
    model, x, y = setting()
    assert [len(one) for one in levels(attacks("pgd", {}), model, x[:0], y[:0])] == [0] * len(EPS)

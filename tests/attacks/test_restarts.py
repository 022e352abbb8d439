"""PGD with `average`: each restart judged by itself, the worst case over them unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import testbed
from testbed import seeding
from testbed.errors import PluginViolation


class Waves(torch.nn.Module):
    """A loss with many hills in a ball, so that runs from several starts end differently."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(36, 40), torch.nn.Linear(40, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.sin(20 * self.first(x.flatten(1))))
        return out


def net() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A net of waves and 60 examples, three of them labelled wrongly."""
    torch.manual_seed(0)
    model, x = Waves(), torch.rand(60, 1, 6, 6)
    y = model(x).argmax(1)
    y[:3] = (y[:3] + 1) % 4
    return model, x, y


class Halves(torch.nn.Module):
    """Flat to both sides of 0.5 and fooled above 0.5 only: a start is worth what its side is worth."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 - 2 * (x > 0.5).float() + 0 * x, 0 * x], dim=1)


@pytest.mark.verifies("pgd", by="hand", against="average: starts of a model without slope, counted by their side")
def test_the_average_over_restarts_by_hand() -> None:
    x, y = torch.full((40, 1), 0.5), torch.zeros(40, dtype=torch.long)
    out = testbed.attack("pgd", eps=0.1, steps=1, restarts=3, average=True).run(Halves(), x, y, seed=5)
    rng = seeding.Rng("attack:pgd", 1, 5, np.arange(40))
    above = [rng.uniform((1,), -1, 1, name=f"start{number}")[:, 0] > 0 for number in range(3)]
    assert out.audit["fooled_by_restart"] == [int(one.sum()) for one in above]
    each = [1 - one.mean() for one in above]
    assert len(set(each)) > 1
    assert out.audit["restart_accuracy_mean"] == pytest.approx(np.mean(each))
    assert out.audit["restart_accuracy_std"] == pytest.approx(np.std(each, ddof=1))
    assert out.success.tolist() == np.logical_or.reduce(above).tolist()


@pytest.mark.parametrize("norm, eps", [("linf", 0.02), ("l2", 0.08)])
def test_images_and_verdicts_are_those_of_restarts_that_let_examples_go(norm: str, eps: float) -> None:
    model, x, y = net()
    params: dict[str, Any] = {"norm": norm, "eps": eps, "steps": 3, "step_size": eps / 10, "restarts": 4}
    best = testbed.attack("pgd", **params).run(model, x, y)
    both = testbed.attack("pgd", average=True, **params).run(model, x, y)
    assert (both.success == best.success).all() and (both.first_step == best.first_step).all()
    torch.testing.assert_close(both.x, best.x, atol=1e-6, rtol=0)
    right = both.first_step != 0
    assert (both.queries >= best.queries).all() and both.gradients[right].min() >= 1
    assert "restart_accuracy_mean" not in best.audit


def test_the_worst_case_is_never_above_any_restart_and_the_first_is_a_run_of_one() -> None:
    model, x, y = net()
    for seed in range(3):
        out = testbed.attack("pgd", eps=0.02, steps=3, step_size=0.002, restarts=4, average=True).run(
            model, x, y, seed=seed
        )
        each = out.audit["restart_accuracy"]
        assert out.robust_accuracy <= min(each) <= out.audit["restart_accuracy_mean"] <= max(each)
        assert len(set(each)) > 1
        one = testbed.attack("pgd", eps=0.02, steps=3, step_size=0.002).run(model, x, y, seed=seed)
        assert each[0] == one.robust_accuracy
        parts = [
            testbed.attack("pgd", eps=0.02, steps=3, step_size=0.002, restarts=4, average=True).run(
                model, x[at], y[at], ids=np.arange(60)[at], seed=seed
            )
            for at in (slice(0, 25), slice(25, 60))
        ]
        counts = np.sum([part.audit["fooled_by_restart"] for part in parts], axis=0)
        assert counts.tolist() == out.audit["fooled_by_restart"]


def test_the_images_of_a_restart_are_verified_like_the_set(tmp_path: Path) -> None:
    model, x, y = net()
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom testbed.perturb.attack import Found\n\n\n"
        "def far(model, x, y, *, eps: float):\n"
        "    return Found(x, restarts=torch.stack([x, x + 3 * eps * (0.5 - x).sign()]))\n"
    )
    with pytest.raises(PluginViolation, match="left the linf ball"):
        testbed.attack(f"{path}:far", norm="linf", eps=0.01).run(model, x, y)


def test_what_an_average_cannot_be_of_is_refused() -> None:
    from testbed_attacks.pgd import PGD

    for params in ({"restarts": 1}, {"restarts": 3, "target": "second"}):
        with pytest.raises(ValueError, match="restarts of 2 or more and no target"):
            PGD(0.1, average=True, **params)

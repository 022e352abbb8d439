"""APGD and FAB against runs of pyautoattack 0.2.0 from the same starts; see tests/golden/make_autoattack.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks import ascent, sparse_ascent
from testbed_attacks.ascent import Ascent, Standing
from testbed_attacks.losses import ranked_targets, towards, towards_target
from testbed_attacks.square_bumps import bump, move, pyramid

import testbed
from testbed.perturb.geometry import per_row
from testbed.perturb.victim import Victim

EPS = {"linf": 0.09, "l2": 0.45, "l1": 1.2}


@pytest.fixture(scope="module")
def golden() -> Mapping[str, Any]:
    with np.load(Path(__file__).parents[1] / "golden" / "autoattack.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def net(golden: Mapping[str, Any]) -> torch.nn.Module:
    first, last = golden["first"], golden["last"]
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(first.shape[1], first.shape[0], bias=False),
        torch.nn.Tanh(),
        torch.nn.Linear(last.shape[1], last.shape[0], bias=False),
    )
    model[1].weight.data, model[3].weight.data = first, last
    return model.eval()


@pytest.mark.verifies(
    "apgd", "apgd_t", by="reference", against="pyautoattack 0.2.0 from the same starts: verdicts, best losses; 3 norms"
)  # fmt: skip
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "targeted"])
def test_apgd_follows_the_reference(golden: Mapping[str, Any], loss: str, norm: str) -> None:
    model, x, y = net(golden), golden["x"], golden["y"]
    noise, rows = golden[f"noise_{norm}"], torch.arange(len(golden["x"]))
    size = noise.flatten(1).abs().amax(1) if norm == "linf" else noise.flatten(1).norm(dim=1)
    start = x + noise if norm == "l1" else torch.clamp(x + EPS[norm] * noise / per_row(size, noise), 0, 1)
    target = ranked_targets(model(x).detach(), y, 1)[:, 0]
    aim = (lambda at: towards_target(y[at], target[at])) if loss == "targeted" else (lambda at: towards(loss, y[at]))
    standing, climb = Standing(x, y), sparse_ascent.climb if norm == "l1" else ascent.climb
    climb(Victim(model, ids=rows.numpy()), Ascent(EPS[norm], norm), standing, rows, start, aim)
    theirs = golden[f"apgd_{loss}_{norm}_standing"].bool()
    assert int(((standing.first < 0) != theirs).sum()) == 0 and 0 < theirs.sum() < len(x)
    gap = standing.loss[theirs] - golden[f"apgd_{loss}_{norm}_loss"][theirs]
    # rounding may send a step another way; the best loss then differs a little, in either direction
    assert gap.abs().median() < 1e-5 and gap.abs().max() < 0.02


@pytest.mark.verifies(
    "fab", by="reference", against="pyautoattack 0.2.0: distances, targeted and untargeted, linf l2 l1"
)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("targeted", [True, False])
def test_fab_finds_the_distances_of_the_reference(golden: Mapping[str, Any], targeted: bool, norm: str) -> None:
    model, x, y = net(golden), golden["x"], golden["y"]
    out = testbed.attack("fab", norm=norm, targets=3, targeted=targeted).run(model, x, y)
    theirs = golden[f"fab_t_{norm}" if targeted else f"fab_{norm}"].numpy()
    found = np.isfinite(theirs) & (theirs > 0)
    ratio = out.distance[found] / theirs[found]
    assert out.success[found].all() and found.mean() > 0.9
    assert abs(np.median(ratio) - 1) < 5e-3 and (np.abs(ratio - 1) < 0.05).mean() > 0.9


@pytest.mark.verifies("square", by="hand", against="the authors' pyramids, and what a window holds after mass is moved")
def test_square_moves_mass_between_windows() -> None:
    torch.testing.assert_close(pyramid(1, 3, 4), torch.tensor([[0.0625, 1.0625, 0.0625]]))
    for norm, order in (("l2", 2), ("l1", 1)):
        torch.testing.assert_close(torch.linalg.vector_norm(bump(7, norm), ord=order), torch.tensor(1.0))
    delta = torch.zeros(1, 1, 8, 8)
    delta[0, 0, 1, 1], delta[0, 0, 6, 6] = 0.3, 0.4
    # the bump goes to the top left, the window at the bottom right is emptied
    draws = torch.tensor([[0.0, 0.0, 0.999, 0.999, 0.0, 0.9]])
    for norm, order in (("l2", 2), ("l1", 1)):
        out = move(delta, draws, 3, 1.0, norm)
        assert out[0, 0, 5:, 5:].abs().sum() == 0 and out[0, 0, 3:].abs().sum() == 0
        # all of the budget is in the window: what both held, and what was left
        torch.testing.assert_close(torch.linalg.vector_norm(out, ord=order), torch.tensor(1.0))


def test_three_balls_of_the_l1_schedule() -> None:
    assert list(sparse_ascent.stages(100)) == [(3.0, 30), (2.0, 30), (1.0, 40)]
    assert sum(steps for _, steps in sparse_ascent.stages(7)) == 7

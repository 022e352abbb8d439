"""The contract of an attack, asked on a small fixed network whose gradients are not masked.

The runner asks the first of these questions of every real perturbed set as well; here they are asked before hours of
work depend on the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from testbed.contracts.base import Question, expect
from testbed.perturb.attack import Attack, bind, default_norm
from testbed.plugins import Plugin

N, CLASSES, SHAPE = 12, 4, (3, 8, 8)

#: A budget in each norm that the drawn images can take.
EPS = {"linf": 0.1, "l2": 0.8, "l1": 6.0, "l0": 12.0}


def questions(plugin: Plugin, params: Mapping[str, Any]) -> list[Question]:
    """All questions, for a norm and eps given among `params` or the attack's first norm and a usual budget."""
    rest = dict(params)
    norm = rest.pop("norm", default_norm(plugin))
    eps = rest.pop("eps", EPS[norm] if norm else None)
    attack = Attack(plugin, bind(plugin, rest, norm, eps), norm, eps)
    asked: list[Question] = [
        (
            f"its images keep shape, type, [0, 1] and the {norm} ball of {eps}; weights and labels stay",
            lambda: _valid(attack),
        ),
        ("it changes what it is given", lambda: _changes(attack)),
        ("the same seed gives the same images", lambda: _same(attack)),
        ("one example alone, and images of one channel, work", lambda: _sizes(attack)),
        ("an example that is wrong already keeps its image", lambda: _wrong_kept(attack)),
    ]
    if not plugin.facts["batch_coupled"]:
        asked.append(("cut or reordered, the examples get the same images", lambda: _cut(attack)))
    return asked


@cache
def _victim(channels: int = SHAPE[0]) -> Any:
    """A two-layer network written so that an example's logits do not depend on what else is in its batch."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            draws = torch.Generator().manual_seed(channels)
            inputs = channels * SHAPE[1] * SHAPE[2]
            self.first = torch.nn.Parameter(torch.randn(1, inputs, 16, generator=draws) / inputs**0.5)
            self.last = torch.nn.Parameter(torch.randn(1, 16, CLASSES, generator=draws))

        def forward(self, x: Any) -> Any:
            hidden = torch.tanh((4 * (x.flatten(1) - 0.5)[:, :, None] * self.first).sum(1))
            return (hidden[:, :, None] * self.last).sum(1)

    return Net().eval()


@cache
def _data(channels: int = SHAPE[0]) -> tuple[Any, Any, Any]:
    """Images `[n c h w]` up to the bounds, the labels the victim gives them, and ids."""
    import torch

    draws = torch.Generator().manual_seed(7)
    x = torch.rand(N, channels, *SHAPE[1:], generator=draws)
    with torch.no_grad():
        y = _victim(channels)(x).argmax(1)
    return x, y, np.arange(N) * 7 + 3


def _valid(attack: Attack) -> None:
    x, y, ids = _data()
    before = x.clone(), y.clone()
    attack.run(_victim(), x, y, ids=ids, seed=0)
    expect((x == before[0]).all() and (y == before[1]).all(), "it wrote into the images or labels that it was given")


def _changes(attack: Attack) -> None:
    x, y, ids = _data()
    out = attack(_victim(), x, y, ids=ids, seed=0)
    expect(
        attack.eps == 0 or (out != x).any(), "it gave every image back as it was, on a network that is easily fooled"
    )


def _same(attack: Attack) -> None:
    x, y, ids = _data()
    one, two = (attack(_victim(), x, y, ids=ids, seed=5) for _ in range(2))
    off = int((one != two).flatten(1).any(1).sum())
    expect(off == 0, f"{off} of {N} images differ between two runs; draw from `rng` (or `generator`) only")


def _sizes(attack: Attack) -> None:
    x, y, ids = _data()
    attack.run(_victim(), x[:1], y[:1], ids=ids[:1], seed=0)
    x, y, ids = _data(1)
    attack.run(_victim(1), x, y, ids=ids, seed=0)


def _wrong_kept(attack: Attack) -> None:
    if attack.plugin.facts["objective"] != "label":
        return
    x, y, ids = _data()
    out = attack(_victim(), x, (y + 1) % CLASSES, ids=ids, seed=0)
    expect((out == x).all(), "it changed images that were wrong already")


def _cut(attack: Attack) -> None:
    x, y, ids = _data()
    whole = attack(_victim(), x, y, ids=ids, seed=5)
    for rows in (np.arange(5), np.arange(5, N), np.arange(N)[::-1].copy()):
        part = attack(_victim(), x[rows], y[rows], ids=ids[rows], seed=5)
        off = int(((part - whole[rows]).abs() > 1e-6).flatten(1).any(1).sum())
        expect(
            off == 0,
            f"{off} of {len(rows)} images depend on what else is in the batch; draw from `rng`, reduce per example",
        )

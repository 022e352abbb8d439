"""Attacks on data that is not in [0, 1]: the box of the bounds becomes the unit box, and the model sees through it.

An attack works in the unit box, `u = (x - low) / width`, against the model of `low + u width`. So no attack needs to
know the scale of its data: budgets, allowances for rounding and the constants of a method (a first step of 0.01, a
radius of 1) mean the same whatever the bounds are.

    in grids        width feature by feature: eps is a share of each feature's range (0.1 of ages 17 to 90 is 7.3
                    years), which for images, whose range is 1, is what it always was. Categories do not move
    with `bounds=`  one width, the widest feature's, so that a ball stays a ball: eps, distances and the plug-in's
                    `lengths` (a class attribute that names parameters in the unit of eps) are in the model's own
                    scale outside and divided by the width inside. All other constants are shares of the width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from testbed.perturb import verify
from testbed.perturb.geometry import limits
from testbed.perturb.victim import device_of
from testbed.types import FLAG_CLIPPED, Array, Spec

if TYPE_CHECKING:
    from testbed.perturb.attack import Attack
    from testbed.perturb.ledger import AttackResult


class UnitBox(nn.Module):
    """`model` as a function of `u` in the unit box; `low`, `high` and `width` broadcast with its inputs.

    >>> box = UnitBox.of(nn.Identity(), Spec("tabular", (2,), 2, "float32", "f", ((0.0, 4.0), (-1.0, 1.0))))
    >>> box(torch.tensor([[0.25, 0.25]])).tolist(), box.enter(torch.tensor([[1.0, 0.0]])).tolist()
    ([[1.0, -0.5]], [[0.25, 0.5]])
    """

    low: Tensor
    high: Tensor
    width: Tensor

    def __init__(self, model: Any, low: Tensor, high: Tensor, width: Tensor) -> None:
        super().__init__()
        self.model = model
        self.training = bool(getattr(model, "training", False))
        for name, value in (("low", low), ("high", high), ("width", width)):
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def of(cls, model: Any, spec: Spec) -> UnitBox:
        """For examples of `spec` in the model's layout, each feature with a width of its own."""
        low, high = (
            torch.tensor(side, dtype=torch.float32, device=device_of(model)).reshape(
                (1, -1, *(1,) * (len(spec.model_shape) - 1))
            )
            for side in zip(*spec.bounds, strict=True)
        )
        return cls(model, low, high, (high - low).clamp_min(torch.finfo(torch.float32).tiny))

    def forward(self, u: Tensor) -> Any:
        """What the model gives at `leave(u)`."""
        return self.model(self.leave(u))

    def enter(self, x: Tensor) -> Tensor:
        """From the data's scale to the unit box; what a float32 rounds out of it is cut."""
        u = (x - self.low) / self.width
        return u.clamp_min(0).minimum((self.high - self.low) / self.width)

    def leave(self, u: Tensor) -> Tensor:
        """From the unit box to the data's scale."""
        return self.low + u * self.width

    def restored(self, u: Tensor, x: Tensor) -> Tensor:
        """`leave(u)`, with the very values of `x` where nothing moved, so that no category is rounded."""
        return torch.where(u == self.enter(x), x, self.leave(u))


@dataclass(frozen=True)
class Inside:
    """A set and attacks on it, carried into the unit box: `attacks`, `box` in the model's place, and `u`, the inputs.

    x   the inputs in their own scale, clipped to the bounds; `clipped` bool `[n]`; home the device they came from
    width   of the box, one number
    """

    attacks: list[Attack]
    box: UnitBox
    u: Tensor
    x: Tensor
    clipped: Tensor
    home: torch.device
    width: float

    def outside(self, result: AttackResult) -> AttackResult:
        """A result in the data's own scale."""
        norm = self.attacks[0].norm
        x = torch.clamp(self.box.restored(result.x, self.x), self.box.low, self.box.high).to(self.home)
        distance = result.distance if norm == "l0" else (result.distance * self.width).astype(result.distance.dtype)
        flags = result.flags | np.where(self.clipped.cpu().numpy(), FLAG_CLIPPED, 0).astype(result.flags.dtype)
        return replace(result, x=x, distance=distance, flags=flags)


def inside(attacks: Sequence[Attack], model: Any, x: Any, y: Any) -> Inside | None:
    """The attacks and the set in the unit box of the attacks' bounds; None where it is that or nothing can move.

    Raises DataError as `testbed.perturb.verify.inputs` does.
    """
    first, x = attacks[0], verify.tensor(x)
    pairs = np.asarray(first.bounds, dtype=np.float64).reshape(-1, 2)
    width = float((pairs[:, 1] - pairs[:, 0]).max(initial=0.0))
    if width == 0 or (width == 1 and not pairs[:, 0].any()):
        return None
    device, home = device_of(model), x.device
    low, high = limits(first.bounds, x, device)
    y = verify.labels(y, len(x)).to(device)
    labelled = first.plugin.facts["objective"] != "detector"
    x, clipped = verify.inputs(x.to(device), y, low, high, labelled=labelled, width=width)
    sides = [torch.as_tensor(side, dtype=torch.float32, device=device) for side in (low, high, width)]
    box = UnitBox(model, *sides)
    return Inside([_carried(one, width) for one in attacks], box, box.enter(x), x, clipped, home, width)


def _carried(attack: Attack, width: float) -> Attack:
    """The attack on inputs whose scale has been divided by `width`."""
    pairs = np.asarray(attack.bounds, dtype=np.float64)
    single = pairs.shape in ((2,), (1, 2))
    bounds: Any = (0.0, 1.0) if single else tuple((0.0, float(high - low) / width) for low, high in pairs)
    by = 1.0 if attack.norm == "l0" else width
    params, lengths = dict(attack.params), getattr(attack.plugin.loader(), "lengths", ())
    for name, unit in (("eps", by), *((name, width) for name in lengths)):
        if params.get(name) is not None:
            params[name] = params[name] / unit
    if "bounds" in params:
        params["bounds"] = bounds
    return replace(attack, params=params, eps=None if attack.eps is None else attack.eps / by, bounds=bounds)


def needed(spec: Spec) -> bool:
    """Whether the data has other bounds than [0, 1].

    >>> needed(Spec("image", (4, 4, 1), 10))
    False
    """
    return spec.bounds != ((0.0, 1.0),)


def at_rest(x: Tensor, spec: Spec) -> Array:
    """A model's input as sets are kept after an attack: series back to `[n time channels]`, all else as it is."""
    kept: Array = (x.transpose(1, 2) if spec.layout == "tc" else x).contiguous().cpu().numpy()
    return kept

"""An attack at one budget that takes up its own result at a larger one: how jobs of a grid share a security curve.

A curve in one process goes down all its budgets together (`testbed.perturb.descent`); this is one step of that, for
jobs that hold a budget each.

An example that stood at the larger budget stands here too, unless the larger image, brought into the smaller ball,
fools by itself; it is not attacked again. An example that was fooled is fooled here where that image lies in the
smaller ball, or fools when it is brought there, and is attacked from the start otherwise: draws do not depend on the
budget, so its run is the run it would have alone. An attack that minimises the distance is run once, without a budget;
a smaller budget only asks whether what it found lies inside.

So the curve is monotone, each example pays the price of an attack that fails once, at the largest budget at which it
stands, and the curve differs from separate runs only where an attack fails at a budget and would have succeeded at a
smaller one. The image that stands for an example which was not attacked again is the larger one in the smaller ball.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed.perturb.attack import Attack, Found
from testbed.perturb.execution import limits
from testbed.perturb.geometry import confine
from testbed.perturb.victim import Victim
from testbed.plugins import Plugin
from testbed.types import Array


@dataclass(frozen=True)
class Larger:
    """What an attack left at a larger budget: ids int64 `[m]` in rising order, images `[m ...]`, success bool `[m]`."""

    ids: Array
    x: Tensor
    success: Array


@dataclass(frozen=True)
class _Warm(Plugin):
    """The plug-in, built so that it takes up `larger`; its name and version, and so its draws, are the attack's own."""

    larger: Larger | None = None
    norm: str = "linf"
    eps: float = 0.0
    bounds: Any = (0.0, 1.0)

    def build(self, **params: Any) -> Any:
        """The attack with the larger result behind it."""
        assert self.larger is not None
        inner = super().build(**params)
        return _WarmStart(inner, self.larger, self.norm, self.eps, self.bounds, bool(self.facts["minimal"]))


def warmed(attack: Attack, larger: Larger) -> Attack:
    """`attack`, of which only the examples that `larger` leaves open are run."""
    known = {f.name: getattr(attack.plugin, f.name) for f in fields(Plugin)}
    plugin = _Warm(**known, larger=larger, norm=str(attack.norm), eps=float(attack.eps or 0.0), bounds=attack.bounds)
    return replace(attack, plugin=plugin)


@dataclass(frozen=True)
class _Only(Plugin):
    """The plug-in, built so that it is asked for some examples only."""

    ids: Array | None = None

    def build(self, **params: Any) -> Any:
        """The attack, which leaves all other examples as they are."""
        return _OnlyThese(super().build(**params), self.ids)


def only(attack: Attack, ids: Array) -> Attack:
    """`attack`, which leaves every example as it is whose id is not among `ids`."""
    known = {f.name: getattr(attack.plugin, f.name) for f in fields(Plugin)}
    return replace(attack, plugin=_Only(**known, ids=ids))


@dataclass(frozen=True)
class _WarmStart:
    inner: Any
    larger: Larger
    norm: str
    eps: float
    bounds: Any
    minimal: bool

    @property
    def streams(self) -> bool:
        """As the attack itself."""
        return _streams(self.inner)

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any, generator: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        at = self.larger.ids.searchsorted(rng.ids)
        low, high = limits(self.bounds, x, x.device)
        far = self.larger.x[torch.from_numpy(at)].to(x)
        near = confine(far, x, self.norm, self.eps, low, high)
        was = torch.from_numpy(self.larger.success[at]).to(x.device)
        kept = was & (near == far).flatten(1).all(1)
        first, failed = kept.long() * 2 - 1, torch.zeros_like(kept)
        rows = torch.nonzero(was & ~kept).flatten()
        if len(rows):
            fooled = model(near[rows], rows=rows).argmax(1) != y[rows]
            first[rows[fooled]] = 1
            rows = rows[~fooled]
        if self.minimal or len(rows) == 0:
            return Found(near, first, failed)
        part = _run(self.inner, model, x, y, rows, rng, generator)
        near[rows] = part.x
        if part.first_step is not None:
            steps = torch.as_tensor(part.first_step).to(rows)
            first[rows] = torch.where(steps > 0, steps + 1, -1)
        if part.failed is not None:
            failed[rows] = torch.as_tensor(part.failed).to(rows.device)
        return Found(near, first, failed, {name: _spread(value, rows, len(x)) for name, value in part.info.items()})


@dataclass(frozen=True)
class _OnlyThese:
    inner: Any
    ids: Any

    @property
    def streams(self) -> bool:
        """As the attack itself."""
        return _streams(self.inner)

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any, generator: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        rows = torch.from_numpy(np.flatnonzero(np.isin(rng.ids, self.ids))).to(x.device)
        out, first = x.clone(), torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        if len(rows) == 0:
            return Found(out, first)
        part = _run(self.inner, model, x, y, rows, rng, generator)
        out[rows] = part.x
        if part.first_step is not None:
            first[rows] = torch.as_tensor(part.first_step).to(first)
        return Found(out, first, None, {name: _spread(value, rows, len(x)) for name, value in part.info.items()})


def _streams(attack: Any) -> bool:
    return bool(getattr(attack, "streams", False))


def _run(attack: Any, model: Victim, x: Tensor, y: Tensor, rows: Tensor, rng: Any, generator: Any) -> Found:
    """The attack on some rows, with the draws it asks for."""
    draws = {"rng": rng.take(rows.cpu().numpy()), "generator": generator}
    asked = inspect.signature(attack).parameters
    out = attack(model.take(rows), x[rows].clone(), y[rows], **{k: v for k, v in draws.items() if k in asked})
    return out if isinstance(out, Found) else Found(out)


def _spread(value: Any, rows: Tensor, n: int) -> Any:
    """A value an attacked row, laid out over all rows with -1 elsewhere; anything else as it is."""
    if not isinstance(value, Tensor) or value.shape != rows.shape:
        return value
    whole = torch.full((n,), -1, dtype=value.dtype, device=value.device)
    whole[rows] = value
    return whole

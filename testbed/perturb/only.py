"""An attack that is asked for some examples only: what another attack left standing, for example."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed.perturb import aims
from testbed.perturb.attack import Attack, Found
from testbed.perturb.victim import Victim
from testbed.plugins import Plugin
from testbed.types import Array


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
class _OnlyThese:
    inner: Any
    ids: Any

    @property
    def streams(self) -> bool:
        """As the attack itself."""
        return bool(getattr(self.inner, "streams", False))

    @property
    def fresh_draws(self) -> int:
        """As the attack itself."""
        return int(getattr(self.inner, "fresh_draws", 1))

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any, generator: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        rows = torch.from_numpy(np.flatnonzero(np.isin(rng.ids, self.ids))).to(x.device)
        out, first = x.clone(), torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        if len(rows) == 0:
            return Found(out, first)
        draws = {"rng": rng.take(rows.cpu().numpy()), "generator": generator}
        asked = inspect.signature(self.inner).parameters
        given = {name: value for name, value in draws.items() if name in asked}
        inner = aims.some(self.inner, rows.cpu().numpy())
        part = inner(model.take(rows), x[rows].clone(), y[rows], **given)
        part = part if isinstance(part, Found) else Found(part)
        out[rows] = part.x
        if part.first_step is not None:
            first[rows] = torch.as_tensor(part.first_step).to(first)
        return Found(out, first, None, {name: _spread(value, rows, len(x)) for name, value in part.info.items()})


def _spread(value: Any, rows: Tensor, n: int) -> Any:
    """A value an attacked row, laid out over all rows with -1 elsewhere; anything else as it is."""
    if not isinstance(value, Tensor) or value.shape != rows.shape:
        return value
    whole = torch.full((n,), -1, dtype=value.dtype, device=value.device)
    whole[rows] = value
    return whole

"""The descent of FMN inside a ball whose radius follows the boundary; see `fmn`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from testbed.perturb.geometry import length, limits
from testbed.perturb.victim import Victim

from .balls import into_l1_box
from .closest import Closest
from .hyperplane import DUAL
from .losses import Rows

if TYPE_CHECKING:
    from .fmn import FMN

#: Rows of the set -> their loss, which rises towards the boundary: -L of the paper.
Rise = Callable[[Tensor], Rows]

#: A radius estimated from the gradient reaches this far beyond the linearised boundary, so that rounding cannot keep
#: an iterate on the near side of it for ever.
OVERSHOOT = 1.001


@dataclass
class Descent:
    """The rows still descending. `now` is x + d, flat; `reach` the closest fooled distance of this run."""

    rows: Tensor
    x0: Tensor
    now: Tensor
    radius: Tensor
    reach: Tensor

    def keep(self, which: Tensor) -> Descent:
        """The rows that `which` marks."""
        return Descent(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


def descend(fmn: FMN, model: Victim, closest: Closest, rows: Tensor, rise: Rise) -> None:
    """One run for these rows from their clean images; leaves what it found in `closest`."""
    x0 = closest.x[rows].flatten(1)
    far = torch.full((len(rows),), float("inf"), dtype=torch.float64, device=x0.device)
    here = Descent(rows, x0, x0.clone(), torch.zeros_like(far) if fmn.norm == "l0" else far, far)
    low, high = limits(fmn.bounds, closest.x, closest.x.device)
    if not isinstance(low, float):
        low, high = (bound.expand_as(closest.x[:1]).flatten(1) for bound in (low, high))
    for step in range(fmn.steps):
        if len(here.rows) == 0:
            break
        gradient, value, logits = model.gradient(_images(closest, here), rise(here.rows), rows=here.rows)
        fooled = _note(closest, here, logits, step + 1)
        here.radius = _radius(fmn, here, gradient.flatten(1), value, fooled, step)
        here.now = _step(fmn, here, gradient.flatten(1), step, low, high)
        here = here.keep(~closest.done(here.rows))
    if len(here.rows):
        logits = model(_images(closest, here), rows=here.rows)
        fooled = _note(closest, here, logits, fmn.steps + 1)
        closest.offer(here.rows[~fooled], here.now[~fooled], logits[~fooled])
    closest.spent += fmn.steps + 1


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """Half a cosine from `first` at step 0 to `last` at step `steps`.

    >>> [round(cosine(1.0, 0.0, step, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def _images(closest: Closest, here: Descent) -> Tensor:
    return here.now.reshape(-1, *closest.x.shape[1:])


def _note(closest: Closest, here: Descent, logits: Tensor, evaluation: int) -> Tensor:
    """Which of the rows are fooled where they are; recorded, with their distances."""
    fooled = closest.fooled(here.rows, logits)
    if bool(fooled.any()):
        distance = closest.note(here.rows[fooled], _images(closest, here)[fooled], evaluation)
        here.reach[fooled] = torch.minimum(here.reach[fooled], distance)
    return fooled


def _radius(fmn: FMN, here: Descent, gradient: Tensor, value: Tensor, fooled: Tensor, step: int) -> Tensor:
    """The next radius of each row, float64 `[m]`."""
    gamma = cosine(*fmn.gammas, step, fmn.steps)
    smaller, larger = here.radius * (1 - gamma), here.radius * (1 + gamma)
    if fmn.norm == "l0":
        smaller = torch.minimum(smaller.floor(), here.radius - 1).clamp_min(0)
        larger = torch.maximum(larger.floor(), here.radius + 1)
    else:
        slope = torch.linalg.vector_norm(gradient, ord=DUAL[fmn.norm], dim=1).double().clamp_min(1e-12)
        linear = length(here.now - here.x0, fmn.norm) + value.double().abs() / slope
        larger = torch.where(here.reach.isinf(), linear * OVERSHOOT, larger)
    return torch.where(fooled, torch.minimum(smaller, here.reach), larger)


def _step(fmn: FMN, here: Descent, gradient: Tensor, step: int, low: Any, high: Any) -> Tensor:
    alpha = cosine(*fmn.alphas, step, fmn.steps)
    size = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-30)
    moved = here.now - here.x0 + alpha * gradient / size
    return into_ball(moved, here.x0, fmn.norm, here.radius[:, None].float(), low, high)


def into_ball(delta: Tensor, x: Tensor, norm: str, radius: Tensor, low: Any, high: Any) -> Tensor:
    """x + delta moved into the ball of each row's radius `[m 1]` and into the box; delta and x `[m d]`.

    In l0 the values kept are those whose removal would move delta furthest, given that each is clipped to the box.

    >>> x, delta = torch.tensor([[0.5, 0.5, 0.9]]), torch.tensor([[0.3, -0.2, 0.35]])
    >>> into_ball(delta, x, "l0", torch.tensor([[1.0]]), 0.0, 1.0)
    tensor([[0.8000, 0.5000, 0.9000]])
    """
    if norm == "linf":
        return torch.clamp(x + torch.minimum(torch.maximum(delta, -radius), radius), low, high)
    if norm == "l1":
        return torch.clamp(x + into_l1_box(delta, x, radius, low, high), low, high)
    if norm == "l2":
        return torch.clamp(x + _into_l2_box(delta, x, radius, low, high), low, high)
    inside = torch.clamp(x + delta, low, high)
    gain = delta**2 - (x + delta - inside) ** 2
    rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return torch.where(rank < radius, inside, x)


def _into_l2_box(delta: Tensor, x: Tensor, radius: Tensor, low: Any, high: Any) -> Tensor:
    """clip(s delta) with the largest s <= 1 that meets the radius: the box is used up before the ball shrinks it."""
    size, room = delta.abs(), torch.where(delta > 0, high - x, x - low)
    below = (radius / torch.linalg.vector_norm(delta, dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1.0)
    above = torch.ones_like(below)
    for _ in range(20):
        middle = (below + above) / 2
        much = torch.linalg.vector_norm(torch.minimum(middle * size, room), dim=1, keepdim=True) > radius
        below, above = torch.where(much, below, middle), torch.where(much, middle, above)
    return delta.sign() * torch.minimum(below * size, room)

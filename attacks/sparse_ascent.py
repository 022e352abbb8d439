"""Auto-PGD for l1: sparse steps in a ball that shrinks from 3 eps to eps (Croce and Hein 2021, section 4).

    three stages, at 3 eps, 2 eps and eps, of 30, 30 and 40 of every 100 steps; each starts from the best point of the
    one before, projected on its ball; only the last can fool
    z = P(x_k + step * sign(g_k) / |sign(g_k)|_1),   g_k = the gradient's largest entries, P = onto ball and box
    share of entries kept = |x_best - x|_0 / (1.5 d), looked at every max(4 % of the stage's steps, 1)
    where |x_best - x|_0 fell by 5 % or more since: step = eps and back to the best point; elsewhere step / 1.5,
    at least eps / 10

There is no momentum. All state is per example, and an example leaves at its first fooled iterate of the last stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from testbed.perturb.geometry import Budget, budget_of, limits, per_row
from testbed.perturb.victim import Victim

from .ascent import Ascent, Standing, fooled_now
from .balls import project_in_place
from .losses import Rows
from .sampling import gradient_of

#: Share of the entries that differ, of the share kept at the next step.
SPARSER = 1.5
#: The step is never smaller than this share of its largest value.
LEAST_STEP = 0.1


def stages(steps: int) -> Iterator[tuple[float, int]]:
    """Radius in eps, and steps, of each stage.

    >>> list(stages(100)), list(stages(10))
    ([(3.0, 30), (2.0, 30), (1.0, 40)], [(3.0, 3), (2.0, 3), (1.0, 4)])
    """
    wide = min(math.ceil(0.3 * steps), steps // 2)
    yield 3.0, wide
    yield 2.0, wide
    yield 1.0, steps - 2 * wide


@dataclass
class State:
    """One row an ascent still under way, as `ascent.State`; `share` of the entries is kept, `sparse` = |best - x|_0."""

    rows: Tensor
    x0: Tensor
    now: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    share: Tensor
    sparse: Tensor

    def keep(self, which: Tensor) -> State:
        """The rows that `which` marks."""
        return State(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


def climb(
    model: Victim, ascent: Ascent, standing: Standing, rows: Tensor, now: Tensor, aim: Callable[[Tensor], Rows]
) -> None:
    """Run the three stages; leaves what the last one found in `standing`."""
    low, high = limits(ascent.bounds, now, now.device)
    spent = 0
    for radius, steps in stages(ascent.steps):
        eps = radius * budget_of(ascent.eps, rows)
        project_in_place(now, standing.x[rows], "l1", eps, low, high)
        state, logits = _begin(model, ascent, eps, standing, rows, now, aim)
        if radius == 1.0:
            _last(model, ascent, standing, _drop(model, ascent, standing, state, logits, spent + 1), aim, steps, spent)
        else:
            for done in range(1, steps + 1):
                _go(model, ascent, eps, state, aim, done, steps, low, high)
            now, spent = state.best.clone(), spent + steps + 1


def _last(model: Victim, ascent: Ascent, standing: Standing, state: State, aim: Any, steps: int, spent: int) -> None:
    """The stage that counts: fooled rows leave."""
    low, high = limits(ascent.bounds, state.now, state.now.device)
    for done in range(1, steps + 1):
        if len(state.rows) == 0:
            return
        logits = _go(model, ascent, budget_of(ascent.eps, state.rows), state, aim, done, steps, low, high)
        state = _drop(model, ascent, standing, state, logits, spent + done + 1)
    standing.offer(state.rows, state.best, state.best_loss)


def _begin(
    model: Victim, ascent: Ascent, eps: Budget, standing: Standing, rows: Tensor, now: Tensor, aim: Any
) -> tuple[State, Tensor]:
    gradient, loss, logits = gradient_of(model, now, aim(rows), rows, ascent.eot)
    x0 = standing.x[rows]
    sparse = _changed(now, x0)
    share = sparse / x0[0].numel() / SPARSER
    step = torch.zeros_like(loss) + eps
    return State(rows, x0, now, gradient, now.clone(), gradient, loss, step, share, sparse), logits


def _go(
    model: Victim, ascent: Ascent, eps: Budget, state: State, aim: Any, done: int, steps: int, low: Any, high: Any
) -> Tensor:
    """One step in place, its evaluation, and the look at progress where it is due; the logits."""
    new = state.now + _sparse_step(state)
    project_in_place(new, state.x0, "l1", eps, low, high)
    state.now = new
    state.gradient, loss, logits = gradient_of(model, new, aim(state.rows), state.rows, ascent.eot)
    better = loss > state.best_loss
    mask = per_row(better, new)
    state.best = torch.where(mask, new, state.best)
    state.best_gradient = torch.where(mask, state.gradient, state.best_gradient)
    state.best_loss = torch.where(better, loss, state.best_loss)
    if done % max(int(0.04 * steps), 1) == 0:
        _look(state, eps)
    return logits


def _sparse_step(state: State) -> Tensor:
    """step * sign(g) / |sign(g)|_1 of the entries kept."""
    flat = state.gradient.flatten(1)
    size, d = flat.abs(), flat.shape[1]
    rank = ((1 - state.share) * d).long().clamp(0, d - 1)
    least = size.sort(dim=1).values.gather(1, rank[:, None])
    sign = torch.where(size >= least, flat.sign(), torch.zeros_like(flat))
    each = state.step / (sign.abs().sum(1) + 1e-10)
    return (sign * each[:, None]).reshape(state.now.shape)


def _look(state: State, eps: Budget) -> None:
    sparse = _changed(state.best, state.x0)
    fell = sparse / state.sparse < 0.95
    state.share = sparse / state.x0[0].numel() / SPARSER
    largest = torch.zeros_like(state.step) + eps
    state.step = torch.where(fell, largest, state.step / SPARSER).clamp_min(LEAST_STEP * eps)
    state.sparse = sparse
    mask = per_row(fell, state.now)
    state.now = torch.where(mask, state.best, state.now)
    state.gradient = torch.where(mask, state.best_gradient, state.gradient)


def _changed(x: Tensor, x0: Tensor) -> Tensor:
    return (x != x0).flatten(1).sum(1).to(x.dtype)


def _drop(model: Victim, ascent: Ascent, standing: Standing, state: State, logits: Tensor, evaluation: int) -> State:
    fooled = fooled_now(model, ascent, standing, state.rows, state.now, logits)
    if not bool(fooled.any()):
        return state
    standing.note(state.rows[fooled], state.now[fooled], evaluation)
    return state.keep(~fooled)

"""The engine of auto-PGD: many independent ascents, one a row, that shrink as rows are fooled. See `apgd`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import Budget, budget_of, limits, per_row
from testbed.perturb.victim import Victim

from .balls import project_in_place, start, step_along
from .losses import Rows
from .sampling import confirmed, gradient_of

#: A run is hopeless where even this many times its recent pace would not take it to success in the steps left.
OPTIMISM = 2.0


@dataclass(frozen=True)
class Ascent:
    """What one ascent is run with; see `apgd.APGD` for the meaning of each.

    hopeless   end a run after the second checkpoint where twice the pace since the first would not bring its loss
               above zero; only for losses that are positive exactly where the aim is reached
    """

    eps: Budget
    norm: str
    steps: int = 100
    rho: float = 0.75
    eot: int = 1
    bounds: Any = (0.0, 1.0)
    hopeless: bool = False
    judge: int = 1

    def checkpoints(self) -> dict[int, int]:
        """Number of steps done -> steps since the checkpoint before.

        >>> list(Ascent(0.1, "linf").checkpoints())
        [22, 41, 57, 70, 80, 87, 93, 99]
        """
        period, least, shrink = (max(int(share * self.steps), 1) for share in (0.22, 0.06, 0.03))
        found, done = {}, period
        while done <= self.steps:
            found[done] = period
            period = max(period - shrink, least)
            done += period
        return found


@dataclass
class State:
    """One row an ascent still under way. `rows` are positions in the set; `x0` the clean input."""

    rows: Tensor
    x0: Tensor
    now: Tensor
    before: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    last_loss: Tensor
    step: Tensor
    rises: Tensor
    halved: Tensor
    mark: Tensor

    def keep(self, which: Tensor) -> State:
        """The rows that `which` marks."""
        return State(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


class Standing:
    """Who still stands over several runs, and each example's image: first fooled, else the one of highest loss.

    held   bool `[n]`: examples that never count as fooled (`Victim.held`)
    aim    int64 `[n]`: the classes of a targeted attack; an example is then fooled where it is given that class
    """

    def __init__(self, x: Tensor, y: Tensor, held: Tensor | None = None, aim: Tensor | None = None) -> None:
        self.x, self.y, self.held, self.aim = x, y, held, aim
        self.best, self.loss = x.clone(), torch.full((len(x),), float("-inf"), device=x.device)
        self.first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        self.spent = 0

    @property
    def rows(self) -> Tensor:
        """Positions of the examples not fooled yet."""
        return torch.nonzero(self.first < 0).flatten()

    def attack(self, aim: Callable[[Tensor], Rows], ascent: Ascent, model: Victim, rng: Any, name: str) -> None:
        """One ascent from a random start on everybody standing; `aim(rows)` is the loss for those rows."""
        rows = self.rows
        if len(rows) == 0:
            return
        low, high = limits(ascent.bounds, self.x, self.x.device)
        now = start(
            self.x[rows], ascent.norm, budget_of(ascent.eps, rows), rng.take(rows.cpu().numpy()), name, low, high
        )
        if ascent.norm == "l1":
            from . import sparse_ascent

            sparse_ascent.climb(model, ascent, self, rows, now, aim)
            self.spent += ascent.steps + 3
            return
        climb(model, ascent, self, rows, now, aim)
        self.spent += ascent.steps + 1

    def fooled(self, predicted: Tensor, rows: Tensor) -> Tensor:
        """Which rows these predictions make fooled; none whose verdict is withheld (`Victim.held`)."""
        found = predicted != self.y[rows] if self.aim is None else predicted == self.aim[rows]
        return found if self.held is None else found & ~self.held[rows]

    def note(self, rows: Tensor, x: Tensor, evaluation: int) -> None:
        """These rows are fooled, by these images, at this evaluation of the current run."""
        self.best[rows] = x
        self.first[rows] = self.spent + evaluation

    def offer(self, rows: Tensor, x: Tensor, loss: Tensor) -> None:
        """The highest-loss iterates of a run that did not fool these rows."""
        better = loss > self.loss[rows]
        self.best[rows[better]] = x[better]
        self.loss[rows[better]] = loss[better]

    def found(self, **info: object) -> Found:
        """What the attack returns."""
        return Found(self.best, self.first, None, info)


def climb(
    model: Victim, ascent: Ascent, standing: Standing, rows: Tensor, now: Tensor, aim: Callable[[Tensor], Rows]
) -> None:
    """Run the ascent; leaves what it found in `standing`."""
    low, high = limits(ascent.bounds, now, now.device)
    gradient, loss, logits = gradient_of(model, now, aim(rows), rows, ascent.eot)
    state = _begin(ascent, standing, rows, now, gradient, loss)
    state = _drop_fooled(model, ascent, standing, state, logits, 1)
    checkpoints = ascent.checkpoints()
    second = next(iter(list(checkpoints)[1:]), 0)
    for done in range(1, ascent.steps + 1):
        if len(state.rows) == 0:
            return
        _advance(state, ascent, done, low, high)
        if done < ascent.steps:
            state.gradient, loss, logits = gradient_of(model, state.now, aim(state.rows), state.rows, ascent.eot)
        else:
            logits = model(state.now, rows=state.rows)
            loss = aim(state.rows)(logits, slice(None))
        _record(state, loss, done)
        state = _drop_fooled(model, ascent, standing, state, logits, done + 1)
        if done in checkpoints and ascent.hopeless and done == second:
            pace = OPTIMISM * (state.best_loss - state.mark) / checkpoints[done]
            state = _give_up(standing, state, state.best_loss + pace * (ascent.steps - done) < 0)
        if done in checkpoints:
            _checkpoint(state, ascent, checkpoints[done])
    standing.offer(state.rows, state.best, state.best_loss)


def _give_up(standing: Standing, state: State, which: Tensor) -> State:
    """Let go of runs that will not get there; their best iterates count like those of any run that failed."""
    standing.offer(state.rows[which], state.best[which], state.best_loss[which])
    return state.keep(~which)


def _begin(ascent: Ascent, standing: Standing, rows: Tensor, now: Tensor, gradient: Tensor, loss: Tensor) -> State:
    steps = torch.zeros(len(rows), device=now.device) + 2.0 * budget_of(ascent.eps, rows)
    return State(
        rows, standing.x[rows], now, now.clone(), gradient, now.clone(), gradient, loss.clone(), torch.zeros_like(loss),
        steps, torch.zeros_like(loss), torch.ones_like(loss, dtype=torch.bool), loss.clone(),
    )  # fmt: skip


def _advance(state: State, ascent: Ascent, done: int, low: Any, high: Any) -> None:
    """x_{k+1} from x_k: a gradient step, then momentum, both projected."""
    new, eps = step_along(state.now, state.gradient, ascent.norm, state.step), budget_of(ascent.eps, state.rows)
    project_in_place(new, state.x0, ascent.norm, eps, low, high)
    if done > 1:
        # x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})
        new.mul_(0.75).add_(state.now, alpha=0.5).sub_(state.before, alpha=0.25)
        project_in_place(new, state.x0, ascent.norm, eps, low, high)
    state.before, state.now = state.now, new


def _record(state: State, loss: Tensor, done: int) -> None:
    state.rises += loss > state.last_loss
    better = loss > state.best_loss
    state.last_loss = loss
    if bool(better.any()):
        mask = per_row(better, state.now)
        state.best = torch.where(mask, state.now, state.best)
        state.best_gradient = torch.where(mask, state.gradient, state.best_gradient)
        state.best_loss = torch.where(better, loss, state.best_loss)


def _checkpoint(state: State, ascent: Ascent, period: int) -> None:
    """Halve the step where progress has stalled, and go back to the best iterate there."""
    stalled = (state.rises <= ascent.rho * period) | (~state.halved & (state.mark >= state.best_loss))
    state.halved, state.mark, state.rises = stalled, state.best_loss.clone(), torch.zeros_like(state.rises)
    state.step = torch.where(stalled, state.step / 2, state.step)
    mask = per_row(stalled, state.now)
    state.now = torch.where(mask, state.best, state.now)
    state.gradient = torch.where(mask, state.best_gradient, state.gradient)


def _drop_fooled(
    model: Victim, ascent: Ascent, standing: Standing, state: State, logits: Tensor, evaluation: int
) -> State:
    fooled = fooled_now(model, ascent, standing, state.rows, state.now, logits)
    if not bool(fooled.any()):
        return state
    standing.note(state.rows[fooled], state.now[fooled], evaluation)
    return state.keep(~fooled)


def fooled_now(model: Victim, ascent: Ascent, standing: Standing, rows: Tensor, now: Tensor, logits: Tensor) -> Tensor:
    """Which rows are fooled; where `judge` asks for fresh draws, those that seem so must be fooled by them too."""
    return confirmed(model, now, rows, logits, standing.fooled, ascent.judge)

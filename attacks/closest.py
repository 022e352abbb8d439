"""What a minimum-norm attack keeps: the closest fooling image of each example, and whether the budget holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import Budget, budget_of, length
from testbed.perturb.victim import Victim

from .losses import Rows, aims, margin

#: x + d - x `[m ...]` -> its size, float64 `[m]`.
Measure = Callable[[Tensor], Tensor]


class Closest:
    """Each example's closest fooled iterate; without one, the iterate nearest to being fooled.

    aim      int64 `[n]`, the class each example is sent to: then only being given that class counts as fooled
    measure  what closest means; the length in `norm` where absent
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        eps: Budget | None,
        norm: str,
        classes: int = 0,
        aim: Tensor | None = None,
        measure: Measure | None = None,
    ) -> None:
        self.x, self.y, self.classes, self.aim = x, y, classes, aim
        self.measure: Measure = measure or (lambda delta: length(delta, norm))
        self.eps: Budget = float("-inf") if eps is None else eps
        self.best, self.margin = x.clone(), torch.full((len(x),), float("-inf"), device=x.device)
        self.distance = torch.full((len(x),), float("inf"), dtype=torch.float64, device=x.device)
        self.first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        self.spent = 0

    @classmethod
    def aimed(
        cls, attack: Any, model: Victim, x: Tensor, y: Tensor, rng: Any, measure: Measure | None = None
    ) -> Closest:
        """Of an attack with `eps`, `norm` and `target`: none, or the classes that `aims` chooses by clean logits."""
        aim = None
        if attack.target != "none":
            aim = aims(attack.target, model(x, rows=torch.arange(len(x), device=x.device)), y, rng)
        return cls(x, y, attack.eps, attack.norm, aim=aim, measure=measure)

    @property
    def standing(self) -> Tensor:
        """Examples without a fooled iterate inside the ball."""
        return torch.nonzero(~(self.distance <= self.eps)).flatten()

    def done(self, rows: Tensor) -> Tensor:
        """Which of these rows have a fooled iterate inside the ball."""
        return self.distance[rows] <= budget_of(self.eps, rows)

    def fooled(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Which of these rows' logits `[m k]` are those of a fooled model."""
        given = logits.argmax(1)
        return given != self.y[rows] if self.aim is None else given == self.aim[rows]

    def rise(self, loss: Callable[[Tensor, Tensor], Tensor], rows: Tensor) -> Rows:
        """A loss that rises as a label loses: of the rows' labels or, turned round, of the classes they are sent to."""
        if self.aim is None:
            own = self.y[rows]
            return lambda z, at: loss(z, own[at])
        goal = self.aim[rows]
        return lambda z, at: -loss(z, goal[at])

    def see(self, rows: Tensor, x: Tensor, logits: Tensor, evaluation: int, enough: Tensor | bool = True) -> Tensor:
        """Record the iterates x `[m ...]` that fool and are `enough`; bool `[m]`, which they are."""
        fooled = self.fooled(rows, logits) & enough
        if bool(fooled.any()):
            self.note(rows[fooled], x[fooled], evaluation)
        return fooled

    def note(self, rows: Tensor, x: Tensor, evaluation: int | Tensor) -> Tensor:
        """Fooled iterates of these rows, found by this evaluation, one number or one a row; their distances."""
        distance = self.measure(x - self.x[rows])
        closer = distance < self.distance[rows]
        at = rows[closer]
        found = evaluation[closer] if isinstance(evaluation, Tensor) else evaluation
        self.best[at], self.distance[at], self.first[at] = x[closer], distance[closer], self.spent + found
        return distance

    def offer(self, rows: Tensor, x: Tensor, logits: Tensor) -> None:
        """Last iterates that did not fool: they stand for examples that nothing has fooled."""
        gap = self.rise(margin, rows)(logits, slice(None))
        better = self.distance[rows].isinf() & (gap > self.margin[rows])
        at = rows[better]
        self.best[at], self.margin[at] = x[better].reshape(-1, *self.x.shape[1:]), gap[better]

    def found(self, **info: object) -> Found:
        """What the attack returns; distances of the fooled ones are in the images."""
        reached = {} if self.aim is None else {"targets_reached": int(self.distance.isfinite().sum())}
        return Found(self.best, self.first, None, {**reached, **info})

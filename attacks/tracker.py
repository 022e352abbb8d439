"""Which image stands for each example, kept while an attack runs.

Rule: fooled -> the first fooled iterate; not fooled -> the iterate of highest loss seen. Attacks report every model
evaluation with `see` and go on with the rows it returns, so no example is worked on after it is fooled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from testbed.perturb.attack import Found


class Tracker:
    """The best iterate of each example.

    x, y   the set: `[n ...]`, int64 `[n]`
    aim    int64 `[n]`: the classes of a targeted attack; an example is then fooled where it is given that class
    held   bool `[n]`: examples that never count as fooled (`Victim.held`)

    >>> tracker = Tracker(torch.zeros(2, 1), torch.tensor([0, 0]))
    >>> logits = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> tracker.see(torch.tensor([0, 1]), torch.ones(2, 1), logits, torch.tensor([1.3, 0.3])).tolist()
    [False, True]
    >>> tracker.first.tolist()
    [1, -1]
    """

    def __init__(self, x: Tensor, y: Tensor, aim: Tensor | None = None, held: Tensor | None = None) -> None:
        self.y, self.aim, self.held = y, aim, held
        self.best = x.clone()
        self.loss = torch.full((len(x),), float("-inf"), device=x.device)
        self.first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        self.seen = torch.zeros(len(x), dtype=torch.long, device=x.device)

    @property
    def standing(self) -> Tensor:
        """Rows not fooled yet, in order."""
        return torch.nonzero(self.first < 0).flatten()

    def see(self, rows: Tensor, x: Tensor, logits: Tensor, loss: Tensor, fooled: Tensor | None = None) -> Tensor:
        """Record one evaluation of the standing examples `rows`; bool `[m]`, which of them still stand.

        fooled   where an example counts as fooled by another rule than these logits (fresh draws of a randomised model)
        """
        fooled = self.fooled(logits.argmax(1), rows) if fooled is None else fooled
        self.seen[rows] += 1
        better = fooled | (loss > self.loss[rows])
        if bool(better.any()):
            kept = rows[better]
            self.best[kept] = x[better]
            self.loss[kept] = loss[better].float()
        if bool(fooled.any()):
            self.first[rows[fooled]] = self.seen[rows[fooled]]
        return ~fooled

    def follow(self, run: Tracker) -> None:
        """Take up a run of its own on all examples, as if only those still standing here had been in it."""
        stand, fooled = self.first < 0, run.first > 0
        better = stand & (fooled | (run.loss > self.loss))
        self.best[better], self.loss[better] = run.best[better], run.loss[better]
        now = stand & fooled
        self.first[now] = self.seen[now] + run.first[now]
        self.seen[stand] += run.seen[stand]

    def fooled(self, predicted: Tensor, rows: Tensor) -> Tensor:
        """Which rows these predictions make fooled: misclassified, or given their target class."""
        found = predicted != self.y[rows] if self.aim is None else predicted == self.aim[rows]
        return found if self.held is None else found & ~self.held[rows]

    def found(self, **info: object) -> Found:
        """What the attack returns."""
        return Found(self.best, self.first, None, info)

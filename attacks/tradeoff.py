"""What C&W and EAD share: the weight c of being fooled against being close, found by bisection for each example.

Both minimise D(x' - x) + c max(confidence - lead, 0), where lead > 0 is fooled. A run with a c that fooled halves the
way to the largest c known to fail, one that did not goes half the way to the smallest known to fool, or ten times as
far while none is known. Of ten rounds or more the last has the smallest known to fool (authors' code).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .closest import Closest

#: Each tenth of a run a loss must be below this share of what it was (the authors' code of both papers).
PROGRESS = 0.9999


def bisect(closest: Closest, initial: float, rounds: int, run: Callable[[Tensor, Tensor], Tensor]) -> None:
    """All rounds, each for the examples without a fooled iterate inside the ball.

    run   rows int64 `[m]` and their c, float32 `[m]` -> bool `[m]`, which of them this c fooled
    """
    search = Bisection(len(closest.x), initial, closest.x.device)
    for number in range(rounds):
        rows = closest.standing
        if len(rows) == 0:
            break
        c = search.settled(rows) if number == rounds - 1 and rounds >= 10 else search.c[rows]
        search.learn(rows, c, run(rows, c.float()))


class Bisection:
    """c of each example, float64 `[n]`, between the largest that failed and the smallest that fooled.

    >>> search = Bisection(1, 1.0)
    >>> for fooled in (False, True, True):
    ...     search.learn(torch.tensor([0]), search.c, torch.tensor([fooled]))
    >>> search.c.tolist()  # 1 fails, 10 fools, (1 + 10) / 2 fools
    [3.25]
    """

    def __init__(self, n: int, initial: float, device: torch.device | None = None) -> None:
        self.c = torch.full((n,), initial, dtype=torch.float64, device=device)
        self.failed, self.fooled = torch.zeros_like(self.c), torch.full_like(self.c, float("inf"))

    def learn(self, rows: Tensor, c: Tensor, fooled: Tensor) -> None:
        """What runs of these rows with these c came to; sets their next c."""
        least = torch.where(fooled, torch.minimum(self.fooled[rows], c), self.fooled[rows])
        most = torch.where(fooled, self.failed[rows], torch.maximum(self.failed[rows], c))
        self.c[rows] = torch.where(least.isinf(), 10 * c, (most + least) / 2)
        self.fooled[rows], self.failed[rows] = least, most

    def settled(self, rows: Tensor) -> Tensor:
        """The smallest c that fooled, or the next to try where none has."""
        return torch.where(self.fooled[rows].isinf(), self.c[rows], self.fooled[rows])


class Progress:
    """Whether the losses of a run still fall, looked at each tenth of its steps.

    >>> progress = Progress(torch.zeros(2), 100)
    >>> progress.stuck(0, lambda: torch.tensor([1.0, 1.0])).tolist()
    [False, False]
    >>> progress.stuck(10, lambda: torch.tensor([0.9, 1.0])).tolist()
    [False, True]
    """

    def __init__(self, like: Tensor, steps: int, watch: bool = True) -> None:
        self.every, self.watch = max(steps // 10, 1), watch
        self.mark = torch.full_like(like, float("inf"))

    def stuck(self, step: int, losses: Callable[[], Tensor]) -> Tensor:
        """bool `[m]`: whose loss `[m]`, computed only when it is looked at, has not fallen since the last look."""
        if not self.watch or step % self.every:
            return torch.zeros_like(self.mark, dtype=torch.bool)
        last, self.mark = self.mark, losses()
        return self.mark > PROGRESS * last

    def keep(self, which: Tensor) -> None:
        """The rows that `which` marks."""
        self.mark = self.mark[which]

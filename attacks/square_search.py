"""The search of the square attack over windows of +-eps, and what both searches share; see `square` for the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import limits, spread
from testbed.perturb.victim import Victim

from .losses import aims, cross_entropy, margin
from .square import BLOCK, CLOSE, PACE, side

if TYPE_CHECKING:
    from .square import Square


@dataclass
class Search:
    """The standing examples of a search: their positions, images and losses, and everybody's outcome."""

    model: Victim
    y: Tensor
    rows: Tensor
    now: Tensor
    loss: Tensor
    out: Tensor
    first: Tensor
    mark: Tensor
    aim: Tensor | None = None

    @classmethod
    def begin(cls, attack: Square, model: Victim, x: Tensor, y: Tensor, start: Tensor, rng: Any) -> Search:
        """Evaluate the start; examples it fools are done."""
        rows = torch.arange(len(x), device=x.device)
        first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        nothing = torch.full((len(x),), -1e30, device=x.device)
        aim = None if attack.target == "none" else aims(attack.target, model(x, rows=rows), y, rng)
        search = cls(model, y, rows, start, nothing, x.clone(), first, torch.zeros(0), aim)
        search.loss, fooled = search.ask()
        search.mark = search.loss
        search.drop(fooled, 1)
        return search

    def ask(self) -> tuple[Tensor, Tensor]:
        """The margin loss of the images as they are (positive = fooled), and which are fooled.

        With a target it is minus the cross-entropy at that class, and being given it is fooled.
        """
        logits = self.model(self.now, rows=self.rows)
        labels, held = self.y[self.rows], self.model.held
        if self.aim is None:
            loss, fooled = margin(logits, labels), logits.argmax(1) != labels
        else:
            aim = self.aim[self.rows]
            loss, fooled = -cross_entropy(logits, aim), logits.argmax(1) == aim
        return loss, fooled if held is None else fooled & ~held[self.rows]

    def drop(self, fooled: Tensor, query: int) -> Tensor | None:
        """Take fooled examples out; the mask of those that stay, or None where all do."""
        if not bool(fooled.any()):
            return None
        self.first[self.rows[fooled]] = query
        return self.leave(fooled)

    def leave(self, which: Tensor) -> Tensor:
        """Put these examples' images aside and go on with the others, whose mask is returned."""
        stay = ~which
        self.out[self.rows[which]] = self.now[which]
        self.rows, self.now, self.loss, self.mark = self.rows[stay], self.now[stay], self.loss[stay], self.mark[stay]
        return stay

    def give_up(self, done: int, queries: int) -> Tensor | None:
        """Let go of hopeless searches; as `drop`. Looks every PACE queries; `mark` is the loss after the first PACE."""
        if done % PACE:
            return None
        if done == PACE:
            self.mark = self.loss
            return None
        pace = (self.loss - self.mark) / (done - PACE)
        hopeless = (self.loss + pace * (queries - done) < 0) & (self.loss < CLOSE * self.mark)
        return self.leave(hopeless) if bool(hopeless.any()) else None

    def thin(self, fooled: Tensor, done: int, attack: Square) -> list[Tensor]:
        """Masks to apply one after the other to what runs beside the search, once `done` queries are spent."""
        masks = [self.drop(fooled, done), self.give_up(done, attack.queries) if attack.hopeless else None]
        return [mask for mask in masks if mask is not None]

    def end(self) -> Found:
        """Everybody's image: the fooling one, or the last kept, which has the highest loss seen."""
        self.out[self.rows] = self.now
        reached = {} if self.aim is None else {"targets_reached": int((self.first > 0).sum())}
        return Found(self.out, self.first, None, reached)


def search_linf(attack: Square, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """Windows of x +- eps."""
    low, high = limits(attack.bounds, x, x.device)
    eps = spread(attack.eps, x)
    above, below = torch.clamp(x + eps, low, high), torch.clamp(x - eps, low, high)
    c, h, w = x.shape[1:]
    signs = torch.from_numpy(rng.uniform((c, 1, w), name="stripes")).to(x.device) < 0.5
    search = Search.begin(attack, model, x, y, torch.where(signs, above, below), rng)
    above, below = above[search.rows], below[search.rows]
    draws: Any = None
    for query in range(attack.queries - 1):
        if len(search.rows) == 0:
            break
        if query % BLOCK == 0:
            own = rng.take(search.rows.cpu().numpy())
            draws = torch.from_numpy(own.uniform((BLOCK, 2 + c), name=f"windows{query // BLOCK}")).to(x.device)
        where = window(draws[:, query % BLOCK, :2], side(query, attack.p_init, h, w), c, h, w)
        up = (draws[:, query % BLOCK, 2:] < 0.5).repeat_interleave(where.shape[1] // c, dim=1)
        now = search.now.flatten(1)
        old = now.gather(1, where)
        now.scatter_(1, where, torch.where(up, above.flatten(1).gather(1, where), below.flatten(1).gather(1, where)))
        loss, fooled = search.ask()
        worse = torch.nonzero(~fooled & (loss <= search.loss)).flatten()
        now[worse] = now[worse].scatter(1, where[worse], old[worse])
        search.loss = torch.maximum(search.loss, loss)
        for stay in search.thin(fooled, query + 2, attack):
            above, below, draws = above[stay], below[stay], draws[stay]
    return search.end()


def window(uniform: Tensor, size: int, c: int, h: int, w: int) -> Tensor:
    """Flat positions `[m c*size*size]` of one square window a row, the same in every channel; `uniform` is `[m 2]`."""
    top = (uniform[:, :1] * (h - size + 1)).long().clamp_max(h - size)
    left = (uniform[:, 1:] * (w - size + 1)).long().clamp_max(w - size)
    return top * w + left + patch(size, c, h, w, uniform.device)


def patch(size: int, c: int, h: int, w: int, device: Any) -> Tensor:
    """Flat positions `[1 c*size*size]` of the window at the top left."""
    channel, row, column = (torch.arange(end, device=device) for end in (c, size, size))
    at: Tensor = channel[:, None, None] * (h * w) + row[:, None] * w + column
    return at.reshape(1, -1)

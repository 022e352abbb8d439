"""The two searches of the square attack; see `square` for the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.execution import limits
from testbed.perturb.victim import Victim

from .ascent import OPTIMISM
from .losses import margin
from .square import BLOCK, PACE, side

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

    @classmethod
    def begin(cls, model: Victim, x: Tensor, y: Tensor, start: Tensor) -> Search:
        """Evaluate the start; examples it fools are done."""
        rows = torch.arange(len(x), device=x.device)
        first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
        search = cls(
            model, y, rows, start, torch.full((len(x),), -1e30, device=x.device), x.clone(), first, torch.zeros(0)
        )
        search.loss, fooled = search.ask()
        search.mark = search.loss
        search.drop(fooled, 1)
        return search

    def ask(self) -> tuple[Tensor, Tensor]:
        """The margin loss of the images as they are (positive = fooled), and which are fooled."""
        logits = self.model(self.now, rows=self.rows)
        labels = self.y[self.rows]
        return margin(logits, labels), logits.argmax(1) != labels

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
        """Let go of searches that their recent pace will not take to success; as `drop`. Looks every PACE queries."""
        if done % PACE:
            return None
        pace = OPTIMISM * (self.loss - self.mark) / PACE
        hopeless = self.loss + pace * (queries - done) < 0
        self.mark = self.loss
        return self.leave(hopeless) if done > PACE and bool(hopeless.any()) else None

    def thin(self, fooled: Tensor, done: int, attack: Square) -> list[Tensor]:
        """Masks to apply one after the other to what runs beside the search, once `done` queries are spent."""
        masks = [self.drop(fooled, done), self.give_up(done, attack.queries) if attack.hopeless else None]
        return [mask for mask in masks if mask is not None]

    def end(self) -> Found:
        """Everybody's image: the fooling one, or the last kept, which has the highest loss seen."""
        self.out[self.rows] = self.now
        return Found(self.out, self.first, None)


def search_linf(attack: Square, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """Windows of x +- eps."""
    low, high = limits(attack.bounds, x, x.device)
    above, below = torch.clamp(x + attack.eps, low, high), torch.clamp(x - attack.eps, low, high)
    c, h, w = x.shape[1:]
    signs = torch.from_numpy(rng.uniform((c, 1, w), name="stripes")).to(x.device) < 0.5
    search = Search.begin(model, x, y, torch.where(signs, above, below))
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


def search_l2(attack: Square, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """Windows of pyramid bumps; the mass a window gets is what it and a second window had, plus what is left of eps."""
    low, high = limits(attack.bounds, x, x.device)
    c, h, w = x.shape[1:]
    search = Search.begin(model, x, y, torch.clamp(x + _tiles(x, rng, attack.eps), low, high))
    clean = x[search.rows]
    draws: Any = None
    for query in range(attack.queries - 1):
        if len(search.rows) == 0:
            break
        if query % BLOCK == 0:
            own = rng.take(search.rows.cpu().numpy())
            draws = torch.from_numpy(own.uniform((BLOCK, 5 + c), name=f"windows{query // BLOCK}")).to(x.device)
        size = max(side(query, attack.p_init, h, w), 3)
        size = min(size + 1 - size % 2, min(h, w))
        before = search.now
        search.now = torch.clamp(
            clean + _move(search.now - clean, draws[:, query % BLOCK], size, attack.eps), low, high
        )
        loss, fooled = search.ask()
        worse = ~fooled & (loss <= search.loss)
        search.now[worse] = before[worse]
        search.loss = torch.maximum(search.loss, loss)
        for stay in search.thin(fooled, query + 2, attack):
            clean, draws = clean[stay], draws[stay]
    return search.end()


def _move(delta: Tensor, draws: Tensor, size: int, eps: float) -> Tensor:
    """The perturbation with a signed bump in the first window, scaled to the length that both windows and the unused
    budget give it, and the second window emptied."""
    m, c, h, w = delta.shape
    first, second = window(draws[:, :2], size, c, h, w), window(draws[:, 2:4], size, c, h, w)
    flat = delta.flatten(1)
    old = flat.gather(1, first)
    touched = torch.zeros_like(flat, dtype=torch.bool).scatter(1, first, True).scatter(1, second, True)
    length = flat.norm(dim=1)
    inside = torch.where(touched, flat, torch.zeros_like(flat)).reshape(m, c, -1).norm(dim=2)
    unused = (eps**2 - length**2).clamp_min(0.0) / c
    bump = _bump(size, delta.device)
    turn = torch.where(draws[:, 4] < 0.5, 0, 1)
    shape = torch.stack([bump, bump.T])[turn][:, None]
    sign = torch.where(draws[:, 5:] < 0.5, -1.0, 1.0)[:, :, None, None]
    old = old.reshape(m, c, size, size)
    fresh = shape * sign + old / (1e-12 + old.flatten(2).norm(dim=2)[:, :, None, None])
    target = (inside**2 + unused[:, None]).sqrt()[:, :, None, None]
    fresh = fresh / (1e-12 + fresh.flatten(2).norm(dim=2)[:, :, None, None]) * target
    new = flat.scatter(1, second, torch.zeros_like(old.reshape(m, -1))).scatter(1, first, fresh.reshape(m, -1))
    shrink = (eps / (1e-12 + torch.linalg.vector_norm(new, dim=1, keepdim=True))).clamp_max(1.0)
    return torch.mul(new, shrink).reshape(delta.shape)


def _bump(size: int, device: Any) -> Tensor:
    """A window of two opposite pyramids, one in each half, of length 1."""
    half = size // 2
    upper, lower = _pyramid(half, size, device), -_pyramid(size - half, size, device)
    both = torch.cat([upper, lower])
    return torch.div(both, both.norm())


def _pyramid(height: int, width: int, device: Any) -> Tensor:
    """Rings of 1/(k+1)^2 summed from the outside in, highest in the middle."""
    row = torch.arange(height, device=device)
    column = torch.arange(width, device=device)
    ring = torch.minimum(
        torch.minimum(row, height - 1 - row)[:, None].expand(height, width),
        torch.minimum(column, width - 1 - column)[None].expand(height, width),
    )
    rings = max((height + 1) // 2, 1)
    steps = torch.tensor([1.0 / (rings - k) ** 2 for k in range(rings)], device=device).cumsum(0)
    return steps[ring.clamp_max(rings - 1)]


def _tiles(x: Tensor, rng: Any, eps: float) -> Tensor:
    """The start for l2: the image tiled with bumps, a random sign a tile and channel, scaled to length eps."""
    n, c, h, w = x.shape
    size = max(min(h, w) // 5, 1)
    bump = _bump(size, x.device) if size > 1 else torch.ones(1, 1, device=x.device)
    rows, columns = h // size, w // size
    signs = torch.from_numpy(rng.uniform((c, rows, columns), name="tiles")).to(x) < 0.5
    tiles = torch.where(signs, 1.0, -1.0)[..., None, None] * bump
    delta = torch.zeros_like(x)
    delta[:, :, : rows * size, : columns * size] = tiles.permute(0, 1, 2, 4, 3, 5).reshape(
        n, c, rows * size, columns * size
    )
    size_of = 1e-12 + torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return torch.mul(delta, (eps / size_of)[:, None, None, None])

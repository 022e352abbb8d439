"""The square attack in l2 and l1: windows of pyramid bumps; see `square` for the method.

A bump is two opposite pyramids, one in each half of the window, of length 1. A pyramid's value at Chebyshev distance r
from its middle is the sum of 1 / (k + 1)^p over k >= r, with p = 2 in l2 and 4 in l1.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import Budget, budget_of, limits
from testbed.perturb.victim import Victim

from .balls import into_l1_box
from .square import BLOCK, side
from .square_search import Search, window

if TYPE_CHECKING:
    from .square import Square

#: Exponent of the pyramids and order of the norm.
POWER = {"l2": 2, "l1": 4}
ORDER = {"l2": 2, "l1": 1}
#: Kept clear of the l1 budget, so that rounding cannot go over it.
CLEAR = 1e-6


def search_bumps(attack: Square, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """The mass a window gets is what it and a second window had, plus its share of what is left of eps."""
    low, high = limits(attack.bounds, x, x.device)
    c, h, w = x.shape[1:]
    start = _fit(_tiles(x, rng, attack.norm), x, attack.eps, attack.norm, low, high)
    search = Search.begin(attack, model, x, y, start, rng)
    clean, eps = x[search.rows], budget_of(attack.eps, search.rows)
    draws: Any = None
    for query in range(attack.queries - 1):
        if len(search.rows) == 0:
            break
        if query % BLOCK == 0:
            own = rng.take(search.rows.cpu().numpy())
            draws = torch.from_numpy(own.uniform((BLOCK, 5 + c), name=f"windows{query // BLOCK}")).to(x)
        size = max(side(query, attack.p_init, h, w), 3)
        size = min(size + 1 - size % 2, min(h, w))
        before = search.now
        moved = move(before - clean, draws[:, query % BLOCK], size, eps, attack.norm)
        search.now = _fit(moved, clean, eps, attack.norm, low, high)
        loss, fooled = search.ask()
        worse = ~fooled & (loss <= search.loss)
        search.now[worse] = before[worse]
        search.loss = torch.maximum(search.loss, loss)
        for stay in search.thin(fooled, query + 2, attack):
            clean, draws, eps = clean[stay], draws[stay], budget_of(eps, stay)
    return search.end()


def _fit(delta: Tensor, x: Tensor, eps: Budget, norm: str, low: Any, high: Any) -> Tensor:
    """x + delta in ball and box: l2 scales delta to eps, then clips; l1 projects."""
    if norm == "l1":
        return torch.clamp(x + into_l1_box(delta, x, eps * (1 - CLEAR), low, high), low, high)
    size = 1e-12 + torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return torch.clamp(x + delta * (eps / size)[:, None, None, None], low, high)


def move(delta: Tensor, draws: Tensor, size: int, eps: Budget, norm: str) -> Tensor:
    """The perturbation `[m c h w]` with a signed bump in the first window and the second window emptied.

    draws   `[m 5 + c]` uniform: places of both windows, whether the bump lies on its side, a sign a channel
    In each channel the first window ends with the length of both windows together and the channel's share of what is
    left of eps (l2: of squared lengths; l1: times the number of channels, as in the authors' code).
    """
    m, c, h, w = delta.shape
    p = ORDER[norm]
    first, second = window(draws[:, :2], size, c, h, w), window(draws[:, 2:4], size, c, h, w)
    flat = delta.flatten(1)
    touched = torch.zeros_like(flat, dtype=torch.bool).scatter(1, first, True).scatter(1, second, True)
    left = (eps**p - flat.abs().pow(p).sum(1)).clamp_min(0.0) / c
    inside = torch.where(touched, flat, torch.zeros_like(flat)).reshape(m, c, -1).abs().pow(p).sum(2)
    target = (inside + left[:, None]).pow(1 / p)[:, :, None, None] * (c if norm == "l1" else 1)
    upright = bump(size, norm).to(delta)
    shape = torch.where((draws[:, 4] < 0.5)[:, None, None], upright, upright.T)[:, None]
    sign = torch.where(draws[:, 5:] < 0.5, -1.0, 1.0).to(delta)[:, :, None, None]
    old = flat.gather(1, first).reshape(m, c, size, size)
    fresh = shape * sign + old / (1e-12 + _length(old, p))
    fresh = fresh / (1e-12 + _length(fresh, p)) * target
    empty = torch.zeros(m, second.shape[1], device=delta.device, dtype=delta.dtype)
    return flat.scatter(1, second, empty).scatter(1, first, fresh.reshape(m, -1)).reshape(delta.shape)


def _length(window: Tensor, p: int) -> Tensor:
    """The p-norm of each channel's window, `[m c 1 1]`."""
    return window.abs().pow(p).sum((2, 3), keepdim=True).pow(1 / p)


@cache
def bump(size: int, norm: str) -> Tensor:
    """`[size size]`, of length 1 in the norm, half of it (l2: of its square) in each pyramid.

    >>> bump(3, "l2").square().sum(1)
    tensor([0.5000, 0.0500, 0.4500])
    """
    if size == 1:
        return torch.ones(1, 1)
    half, order = size // 2, ORDER[norm]
    parts = [pyramid(height, size, POWER[norm]) for height in (half, size - half)]
    upper, lower = (part / torch.linalg.vector_norm(part, ord=order) for part in parts)
    return torch.cat([upper, -lower]) / 2 ** (1 / order)


def pyramid(height: int, width: int, power: int) -> Tensor:
    """Sum of 1 / (k + 1)^power over k from the Chebyshev distance to the middle up to the farther half side.

    >>> pyramid(1, 3, 2).tolist()
    [[0.25, 1.25, 0.25]]
    """
    row, column = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    distance = torch.maximum(row.abs()[:, None], column.abs()[None])
    terms = 1.0 / torch.arange(1, max(height // 2, width // 2) + 2) ** power
    return terms.flip(0).cumsum(0).flip(0)[distance]


def _tiles(x: Tensor, rng: Any, norm: str) -> Tensor:
    """The start: the middle of the image tiled with bumps, a random sign a tile and channel, some on their side."""
    n, c, h, w = x.shape
    size = max(min(h, w) // 5, 1)
    rows, columns = h // size, w // size
    upright = bump(size, norm).to(x)
    turned = torch.from_numpy(rng.uniform((rows, columns), name="turns")).to(x) < 0.5
    shapes = torch.where(turned[:, None, :, :, None, None], upright.T, upright)
    signs = torch.from_numpy(rng.uniform((c, rows, columns), name="tiles")).to(x) < 0.5
    tiles = torch.where(signs, 1.0, -1.0)[..., None, None] * shapes
    delta = torch.zeros_like(x)
    top, left = (h - rows * size) // 2, (w - columns * size) // 2
    delta[:, :, top : top + rows * size, left : left + columns * size] = tiles.permute(0, 1, 2, 4, 3, 5).reshape(
        n, c, rows * size, columns * size
    )
    return delta

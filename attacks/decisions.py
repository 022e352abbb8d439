"""What decision-based attacks share: labels alone, an image to start from, and the way back to the boundary.

The start is an image of uniform noise that fools. An example is tried TRIES times, with draws of its own; one that no
noise fools has no start, and its attack has failed. With a target it is the nearest image of that class in the set,
as long as the model gives it that class. The way back is a bisection between the clean image x* and a fooling one x',
along

    l2     x* + a (x' - x*)                                  0 <= a <= 1
    linf   x* + the part of x' - x* within a |x' - x*|_inf

Every image on the way that fools is kept if it is the closest yet (`closest`). Only images evaluated as fooling are
moved to, never ones worked out from them, so what is returned has been seen to fool.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import length, limits, per_row
from testbed.perturb.victim import Victim

from .closest import Closest
from .losses import aims

#: How much further out than the closest image seen the returned one is, as a share of its distance.
CLEAR = 2.0**-16
#: Images of noise an example is tried with.
TRIES = 1000


class Decisions:
    """A model of which only the labels are looked at, what it has been asked and what has been found.

    attack   has `eps`, `norm` ("l2" or "linf") and `bounds`
    asked    int64 `[n]`, queries of each example
    others   images and labels of the set, from which those with a target start; the examples themselves where absent
    """

    def __init__(self, attack: Any, model: Victim, x: Tensor, y: Tensor, others: Any = None) -> None:
        self.others = (x, y) if others is None else others
        self.model, self.norm = model, attack.norm
        self.low, self.high = limits(attack.bounds, x, x.device)
        aim = None if attack.target == "none" else aims(attack.target, y[:, None], y, None)
        self.closest = Closest(x, y, attack.eps, attack.norm, aim=aim)
        self.asked = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def fools(self, rows: Tensor, x: Tensor) -> Tensor:
        """bool `[m]`: which images x `[m ...]` of these rows, repeated or not, fool."""
        self.asked.index_add_(0, rows, torch.ones_like(rows))
        return self.closest.fooled(rows, self.model(x, rows=rows))

    def see(self, rows: Tensor, x: Tensor) -> Tensor:
        """As `fools`, for rows that are not repeated; those that fool are kept where they are the closest."""
        fooled = self.fools(rows, x)
        if bool(fooled.any()):
            at = rows[fooled]
            self.closest.note(at, x[fooled], self.asked[at])
        return fooled

    def away(self, rows: Tensor, x: Tensor) -> Tensor:
        """Distances `[m]` of images of these rows from the clean ones."""
        return length(x - self.closest.x[rows], self.norm).to(x.dtype)

    def start(self, rng: Any) -> tuple[Tensor, Tensor]:
        """The rows that have a start, and images `[m ...]` that fool them: nearest of the class aimed at, or noise."""
        clean = self.closest.x
        noise, rows = torch.zeros_like(clean), torch.arange(len(clean), device=clean.device)
        if self.closest.aim is not None:
            known, others = self._nearest(self.closest.aim)
            fooled = self.see(known, others)
            noise[known[fooled]] = others[fooled]
            rows = rows[self.closest.distance.isinf()]
        for number in range(TRIES):
            if len(rows) == 0:
                break
            draws = rng.take(rows.cpu().numpy()).uniform(tuple(clean.shape[1:]), name=f"start{number}")
            tried = self.low + (self.high - self.low) * torch.from_numpy(draws).to(clean)
            fooled = self.see(rows, tried)
            noise[rows[fooled]] = tried[fooled]
            rows = rows[~fooled]
        begun = torch.nonzero(self.closest.distance.isfinite()).flatten()
        return begun, noise[begun]

    def _nearest(self, aim: Tensor) -> tuple[Tensor, Tensor]:
        """The rows for whose aim the set has images, and of those `[m ...]` the nearest: the paper takes any."""
        clean, (pool, labels) = self.closest.x, self.others
        rows, found = list[Tensor](), list[Tensor]()
        for wanted in torch.unique(aim):
            there, asking = torch.nonzero(labels == wanted).flatten(), torch.nonzero(aim == wanted).flatten()
            if len(there):
                away = torch.cdist(clean[asking].flatten(1).double(), pool[there].flatten(1).double())
                rows.append(asking)
                found.append(pool[there[away.argmin(1)]])
        return (torch.cat(rows), torch.cat(found)) if rows else (aim[:0], clean[:0])

    def back(self, rows: Tensor, x: Tensor, halvings: int) -> Tensor:
        """From fooling images x `[m ...]` back to the boundary; a row inside its budget goes no further."""
        near, share, reach = x.clone(), torch.ones(len(x), device=x.device), self.away(rows, x)
        at = torch.arange(len(x), device=x.device)
        for halving in range(halvings):
            at = at[~self.closest.done(rows[at])]
            if len(at) == 0:
                break
            tried = share[at] - 0.5 ** (halving + 1)
            points = self._between(self.closest.x[rows[at]], x[at], tried, reach[at])
            fooled = self.see(rows[at], points)
            near[at[fooled]], share[at[fooled]] = points[fooled], tried[fooled]
        return near

    def _between(self, clean: Tensor, x: Tensor, share: Tensor, reach: Tensor) -> Tensor:
        delta = x - clean
        if self.norm == "linf":
            most = per_row(share * reach, x)
            return torch.clamp(clean + torch.clamp(delta, -most, most), self.low, self.high)
        return torch.clamp(clean + per_row(share, x) * delta, self.low, self.high)

    def found(self) -> Found:
        """The closest image of each example, a little further out, and the query that found it.

        On the boundary itself rounding decides, and may decide otherwise in the next forward pass: so where the image
        CLEAR further out fools too it stands, unless the closest is inside a budget. Without a start an example failed.
        """
        best = self.closest.best
        rows = torch.nonzero(self.closest.distance.isfinite()).flatten()
        rows = rows[~self.closest.done(rows)]
        clean = self.closest.x[rows]
        clear = torch.clamp(clean + (1 + CLEAR) * (best[rows] - clean), self.low, self.high)
        fooled = self.fools(rows, clear)
        best[rows[fooled]] = clear[fooled]
        return Found(self.closest.best, self.closest.first, self.closest.distance.isinf())

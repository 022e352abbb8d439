"""The smallest step onto a hyperplane inside a box, the inner problem of FAB (Croce and Hein 2020b, section 2.2).

    minimise |d|_p  subject to  w . d = b,  low <= x + d <= high

Where the box forbids equality the step that comes nearest is returned: every value moved to its bound. For linf and l2
the multiplier solves g(t) = sum_i |w_i| min(t u_i, c_i) = |b| with u = 1 (linf) or |w| (l2) and c the room towards the
bound. g is concave and piecewise linear, so Newton's method from below rises monotonically to the root in finitely
many rounds, without a sort. l1 fills values by falling |w|, which needs one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROUNDS = 30
#: p of the norm -> order of its dual, which measures gradients.
DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}


def step_onto(x: Tensor, w: Tensor, b: Tensor, norm: str, low: Any, high: Any) -> Tensor:
    """d `[m d]` for rows x, w `[m d]` and b `[m]`.

    >>> step_onto(torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 1.0]]), torch.tensor([0.4]), "linf", 0.0, 1.0)
    tensor([[0.3000, 0.1000]])
    """
    direction = w.sign().mul_(torch.where(b < 0, -1.0, 1.0).to(w)[:, None])
    room = torch.where(direction > 0, high - x, x - low).clamp_min_(0.0)
    size = w.abs()
    goal = b.abs()
    if norm == "l1":
        return direction * _fill(size, room, goal)
    rate = size if norm == "linf" else size * size
    t = torch.zeros_like(goal)
    value, slope = torch.zeros_like(goal), rate.sum(1)
    for _ in range(ROUNDS):
        t = torch.where(value < goal, t + (goal - value) / slope.clamp_min(1e-30), t)
        moved = torch.minimum(t[:, None] if norm == "linf" else size * t[:, None], room)
        value = torch.linalg.vecdot(size, moved)
        if bool((value >= goal * (1 - 1e-5)).all()):
            break
        slope = (rate * (moved < room)).sum(1)
        if bool(((value >= goal * (1 - 1e-5)) | (slope <= 0)).all()):
            break
    return direction.mul_(moved)  # zero where w is, whatever moved says there


def _fill(size: Tensor, room: Tensor, goal: Tensor) -> Tensor:
    """Values filled to their room by falling |w| until the goal is met, the last one in part."""
    order = size.argsort(dim=1, descending=True)
    gains = (size * room).gather(1, order)
    before = gains.cumsum(1) - gains
    share = ((goal[:, None] - before) / gains.clamp_min(1e-30)).clamp(0.0, 1.0)
    return torch.zeros_like(size).scatter(1, order, share * room.gather(1, order))

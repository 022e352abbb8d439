"""Starts, steps and projections of auto-PGD, written in place because they run once a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from testbed.perturb.geometry import Budget, per_row, project, spread


def start(x: Tensor, norm: str, eps: Budget, rng: Any, name: str, low: Any, high: Any) -> Tensor:
    """A random point on the sphere of radius eps round each row, clipped to the box.

    linf: eps * u / |u|_inf, u uniform, so that one coordinate sits at eps; l2: a normal direction of length eps.
    l1: x plus standard normal values, which the caller projects (`sparse_ascent`).
    """
    shape = tuple(x.shape[1:])
    if norm == "linf":
        raw = torch.from_numpy(rng.uniform(shape, -1.0, 1.0, name=name)).to(x)
        size = raw.flatten(1).abs().amax(1)
    else:
        raw = torch.from_numpy(rng.normal(shape, name=name)).to(x)
        if norm == "l1":
            return x + raw
        size = torch.linalg.vector_norm(raw.flatten(1), dim=1)
    return torch.clamp(x + raw * per_row(eps / (size + 1e-12), raw), low, high)


def step_along(x: Tensor, gradient: Tensor, norm: str, size: Tensor) -> Tensor:
    """x + size * s(gradient), a new tensor; s is the sign for linf and gradient / |gradient|_2 for l2."""
    if norm == "linf":
        return torch.addcmul(x, gradient.sign(), per_row(size, x))
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return torch.addcmul(x, gradient, per_row(size / (length + 1e-12), x))


def project_in_place(new: Tensor, x: Tensor, norm: str, eps: Budget, low: Any, high: Any) -> None:
    """Move `new` into the ball round x and then into the box."""
    if norm == "linf":
        radius = spread(eps, x)
        torch.minimum(new, x + radius, out=new)
        torch.maximum(new, x - radius, out=new)
        new.clamp_(low, high)
        return
    if norm == "l1":
        new.copy_(torch.clamp(x + into_l1_box(new - x, x, eps, low, high), low, high))
        return
    new.copy_(torch.clamp(x + project(new - x, norm, eps), low, high))


def into_l1_box(delta: Tensor, x: Tensor, eps: Budget, low: Any, high: Any) -> Tensor:
    """The nearest point to delta, in Euclidean distance, of {|d|_1 <= eps, low <= x + d <= high}.

    d_i = sign(delta_i) clip(|delta_i| - t, 0, room_i), with the least t >= 0 that meets the budget (Croce and Hein
    2021, proposition 2.1). t is bracketed by bisection, then solved for on the linear piece it lies on.

    >>> into_l1_box(torch.tensor([[0.9, 0.5, -0.1]]), torch.tensor([[0.5, 0.5, 0.5]]), 0.7, 0.0, 1.0)
    tensor([[0.5000, 0.2000, -0.0000]])
    """
    flat = delta.flatten(1)
    room = torch.where(delta > 0, high - x, x - low).flatten(1).clamp_min(0.0)
    size, radius = flat.abs(), spread(eps, flat)
    below, above = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)
    over = torch.minimum(size, room).sum(1, keepdim=True) > radius
    for _ in range(24):
        middle = (below + above) / 2
        much = torch.minimum((size - middle).clamp_min(0.0), room).sum(1, keepdim=True) > radius
        below, above = torch.where(much, middle, below), torch.where(much, above, middle)
    middle = (below + above) / 2
    rest = size - middle
    sloped = (rest > 0) & (rest < room)
    full = torch.where(rest >= room, room, torch.zeros_like(room)).sum(1, keepdim=True)
    solved = ((size * sloped).sum(1, keepdim=True) + full - radius) / sloped.sum(1, keepdim=True).clamp_min(1)
    threshold = torch.where(over, torch.minimum(torch.maximum(solved, below), above), torch.zeros_like(below))
    out = flat.sign() * torch.minimum((size - threshold).clamp_min(0.0), room)
    length = out.abs().sum(1, keepdim=True)
    shrunk: Tensor = out * (radius / length.clamp_min(1e-30)).clamp_max(1.0)
    return shrunk.reshape(delta.shape)

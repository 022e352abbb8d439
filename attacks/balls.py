"""Starts, steps and projections of auto-PGD, written in place because they run once a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from testbed.perturb.geometry import per_row, project


def start(x: Tensor, norm: str, eps: float, rng: Any, name: str, low: Any, high: Any) -> Tensor:
    """A random point on the sphere of radius eps round each row, clipped to the box.

    linf: eps * u / |u|_inf, u uniform, so that one coordinate sits at eps; l2: a normal direction of length eps.
    """
    shape = tuple(x.shape[1:])
    if norm == "linf":
        raw = torch.from_numpy(rng.uniform(shape, -1.0, 1.0, name=name)).to(x)
        size = raw.flatten(1).abs().amax(1)
    else:
        raw = torch.from_numpy(rng.normal(shape, name=name)).to(x)
        size = torch.linalg.vector_norm(raw.flatten(1), dim=1)
    return torch.clamp(x + raw * per_row(eps / (size + 1e-12), raw), low, high)


def step_along(x: Tensor, gradient: Tensor, norm: str, size: Tensor) -> Tensor:
    """x + size * s(gradient), a new tensor; s is the sign for linf and gradient / |gradient|_2 for l2."""
    if norm == "linf":
        return torch.addcmul(x, gradient.sign(), per_row(size, x))
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return torch.addcmul(x, gradient, per_row(size / (length + 1e-12), x))


def project_in_place(new: Tensor, x: Tensor, norm: str, eps: float, low: Any, high: Any) -> None:
    """Move `new` into the ball round x and then into the box."""
    if norm == "linf":
        torch.minimum(new, x + eps, out=new)
        torch.maximum(new, x - eps, out=new)
        new.clamp_(low, high)
        return
    new.copy_(torch.clamp(x + project(new - x, norm, eps), low, high))

"""Norms, balls and directions: what every attack shares, batched over examples.

All functions take tensors `[n ...]` with one example a row and work on each row alone. Norm names are "linf", "l2",
"l1" and "l0"; l0 counts changed values (a grey pixel is one value, an RGB pixel three). A budget eps is one number for
all rows, or a float32 tensor `[n]` with one a row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed.errors import DataError

#: A perturbation may be this much over its budget, relative and absolute, besides the float32 rounding of `x + delta`.
TOLERANCE = 1e-6


#: One number for all rows, or float32 `[n]`.
Budget = float | Tensor


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Values `[n]` shaped to broadcast over rows of `like` `[n ...]`."""
    return values.reshape(-1, *(1,) * (like.dim() - 1))


def spread(eps: Budget, like: Tensor) -> Any:
    """A budget as it is used in arithmetic with `like` `[n ...]`: a number as it is, one a row as by `per_row`."""
    return per_row(eps, like) if isinstance(eps, Tensor) else eps


def budget_of(eps: Budget, rows: Tensor) -> Budget:
    """The budget of some rows."""
    return eps[rows] if isinstance(eps, Tensor) else eps


def length(delta: Tensor, norm: str) -> Tensor:
    """The norm of each row, summed in float64: float64 `[n]`.

    >>> length(torch.tensor([[3.0, 0.0, -4.0]]), "l2").item(), length(torch.tensor([[3.0, 0.0, -4.0]]), "l0").item()
    (5.0, 2.0)
    """
    flat = delta.detach().flatten(1)
    if flat.shape[1] == 0:
        return torch.zeros(len(delta), dtype=torch.float64, device=delta.device)
    if norm == "linf":
        return flat.abs().amax(1).double()
    if norm == "l0":
        return (flat != 0).sum(1).double()
    size: Tensor = torch.linalg.vector_norm(flat, ord={"l2": 2, "l1": 1}[norm], dim=1, dtype=torch.float64)
    return size


def inside(distance: Tensor, eps: Budget, norm: str, features: int) -> Tensor:
    """Which distances are within eps, up to TOLERANCE and float32 rounding.

    Storing x + delta rounds each value by up to 2^-25 for x in [0, 1], which adds up over the features of an l1 or l2
    norm: the allowance is 2^-24 times d (l1), sqrt(d) (l2) or 1 (linf); l0 counts are exact.
    """
    rounding = {"linf": 1.0, "l2": math.sqrt(features), "l1": float(features), "l0": 0.0}[norm] * 2.0**-24
    return distance <= eps * (1 + TOLERANCE) + TOLERANCE + rounding


def project(delta: Tensor, norm: str, eps: Budget) -> Tensor:
    """The nearest point of the ball of radius eps to each row (l0: keeps the eps largest values).

    >>> project(torch.tensor([[3.0, 4.0]]), "l2", 1.0).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    >>> project(torch.tensor([[3.0, 1.0]]), "l1", 1.0).tolist()
    [[1.0, 0.0]]
    >>> project(torch.tensor([[3.0, -4.0], [3.0, -4.0]]), "linf", torch.tensor([1.0, 3.5])).tolist()
    [[1.0, -1.0], [3.0, -3.5]]
    """
    if norm == "linf":
        return delta.clamp(-spread(eps, delta), spread(eps, delta))
    flat = delta.flatten(1)
    if norm == "l2":
        size = torch.linalg.vector_norm(flat, dim=1).clamp_min(1e-30)
        return delta * per_row((eps / size).clamp_max(1.0), delta)
    if norm == "l1":
        return _project_l1(flat, eps).reshape(delta.shape)
    most = int(eps.max()) if isinstance(eps, Tensor) else int(eps)
    keep = flat.abs().topk(min(most, flat.shape[1]), dim=1).indices
    values = flat.gather(1, keep)
    if isinstance(eps, Tensor):
        values = values * (torch.arange(values.shape[1], device=flat.device) < eps.floor()[:, None])
    return torch.zeros_like(flat).scatter(1, keep, values).reshape(delta.shape)


def _project_l1(flat: Tensor, eps: Budget) -> Tensor:
    """Euclidean projection on the l1 ball by soft threshold (Duchi et al. 2008, figure 1)."""
    size, radius = flat.abs(), spread(eps, flat)
    order = size.sort(dim=1, descending=True).values
    over = order.cumsum(1) - radius
    rank = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype)
    last = (order * rank > over).sum(1, keepdim=True).clamp_min(1)
    threshold = (over.gather(1, last - 1) / last).clamp_min(0.0)
    outside = size.sum(1, keepdim=True) > radius
    return torch.where(outside, flat.sign() * (size - threshold).clamp_min(0.0), flat)


def confine(x_adv: Tensor, x: Tensor, norm: str, eps: Budget, low: Any, high: Any) -> Tensor:
    """`x_adv` moved into the ball round `x`, then into the box; a box that holds x only shrinks delta."""
    if norm == "linf":
        radius = spread(eps, x)
        return torch.clamp(torch.minimum(torch.maximum(x_adv, x - radius), x + radius), low, high)
    return torch.clamp(x + project(x_adv - x, norm, eps), low, high)


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The unit step of the norm along which a linear loss rises most: sign, g/|g|_2, or g/|g|_1.

    For l1 this is the normalised gradient that the fast gradient method uses, not the single largest coordinate.
    A zero gradient gives a zero step.
    """
    if norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    size = torch.linalg.vector_norm(flat, ord={"l2": 2, "l1": 1}[norm], dim=1)
    return gradient / per_row(size.clamp_min(1e-30), gradient)


def random_direction(rng: Any, like: Tensor, norm: str, name: str) -> Tensor:
    """A random point of the unit ball a row, from the examples' own draws: uniform in the ball of linf, l2 or l1."""
    shape = tuple(like.shape[1:])
    if norm == "linf":
        return torch.from_numpy(rng.uniform(shape, -1.0, 1.0, name=name)).to(like)
    size = max(like[0].numel(), 1) if len(like) else 1
    radius = torch.from_numpy(rng.uniform((), name=name + "/radius")).to(like) ** (1.0 / size)
    raw = torch.from_numpy(rng.normal(shape, name=name)).to(like)
    if norm == "l1":
        uniform = torch.from_numpy(rng.uniform(shape, name=name + "/size")).to(like)
        raw = raw.sign() * -torch.log1p(-uniform)
    return steepest(raw, norm) * per_row(radius, raw)


def limits(bounds: Any, x: Tensor, device: Any = None) -> tuple[Any, Any]:
    """Low and high: two floats, or tensors over the features where every feature has its own pair."""
    pairs = np.asarray(bounds, dtype=np.float64)
    if pairs.shape in ((2,), (1, 2)):
        low, high = map(float, pairs.reshape(2))
        return low, high
    if pairs.shape != (x.shape[1] if x.dim() > 1 else 0, 2):
        raise DataError(
            f"attack: bounds must be (low, high) or one pair for each of the {tuple(x.shape[1:])} features, "
            f"got shape {pairs.shape}"
        )
    shape = (1, -1, *(1,) * (x.dim() - 2))
    columns_ = torch.as_tensor(pairs, dtype=torch.float32, device=device)
    return columns_[:, 0].reshape(shape), columns_[:, 1].reshape(shape)

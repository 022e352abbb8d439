"""What the runner checks itself about a perturbed set; nothing an attack says about itself is used.

A violation is an error that names what the plug-in did, on how many examples, and by how much. Attacks that minimise
a distance are not held to a budget: their images are moved onto the ball and the mark FLAG_PROJECTED says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed import boundary
from testbed.errors import DataError, PluginViolation
from testbed.perturb.geometry import TOLERANCE, Budget, budget_of, confine, inside, length
from testbed.perturb.state import State

#: Inputs this far outside their bounds, as a share of the range, are clipped with a note (decoding and resizing leave
#: 2e-7); more is an error.
SLACK = 1e-5


def tensor(given: Any) -> Tensor:
    """A tensor of what was given; an array that runs backwards (BGR images, `[..., ::-1]`) is copied."""
    return torch.as_tensor(np.ascontiguousarray(given) if isinstance(given, np.ndarray) else given)


def labels(given: Any, n: int) -> Tensor:
    """int64 `[n]`; whole numbers only, one an example (`[n 1]` too)."""
    y: Tensor = tensor(given)
    if y.numel() != n and y.dim() > 1:
        raise DataError(f"attack: {n} inputs but labels of shape {tuple(y.shape)}; give class numbers [{n}]")
    if y.is_floating_point() and bool((y != y.round()).any()):
        raise DataError(f"attack: labels must be whole numbers 0, 1, ..., got {y.dtype} with fractions or NaN")
    return boundary.row_major(y.long().reshape(-1))


def inputs(x: Tensor, y: Tensor, low: Any, high: Any, *, labelled: bool, width: float = 1.0) -> tuple[Tensor, Tensor]:
    """Checked inputs and bool `[n]`: which were clipped to the bounds; `width` is how far apart those are."""
    if not x.is_floating_point():
        raise DataError(
            f"attack: x must be float32 in the model's own scale, got {x.dtype}; for uint8 images use x.float() / 255"
        )
    if len(x) != len(y):
        raise DataError(f"attack: {len(x)} inputs but {len(y)} labels")
    x = boundary.row_major(x.detach().float())
    if not bool(x.isfinite().all()):
        raise DataError(f"attack: {_bad_rows(~x.isfinite())} of {len(x)} inputs hold NaN or infinity")
    clipped = torch.clamp(x, low, high)
    away = (clipped - x).abs()
    if bool((away > SLACK * width).any()):
        rows = _bad_rows(away > SLACK * width)
        raise DataError(
            f"attack: {rows} of {len(x)} inputs are outside the bounds by up to {away.max().item():.3g} "
            f"(values {x.min().item():.4g} to {x.max().item():.4g}); scale the inputs or give bounds="
        )
    if labelled and bool((y < 0).any()):
        raise DataError(
            f"attack: {int((y < 0).sum())} of {len(y)} labels are negative; an attack on the label needs every label"
        )
    return clipped, away.flatten(1).amax(1) > 0 if x.numel() else torch.zeros(len(x), dtype=torch.bool, device=x.device)


def logits_of(logits: Any, y: Tensor, *, labelled: bool) -> Tensor:
    """The model's clean logits, checked: `[n k]`, k >= 2, an answer for one input at least, labels below k."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(y):
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise DataError(f"attack: the model must give logits [{len(y)}, classes], got {came}")
    if logits.shape[1] < 2:
        raise DataError(
            "attack: the model gives one class, so nothing can be wrong; a binary model needs two logits (z, 0)"
        )
    if not bool(boundary.answered(logits).any()):
        raise DataError(f"attack: logits are NaN or infinite on {len(y)} of {len(y)} clean inputs")
    if labelled and len(y) and int(y.max()) >= logits.shape[1]:
        raise DataError(
            f"attack: label {int(y.max())} but the model has {logits.shape[1]} classes (0 to {logits.shape[1] - 1})"
        )
    return logits


def output(name: str, x_adv: Any, x: Tensor, low: Any, high: Any) -> Tensor:
    """The attack's images, checked for type, shape, dtype, finiteness and bounds; clipped within the tolerance."""
    if not isinstance(x_adv, Tensor):
        raise PluginViolation(f"attack {name!r} returned a {type(x_adv).__name__}; expected a tensor like x")
    if x_adv.shape != x.shape:
        raise PluginViolation(f"attack {name!r} returned shape {tuple(x_adv.shape)}; expected {tuple(x.shape)}")
    if x_adv.dtype != x.dtype:
        raise PluginViolation(f"attack {name!r} returned {x_adv.dtype}; expected {x.dtype}")
    x_adv = x_adv.detach().to(x.device)
    if not bool(x_adv.isfinite().all()):
        raise PluginViolation(
            f"attack {name!r} returned NaN or infinity in {_bad_rows(~x_adv.isfinite())} of {len(x)} examples"
        )
    clipped = torch.clamp(x_adv, low, high)
    away = (clipped - x_adv).abs()
    if bool((away > TOLERANCE).any()):
        raise PluginViolation(
            f"attack {name!r} left the bounds in {_bad_rows(away > TOLERANCE)} of {len(x)} examples, "
            f"by up to {away.max().item():.3g}"
        )
    return boundary.row_major(clipped)


def budget(
    name: str, x_adv: Tensor, x: Tensor, norm: str, eps: Budget, low: Any, high: Any, *, minimal: bool
) -> tuple[Tensor, Tensor]:
    """Images inside the ball and bool `[n]`: which a minimal attack had outside and were moved onto it."""
    distance = length(x_adv - x, norm)
    outside = ~inside(distance, eps, norm, x[0].numel() if len(x) else 1)
    if not bool(outside.any()):
        return x_adv, outside
    if not minimal:
        worst = (distance - eps).argmax()
        raise PluginViolation(
            f"attack {name!r} left the {norm} ball of {float(budget_of(eps, worst)):.6g} in {int(outside.sum())} of "
            f"{len(x)} examples: largest distance {distance[worst].item():.6g} (tolerance {TOLERANCE:g})"
        )
    moved = x_adv.clone()
    moved[outside] = confine(x_adv[outside], x[outside], norm, budget_of(eps, outside), low, high)
    return moved, outside


@contextmanager
def untouched(name: str, state: State, **tensors: Tensor) -> Iterator[None]:
    """Raises if the model's state, or any of the named tensors, differs afterwards; the state is put back."""
    copies = {key: value.clone() for key, value in tensors.items()}
    yield
    changed = state.changed()
    if changed:
        state.restore()
        raise PluginViolation(
            f"attack {name!r} changed the model's weights ({len(changed)}, put back): {', '.join(changed[:3])}"
        )
    for key, value in tensors.items():
        if not torch.equal(value, copies[key]):
            raise PluginViolation(f"attack {name!r} changed its input {key} in place; work on a copy")


def _bad_rows(mask: Tensor) -> int:
    return int(mask.flatten(1).any(1).sum())

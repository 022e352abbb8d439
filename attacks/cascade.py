"""Running attacks one after the other on the examples still standing; see `autoattack`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import inside as within
from testbed.perturb.geometry import length
from testbed.perturb.victim import Victim

from .losses import cross_entropy
from .sampling import mean_logits


def run(
    stages: Iterable[tuple[str, Callable[..., Any]]],
    model: Victim,
    x: Tensor,
    y: Tensor,
    rng: Any,
    *,
    inside: tuple[float, str],
    judge: int = 1,
) -> Found:
    """Each stage on the rows that no stage before it fooled inside the ball `(eps, norm)`.

    judge   forward passes over which the verdict is averaged; more than one only for models that draw random numbers
    """
    out, loss = x.clone(), torch.full((len(x),), float("-inf"), device=x.device)
    first = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
    stage = torch.full((len(x),), -1, dtype=torch.long, device=x.device)
    info: dict[str, Any] = {}
    for number, (name, attack) in enumerate(stages):
        rows = torch.nonzero(first < 0).flatten()
        if len(rows) == 0:
            info[f"found_by_{name}"] = 0
            continue
        before = model.counts.queries[model.positions(rows)]
        draws = {"rng": rng.take(rows.cpu().numpy())} if "rng" in inspect.signature(attack).parameters else {}
        found = attack(model.take(rows), x[rows].clone(), y[rows], **draws)
        eps, norm = inside
        logits = mean_logits(model, found.x, rows, judge)
        value = cross_entropy(logits, y[rows])
        near = within(length(found.x - x[rows], norm), eps, norm, x[0].numel())
        fooled = (logits.argmax(1) != y[rows]) & near
        if model.held is not None:
            fooled &= ~model.held[rows]
        better = fooled | (near & (value > loss[rows]))
        out[rows[better]], loss[rows[better]] = found.x[better], value[better]
        step = (
            found.first_step if found.first_step is not None else model.counts.queries[model.positions(rows)] - before
        )
        first[rows[fooled]] = (before + step.clamp_min(1))[fooled].long()
        stage[rows[fooled]] = number
        info[f"found_by_{name}"] = int(fooled.sum())
        info |= {f"{name}_{key}": value for key, value in found.info.items() if isinstance(value, int)}
    return Found(out, first, None, {**info, "stage": stage})

"""Models that draw random numbers: expectation over transformation (Athalye et al. 2018), verdicts on fresh draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from testbed.perturb.victim import Loss, Victim


def gradient_of(model: Victim, x: Tensor, loss: Loss, rows: Tensor, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient, loss and logits at x, each the mean of `draws` evaluations; one evaluation where draws is 1."""
    gradient, value, logits = model.gradient(x, loss, rows=rows)
    for _ in range(draws - 1):
        another = model.gradient(x, loss, rows=rows)
        gradient, value, logits = gradient + another[0], value + another[1], logits + another[2]
    return (gradient, value, logits) if draws == 1 else (gradient / draws, value / draws, logits / draws)


def mean_logits(model: Victim, x: Tensor, rows: Tensor, draws: int) -> Tensor:
    """The logits that decide: of one forward pass, or the log of the mean softmax of several fresh draws."""
    if draws == 1:
        return model(x, rows=rows)
    return torch.stack([model(x, rows=rows).log_softmax(1) for _ in range(draws)]).logsumexp(0) - math.log(draws)


def confirmed(
    model: Victim, x: Tensor, rows: Tensor, logits: Tensor, fooled: Callable[[Tensor, Tensor], Tensor], draws: int
) -> Tensor:
    """Which of the rows are fooled by these logits, and where draws > 1 by the mean of fresh draws as well.

    Over many steps the draws that the gradient was taken from fool an example sooner or later by luck.

    fooled   (predicted classes, rows) -> bool
    """
    found = fooled(logits.argmax(1), rows)
    if draws > 1 and bool(found.any()):
        at = torch.nonzero(found).flatten()
        found[at] = fooled(mean_logits(model, x[at], rows[at], draws).argmax(1), rows[at])
    return found


def logits_of(model: Victim, x: Tensor, rows: Tensor, draws: int) -> Tensor:
    """Logits at x, the mean of `draws` evaluations."""
    logits = model(x, rows=rows)
    for _ in range(draws - 1):
        logits = logits + model(x, rows=rows)
    return logits if draws == 1 else logits / draws

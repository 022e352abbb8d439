"""Gradients of models that draw random numbers: expectation over transformation (Athalye et al. 2018)."""

from __future__ import annotations

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
    return torch.stack([model(x, rows=rows).softmax(1) for _ in range(draws)]).mean(0).log()


def logits_of(model: Victim, x: Tensor, rows: Tensor, draws: int) -> Tensor:
    """Logits at x, the mean of `draws` evaluations."""
    logits = model(x, rows=rows)
    for _ in range(draws - 1):
        logits = logits + model(x, rows=rows)
    return logits if draws == 1 else logits / draws

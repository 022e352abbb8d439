"""What an attack sees when the victim is more than the network: the network with a calibrator behind it.

    calibrated logits = log probs(calibrator(z(x)))

The forward pass is the calibrator's own, in float64. The backward pass through it is
- exact to about 1e-8 where the calibrator is differentiable: central differences over the k logits, which needs no
  second implementation of any calibrator;
- BPDA (Athalye et al. 2018, "Obfuscated Gradients Give a False Sense of Security") where it is not, or where k is too
  large for differences: the gradient with respect to the calibrated logits is handed to the base logits as it is.
The gradient then flows through the network as usual. An attack on a label needs none of this where the calibrator keeps
the argmax: the plan shares the attack on the raw network then, because scaling logits only masks its gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed import boundary
from testbed.types import Float64

STEP = 1e-5
MOST_CLASSES = 100


class Calibrated(torch.nn.Module):
    """A classifier module with a fitted calibrator behind it; gives log probabilities `[n k]`.

    adaptive  whether the backward pass is the calibrator's own (else BPDA)
    """

    def __init__(self, module: torch.nn.Module, calibrator: Any) -> None:
        super().__init__()
        self.module, self.calibrator = module, calibrator
        self.adaptive = bool(calibrator.differentiable)

    def forward(self, x: Tensor) -> Tensor:
        """Calibrated logits of float32 `[n ...]`."""
        logits = boundary.logits(boundary.ask(self.module, x, x.dtype), wide=True)
        adaptive = self.adaptive and logits.shape[1] <= MOST_CLASSES
        out: Tensor = _Through.apply(logits, self.calibrator, adaptive)  # type: ignore[no-untyped-call]
        return out


def calibrated(module: torch.nn.Module, calibrator: Any) -> Calibrated:
    """The victim "model and calibrator".

    >>> from testbed.calibration.uncalibrated import Uncalibrated
    >>> victim = calibrated(torch.nn.Identity(), Uncalibrated())
    >>> z = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
    >>> torch.allclose(victim(z), z.log_softmax(1), atol=1e-6)
    True
    """
    return Calibrated(module, calibrator)


class _Through(torch.autograd.Function):
    """log probs(z) forward; differences or identity backward."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, calibrator: Any, adaptive: bool) -> Tensor:
        z = logits.detach().double().cpu().numpy()
        ctx.calibrator, ctx.adaptive, ctx.z = calibrator, adaptive, z
        return torch.from_numpy(log_probs(calibrator, z)).to(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        if not ctx.adaptive:
            return gradient, None, None
        v = gradient.detach().double().cpu().numpy()
        return torch.from_numpy(pull_back(ctx.calibrator, ctx.z, v)).to(gradient), None, None


def log_probs(calibrator: Any, z: Float64) -> Float64:
    """float64 `[n k]`: log of the calibrated probabilities, exact zeros floored at 1e-300."""
    floored: Float64 = np.log(np.maximum(calibrator.probs(z), 1e-300))
    return floored


def pull_back(calibrator: Any, z: Float64, v: Float64) -> Float64:
    """float64 `[n k]`: v^T d(log probs)/dz by central differences, one pair of evaluations a class."""
    out = np.empty_like(z)
    for j in range(z.shape[1]):
        step = np.zeros_like(z)
        step[:, j] = STEP * np.maximum(1.0, np.abs(z[:, j]))
        rise = log_probs(calibrator, z + step) - log_probs(calibrator, z - step)
        out[:, j] = (v * rise).sum(axis=1) / (2 * step[:, j])
    return out

"""The loop of the momentum attacks and the transforms some of them use; see `transfer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from testbed.perturb.attack import Found
from testbed.perturb.geometry import confine, limits
from testbed.perturb.victim import Victim

from .losses import Rows, aims, towards, towards_class
from .sampling import confirmed, gradient_of, logits_of
from .tracker import Tracker

if TYPE_CHECKING:
    from .transfer import MIFGSM


def run(attack: MIFGSM, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """All steps; examples leave when fooled, or given their target class, unless `stop` is off."""
    low, high = limits(attack.bounds, x, x.device)
    rows, now = torch.arange(len(x), device=x.device), x
    aim = None if attack.target == "none" else aims(attack.target, model(x, rows=rows), y, rng)
    tracker = Tracker(x, y, aim, model.held)
    momentum, variance = torch.zeros_like(x), torch.zeros_like(x)
    for step in range(attack.steps):
        draws = rng.take(rows.cpu().numpy())
        rise = towards("ce", y[rows]) if aim is None else towards_class("ce", y[rows], aim[rows])
        ask = Asker(model, rows, rise, attack.eot)
        gradient = attack.gradient(ask, now, momentum, draws, step)
        total = gradient + variance
        if hasattr(attack, "variance"):
            variance = attack.variance(ask, now, gradient, draws, step)
        momentum = (
            attack.decay * momentum + total / total.abs().flatten(1).mean(1).clamp_min(1e-30)[:, None, None, None]
        )
        now = confine(now + attack.size * momentum.sign(), x[rows], "linf", attack.eps, low, high)
        if not attack.stop:
            continue
        logits = logits_of(model, now, rows, attack.eot)
        fooled = confirmed(model, now, rows, logits, tracker.fooled, attack.eot)
        stand = tracker.see(rows, now, logits, rise(logits, slice(None)), fooled)
        rows, now, momentum, variance = rows[stand], now[stand], momentum[stand], variance[stand]
        if len(rows) == 0:
            break
    reached = {} if aim is None else {"targets_reached": int((tracker.first > 0).sum())}
    return tracker.found(**reached) if attack.stop else Found(now)


class Asker:
    """Gradients of the loss `rise` for the standing examples, through a transform where one is given.

    eot   draws of a randomised model that each gradient is the mean of, all at the same point
    """

    def __init__(self, model: Victim, rows: Tensor, rise: Rows, eot: int = 1) -> None:
        self.model, self.rows, self.rise, self.eot = model, rows, rise, eot

    def __call__(self, x: Tensor, transform: Any = None) -> Tensor:
        """The gradient with respect to x."""
        if transform is None:
            return gradient_of(self.model, x, self.rise, self.rows, self.eot)[0]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            changed = transform(x, slice(0, len(x)))
            inner = gradient_of(self.model, changed.detach(), self.rise, self.rows, self.eot)[0]
            return torch.autograd.grad(changed, x, inner)[0]


def diverse(images: Tensor, draws: Any, rate: float, prob: float) -> Tensor:
    """Each image shrunk to a random side in [rate, 1) of its own and padded with zeros at a random place.

    draws   `[m 4]` uniform: whether, side, top, left
    """
    h, w = images.shape[2:]
    out = []
    for image, (whether, side, top, left) in zip(images, draws.tolist()):
        new_h, new_w = (max(int(rate * size + side * (size - rate * size)), 1) for size in (h, w))
        if whether >= prob or (new_h, new_w) == (h, w):
            out.append(image)
            continue
        small = F.interpolate(image[None], size=(new_h, new_w), mode="bilinear", align_corners=False)[0]
        above, before = int(top * (h - new_h + 1)), int(left * (w - new_w + 1))
        out.append(F.pad(small, (before, w - new_w - before, above, h - new_h - above)))
    return torch.stack(out)


def smooth(gradient: Tensor, side: int, sigma: float) -> Tensor:
    """Each channel convolved with a normalised Gaussian of odd side, zero-padded.

    >>> round(float(smooth(torch.ones(1, 1, 9, 9), 3, 1.0)[0, 0, 4, 4]), 4)
    1.0
    """
    at = torch.arange(side, device=gradient.device, dtype=gradient.dtype) - (side - 1) / 2
    line = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    channels = gradient.shape[1]
    return F.conv2d(gradient, kernel.expand(channels, 1, side, side), padding=side // 2, groups=channels)

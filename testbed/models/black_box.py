"""A classifier of which only answers are seen: no weights, no gradients.

`query` takes float32 numpy `[n ...]` in the layout of a model (images `[n c h w]` in [0, 1]) and gives the scores
`[n k]` as the source has them, and features `[n d]` where it has those. What is done to the scores is here, once:
checked for shape and finite values, and turned into logits (log p of probabilities, floored at 1e-38). A backward pass
through a black box is an error that says so, never a zero gradient.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from testbed.errors import DataError
from testbed.types import Array, Floats

Scores = Literal["logits", "probs"]
_FLOOR: Final = 1e-38
_SUM_TOLERANCE: Final = 1e-2


class Answer(NamedTuple):
    """What a source answers: scores `[n k]` and, where it has them, features `[n d]`."""

    scores: Array
    features: Array | None = None


class BlackBox(nn.Module):
    """Base of black boxes; a subclass gives `query`.

    what     names the source in errors
    classes  number of columns its scores must have
    scores   "logits", or "probs": probabilities
    """

    def __init__(self, what: str, classes: int, scores: Scores = "logits") -> None:
        super().__init__()
        self.what, self.classes, self.scores = what, classes, scores

    def query(self, x: Floats) -> Answer:
        """The source's answer to float32 `[n ...]`."""
        raise NotImplementedError(f"{type(self).__name__} defines no query")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n k]`, float32, on the device of x."""
        return self.both(x)[0]

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits and features of one query."""
        answer = self.query(np.ascontiguousarray(x.detach().float().cpu().numpy()))
        logits = torch.from_numpy(as_logits(answer.scores, len(x), self.classes, self.scores, self.what)).to(x.device)
        features = None if answer.features is None else self._features(answer.features, len(x)).to(x.device)
        if x.requires_grad and torch.is_grad_enabled():
            logits = _Opaque.apply(x, logits, self.what)  # type: ignore[no-untyped-call]
        return logits, features

    def _features(self, found: Array, n: int) -> torch.Tensor:
        values = np.asarray(found, dtype=np.float32).reshape(len(found), -1)
        if len(values) != n or not np.isfinite(values).all():
            raise DataError(f"{self.what}: expected {n} rows of finite features, got {list(np.shape(found))}")
        return torch.from_numpy(np.array(values))


def as_logits(found: Any, n: int, classes: int, scores: Scores, what: str) -> Floats:
    """float32 logits `[n k]` from the scores a source gave; DataError where they are not what they should be.

    >>> as_logits([[0.25, 0.75]], 1, 2, "probs", "toy").round(3).tolist()
    [[-1.3860000371932983, -0.2879999876022339]]
    """
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what}: expected rows of {classes} numbers, got something else") from None
    if values.ndim == 2 and values.shape[1] != classes:
        raise DataError(f"{what} gives {values.shape[1]} classes, the data has {classes}")
    if values.shape != (n, classes):
        raise DataError(f"{what}: expected scores of shape [{n}, {classes}], got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise DataError(f"{what}: {int((~np.isfinite(values)).any(1).sum())} of {n} rows of scores are not finite")
    if scores == "logits":
        return values.astype(np.float32)
    if (values < 0).any() or (np.abs(values.sum(1) - 1) > _SUM_TOLERANCE).any():
        worst = float(values.sum(1)[np.abs(values.sum(1) - 1).argmax()])
        raise DataError(
            f"{what}: the grid says `scores: probs`, but the rows are no probabilities (smallest value "
            f"{values.min():.4g}, a row sums to {worst:.4g}); say `scores: logits`"
        )
    return np.log(np.maximum(values, _FLOOR)).astype(np.float32)


class _Opaque(torch.autograd.Function):
    """Hands the logits on, and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, logits: torch.Tensor, what: str) -> torch.Tensor:
        ctx.what = what
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[None, None, None]:
        raise DataError(f"{ctx.what} is a black box and gives no gradients; attack it by queries, or a surrogate of it")

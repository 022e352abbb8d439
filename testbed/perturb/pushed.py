"""A detector's score as a two-class model that no attack ever finishes: the victim for scores under attack.

AUROC and FPR95 under attack compare whole distributions, so an attack must push a score as far as its budget allows
and not stop at some threshold. With s the score, m and w the median and the interquartile range of the usual scores,

    u = asinh((s - m) / w)              tames scores of any scale, keeps their order
    g = -1 - softplus(-u)               rises with u and stays below -1
    logits = (-g, g)                    class 0 = in-distribution, and always the larger: nothing is ever fooled

for an in-distribution set, which is pushed up; for an out-of-distribution set u has the other sign and the classes are
exchanged. Every loss on two logits then rises with the push, the gradient of cross-entropy does not underflow, and the
image that stands for an example is the one of the furthest score. Trade-off: float32 logits resolve a change of score
of about 1e-6 of w near the middle, less far out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from testbed.types import Float64

#: (logits, features or None) -> scores `[n]`, larger = more out-of-distribution.
OutputsScore = Callable[[Any, Any], Any]


class Pushed(nn.Module):
    """The two-class model of a score; see the module.

    outputs  x -> (logits, features or None), differentiable
    usual    float `[m]`: scores of in-distribution examples, which give the middle and the scale
    side     "id": the set attacked is in-distribution; "ood": it is not

    >>> model = Pushed(nn.Identity(), lambda x: (x, None), lambda z, f: -z.amax(1), np.array([-3.0, -2.0, -1.0]), "id")
    >>> model(torch.tensor([[9.0, 0.0], [1.0, 0.0]])).argmax(1).tolist(), model.label
    ([0, 0], 0)
    """

    def __init__(
        self, module: nn.Module, outputs: Callable[[Tensor], tuple[Tensor, Tensor | None]], score: OutputsScore,
        usual: Float64, side: Literal["id", "ood"],
    ) -> None:  # fmt: skip
        super().__init__()
        self.module, self.side = module, side
        self._outputs, self._score = outputs, score
        finite = usual[np.isfinite(usual)]
        low, middle, high = np.quantile(finite, [0.25, 0.5, 0.75]) if len(finite) else (0.0, 0.0, 0.0)
        self.middle, self.width = float(middle), float(high - low) or 1.0
        self.threshold = float(np.quantile(finite, 0.95)) if len(finite) else float("inf")

    @property
    def label(self) -> int:
        """The class that every example of the set has: 0 in-distribution, 1 out-of-distribution."""
        return 0 if self.side == "id" else 1

    def scores(self, x: Tensor) -> Tensor:
        """The detector's scores `[n]`, larger = more out-of-distribution."""
        found = self._score(*self._outputs(x))
        return found if isinstance(found, Tensor) else torch.as_tensor(found)

    def crossed(self, x: Tensor) -> Tensor:
        """bool `[n]`: on the wrong side of the score below which 95 % of the usual ones are."""
        scores = self.scores(x)
        return scores > self.threshold if self.side == "id" else scores <= self.threshold

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[n 2]`."""
        push = torch.asinh((self.scores(x).double() - self.middle) / self.width)
        push = push if self.side == "id" else -push
        own = 1 + nn.functional.softplus(-push)
        pair = (own, -own) if self.side == "id" else (-own, own)
        return torch.stack(pair, dim=1).to(x.dtype)

"""Victims that are not the bare classifier: a detector's score, or a layer whose gradient is replaced.

A score attacked is a score turned into two logits, so that every attack on labels is an attack on a detector:

    logits = (threshold - score, score - threshold),  class 0 = in-distribution, class 1 = out-of-distribution

With y = 0 an attack makes in-distribution examples look out-of-distribution, with y = 1 the other way round; use the
margin loss. An example is fooled when it crosses the threshold; a threshold out of reach makes the attack push on for
all its steps, which is what an AUROC under attack needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from testbed.errors import UsageError, nearest

Score = Callable[[Tensor], Tensor]

#: Scores of logits `[n k]` that are larger for more out-of-distribution, by the registry's detector names.
SCORES: dict[str, Score] = {
    "msp": lambda z: -z.softmax(1).amax(1),
    "maxlogit": lambda z: -z.amax(1),
    "energy": lambda z: -torch.logsumexp(z, 1),
    "entropy": lambda z: -(z.softmax(1) * z.log_softmax(1)).sum(1),
}


class ScoreAsLogits(nn.Module):
    """A classifier and a score of its outputs as a two-class model.

    score      a function of what `module` gives, `[n]`, larger = more out-of-distribution; or a name in SCORES. One
               that leaves torch (a fitted numpy detector) has no gradient: attack it by queries, with square.

    >>> model = ScoreAsLogits(nn.Identity(), "maxlogit", threshold=-2.0)
    >>> model(torch.tensor([[3.0, 0.0], [1.0, 0.0]])).argmax(1).tolist()
    [0, 1]
    """

    def __init__(self, module: nn.Module, score: str | Score, threshold: float = 0.0) -> None:
        super().__init__()
        self.module, self.threshold = module, threshold
        self.score = SCORES[score] if isinstance(score, str) else score

    def forward(self, x: Tensor) -> Tensor:
        """Two logits `[n 2]`."""
        score = self.score(self.module(x))
        score = score if isinstance(score, Tensor) else torch.as_tensor(score)
        gap = score.to(x) - self.threshold
        return torch.stack([-gap, gap], dim=1)


class BPDA(nn.Module):
    """A layer with the gradient of another function: backward pass differentiable approximation (Athalye et al. 2018).

    layer       what the forward pass computes, differentiable or not
    substitute  what the backward pass differentiates; the identity where absent

    >>> layer = BPDA(lambda x: (8 * x).round() / 8)
    >>> x = torch.tensor([0.3], requires_grad=True)
    >>> layer(x).sum().backward(); x.grad.tolist()
    [1.0]
    """

    def __init__(self, layer: Any, substitute: Any = None) -> None:
        super().__init__()
        self.layer, self.substitute = layer, substitute

    def forward(self, x: Tensor) -> Tensor:
        """layer(x), with the gradient of substitute(x)."""
        smooth = x if self.substitute is None else self.substitute(x)
        with torch.no_grad():
            exact = self.layer(x)
        return cast(Tensor, smooth + (exact - smooth).detach())


def with_bpda(model: nn.Module, name: str, substitute: Any = None) -> nn.Module:
    """A copy of `model` (weights shared) whose submodule `name` has a substitute gradient.

    Raises UsageError where the model has no such submodule.
    """
    import copy

    known = [key for key, _ in model.named_modules() if key]
    if name not in known:
        raise UsageError(f"bpda: the model has no layer {name!r}; {nearest(name, known)}")
    shared = {id(p): p for p in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, dict(shared))
    parent, _, leaf = name.rpartition(".")
    holder = twin.get_submodule(parent)
    setattr(holder, leaf, BPDA(getattr(holder, leaf), substitute))
    return twin

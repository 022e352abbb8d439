"""Losses an attack maximises, one value a row. z `[m k]` logits, y int64 `[m]` labels, t int64 `[m]` targets.

z_(1) >= z_(2) >= ... are a row's sorted logits. Those that compare logits differ from cross-entropy where the
softmax saturates: cross-entropy then has a gradient of exactly zero in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

Name = Literal["ce", "margin", "dlr"]

#: A loss bound to the labels of some rows: called with logits and the slice of those rows they belong to.
Rows = Callable[[Tensor, slice], Tensor]


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """-log softmax(z)_y."""
    return F.cross_entropy(z, y, reduction="none")


def margin(z: Tensor, y: Tensor) -> Tensor:
    """max_{i != y} z_i - z_y; positive = fooled (Carlini and Wagner 2017, f_6 without its floor).

    >>> import torch
    >>> margin(torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([0])).tolist()
    [3.0]
    """
    own = z.gather(1, y[:, None]).squeeze(1)
    return z.scatter(1, y[:, None], float("-inf")).amax(1) - own


def odds(z: Tensor, y: Tensor) -> Tensor:
    """log((1 - p_y) / p_y) of the softmax p: log sum_{i != y} exp z_i - z_y.

    Cross-entropy is log(1 + exp odds), so both have the same direction of gradient; that of the odds never vanishes.

    >>> import torch
    >>> odds(torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([0])).tolist()
    [-199.30685424804688]
    """
    own = z.gather(1, y[:, None]).squeeze(1)
    return z.scatter(1, y[:, None], float("-inf")).logsumexp(1) - own


def dlr(z: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio, margin / (z_(1) - z_(3)) (Croce and Hein 2020, equation 6); needs three classes.

    With two classes z_(3) does not exist and the loss is the margin itself.

    >>> import torch
    >>> dlr(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([0])).tolist()
    [-0.5]
    """
    if z.shape[1] < 3:
        return margin(z, y)
    top = z.topk(3, dim=1).values
    return margin(z, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(z: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2) (Croce and Hein 2020, equation 7); needs four classes.

    With three classes the denominator is z_(1) - z_(3), with two there is none.

    >>> import torch
    >>> targeted_dlr(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([0]), torch.tensor([2])).tolist()
    [-0.800000011920929]
    """
    gap = (z.gather(1, t[:, None]) - z.gather(1, y[:, None])).squeeze(1)
    if z.shape[1] < 3:
        return gap
    top = z.topk(min(4, z.shape[1]), dim=1).values
    return gap / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)


def by_name(name: str, z: Tensor, y: Tensor) -> Tensor:
    """The untargeted loss called `name`."""
    return {"ce": cross_entropy, "margin": margin, "dlr": dlr}[name](z, y)


def towards(name: str, y: Tensor) -> Rows:
    """The loss called `name` as `Victim.gradient` takes it, for rows with labels y."""
    return lambda z, at: by_name(name, z, y[at])


def towards_target(y: Tensor, t: Tensor) -> Rows:
    """The targeted difference of logits ratio for rows with labels y and targets t."""
    return lambda z, at: targeted_dlr(z, y[at], t[at])


def towards_class(name: str, y: Tensor, t: Tensor) -> Rows:
    """What rises as rows go to the classes t: minus cross-entropy at t, the lead of t, or the targeted ratio."""
    return towards_target(y, t) if name == "dlr" else lambda z, at: -by_name(name, z, t[at])


def lead(y: Tensor, t: Tensor) -> Rows:
    """z_t - z_y for rows with labels y and other classes t."""
    return lambda z, at: (z.gather(1, t[at, None]) - z.gather(1, y[at, None])).squeeze(1)


def aims(which: Any, z: Tensor, y: Tensor, rng: Any) -> Tensor:
    """The class each row is sent to, int64 `[m]`: as given (a class, or `[m]` of them), or by a rule.

    By clean logits the runner-up or the least likely, or one by lot.

    >>> import torch
    >>> aims("least", torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]), None).tolist()
    [1]
    """
    import torch

    if not isinstance(which, str):
        return torch.as_tensor(which, device=y.device).long().expand(len(y))
    ranked = ranked_targets(z, y, z.shape[1] - 1)
    if which == "random":
        draws = torch.from_numpy(rng.uniform((), name="target")).to(z.device)
        at = (draws * ranked.shape[1]).long().clamp_max(ranked.shape[1] - 1)
        return ranked.gather(1, at[:, None]).squeeze(1)
    return ranked[:, 0 if which == "second" else -1]


def ranked_targets(z: Tensor, y: Tensor, most: int) -> Tensor:
    """The classes other than y by falling logit, int64 `[m min(most, k - 1)]`."""
    others = z.scatter(1, y[:, None], float("-inf"))
    return others.argsort(dim=1, descending=True, stable=True)[:, : min(most, z.shape[1] - 1)]

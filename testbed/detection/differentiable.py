"""Detector scores as torch functions of (logits, features), for attacks on the score itself.

`torch_score` gives, for a fitted detector, a function float `[n k]`, `[n d] | None` -> float64 `[n]` that agrees with
`detector.score` and carries gradients. The methods that keep their closed form are listed in `FORMS`; every other
detector is differentiated numerically (central differences in logits and features, exact to about 1e-6 where the score
is smooth), which needs 2 (k + d) evaluations a gradient. Where a score is a step function (ASH's mask, OpenMax's order,
CFOOD's grid) its gradient is that of the piece the example lies on.

Features and logits that come from one network belong together: both are given, and gradients flow into both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from testbed.detection.base import Detector, State
from testbed.types import Float64, Outputs

#: (logits, features) -> scores; torch tensors, or None for features a detector does not read.
Score: TypeAlias = Callable[[Any, Any], Any]


def torch_score(detector: Detector, outputs: Outputs | None = None) -> Score:
    """The score of a fitted detector as a differentiable function.

    outputs  where a detector that is not fitted (ASH, SCALE, LTS, MCM) finds the head: any outputs of the model

    >>> import torch
    >>> from testbed.detection.energy import Energy
    >>> f = torch.zeros(1, 2, requires_grad=True)
    >>> torch_score(Energy())(f, None).sum().backward()
    >>> f.grad.tolist()
    [[-0.5, -0.5]]
    """
    form = FORMS.get(type(detector).__name__)
    if form is None:
        return _numeric(detector, outputs)
    state = detector.state()

    def score(logits: Any, features: Any) -> Any:
        return form(detector, state, logits.double(), None if features is None else features.double())

    return score


def _msp(detector: Any, state: State, logits: Any, features: Any) -> Any:
    ordered = logits.sort(dim=1).values
    rest = (ordered[:, :-1] - ordered[:, -1:]).exp().sum(dim=1)
    return rest / (1 + rest)


def _maxlogit(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return -logits.max(dim=1).values


def _energy(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return -detector.temperature * (logits / detector.temperature).logsumexp(dim=1)


def _tempscale(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return _msp(detector, state, logits / state["temperature"], features)


def _entropy(detector: Any, state: State, logits: Any, features: Any) -> Any:
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def _mahalanobis(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return _squares(features, state["means"], state["whitening"]).min(dim=1).values


def _rmds(detector: Any, state: State, logits: Any, features: Any) -> Any:
    own = _squares(features, state["means"], state["whitening"]).min(dim=1).values
    return own - _squares(features, state["grand_mean"], state["grand_whitening"])[:, 0]


def _residual(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return ((features - _tensor(state["origin"], features)) @ _tensor(state["minor"], features)).norm(dim=1)


def _vim(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return state["alpha"] * _residual(detector, state, logits, features) - logits.logsumexp(dim=1)


def _react(detector: Any, state: State, logits: Any, features: Any) -> Any:
    return -_head(features.clamp(max=state["high"]), state).logsumexp(dim=1)


def _knn(detector: Any, state: State, logits: Any, features: Any) -> Any:
    import torch

    unit = torch.nn.functional.normalize(features, dim=1)
    bank = torch.nn.functional.normalize(_tensor(state["bank"], features), dim=1)
    rows = torch.topk(unit.detach() @ bank.T, detector.k, dim=1).indices[:, -1]
    return (unit - bank[rows]).norm(dim=1)


def _relation(detector: Any, state: State, logits: Any, features: Any) -> Any:
    import torch

    unit = torch.nn.functional.normalize(features, dim=1)
    bank = torch.nn.functional.normalize(_tensor(state["bank"], features), dim=1)
    edges = (unit @ bank.T).clamp(min=0) * (logits.softmax(dim=1) @ _tensor(state["probs"], features).T)
    return -torch.where(edges > detector.threshold, edges, 0.0).pow(detector.power).sum(dim=1)


#: Class name -> (detector, state, logits, features) -> scores.
FORMS: Final[Mapping[str, Callable[[Any, State, Any, Any], Any]]] = {
    "MSP": _msp, "MaxLogit": _maxlogit, "Energy": _energy, "TempScale": _tempscale, "Entropy": _entropy,
    "Mahalanobis": _mahalanobis, "RMDS": _rmds, "Residual": _residual, "ViM": _vim, "ReAct": _react, "KNN": _knn,
    "Relation": _relation,
}  # fmt: skip


def _tensor(array: Any, like: Any) -> Any:
    import torch

    return torch.from_numpy(np.array(array, dtype=np.float64)).to(like.device)


def _head(features: Any, state: State) -> Any:
    return features @ _tensor(state["head_weight"], features).T + _tensor(state["head_bias"], features)


def _squares(features: Any, means: Float64, whitening: Float64) -> Any:
    white = _tensor(whitening, features)
    gaps = (features @ white)[:, None, :] - _tensor(means, features) @ white
    return gaps.square().sum(dim=2)


def _numeric(detector: Detector, outputs: Outputs | None) -> Score:
    """The score with central differences as its backward pass."""
    import torch

    weight, bias = (None, None) if outputs is None else (outputs.head_weight, outputs.head_bias)

    def value(logits: Float64, features: Float64 | None) -> Float64:
        return detector.score(Outputs(logits, features, head_weight=weight, head_bias=bias))

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Any, features: Any) -> Any:
            f = logits.detach().double().cpu().numpy()
            z = None if features is None else features.detach().double().cpu().numpy()
            ctx.at, ctx.like = (f, z), (logits, features)
            return torch.from_numpy(value(f, z)).to(logits.device)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            f, z = ctx.at
            logits, features = ctx.like
            outer = gradient.detach().double().cpu().numpy()[:, None]
            along_f = slopes(lambda moved: value(moved, z), f) if "logits" in detector.consumes else np.zeros_like(f)
            into_f = torch.from_numpy(outer * along_f).to(logits)
            if z is None or "features" not in detector.consumes:
                return into_f, None
            return into_f, torch.from_numpy(outer * slopes(lambda moved: value(f, moved), z)).to(features)

    def score(logits: Any, features: Any) -> Any:
        return Through.apply(logits, features)  # type: ignore[no-untyped-call]

    return score


def slopes(value: Callable[[Float64], Float64], at: Float64, step: float = 1e-5) -> Float64:
    """d value_i / d at_ij by central differences, float64 `[n m]`; rows are independent of each other.

    >>> slopes(lambda x: (x**2).sum(axis=1), np.array([[1.0, 3.0]])).round(6).tolist()
    [[2.0, 6.0]]
    """
    out = np.empty_like(at)
    for j in range(at.shape[1]):
        move = np.zeros_like(at)
        move[:, j] = step * np.maximum(1.0, np.abs(at[:, j]))
        out[:, j] = (value(at + move) - value(at - move)) / (2 * move[:, j])
    return out

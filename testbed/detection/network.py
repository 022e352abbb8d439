"""Detectors that run the network themselves: on changed inputs, with changed maps, or several times.

They read inputs, not cached outputs, so they cost passes for every set they score (`passes`, an example, for the plan)
and are fitted and scored with the network at hand:

    fitted = ODIN().fit_network(classifier, x)                 x: float32 torch [n c h w] in [0, 1]
    scores = fitted.score_network(classifier, x, ids=ids)      float64 [n], larger = more OOD

Everything else (frozen parameters, state, restore, facts) is as in `testbed.detection.base`. Examples are taken in
batches of `batch`, in order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from testbed.detection.base import Detector, State
from testbed.errors import DataError, PluginViolation, UsageError, nearest
from testbed.types import Array, Float64, Floats, Ints, Outputs


class Network(Protocol):
    """What `testbed.models.classifier.Classifier` offers."""

    module: Any

    def logits(self, x: Any) -> Any:
        """Logits `[n k]`, differentiable in x."""

    def differentiable_outputs(self, x: Any) -> tuple[Any, Any]:
        """Logits and features (or None), differentiable in x."""

    def head(self) -> tuple[Floats, Floats] | None:
        """Weight and bias of the last linear layer."""


@dataclass(frozen=True)
class NetworkDetector(Detector):
    """Base of the detectors that consume inputs.

    passes      forward and gradient evaluations to score one example
    fit_passes  the same to fit on one example
    """

    consumes = ("inputs",)
    passes: ClassVar[Mapping[str, int]] = {"forward": 1, "gradient": 0}
    fit_passes: ClassVar[Mapping[str, int]] = {"forward": 1, "gradient": 0}

    def passes_of(self) -> Mapping[str, int]:
        """Evaluations to score one example with these parameters."""
        return self.passes

    def learn_network(self, network: Network, x: Any, labels: Ints | None, batch: int) -> dict[str, Any]:
        """What `fit_network` keeps; nothing unless a method says otherwise."""
        return {}

    @abstractmethod
    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""

    def fit_network(self, network: Network, x: Any, labels: Array | None = None, *, batch: int = 128) -> Self:
        """Learn from inputs float32 `[n ...]` (and labels int64 `[n]` where `labelled`), and return this detector."""
        if len(x) == 0:
            raise DataError(f"{type(self).__name__}: expected at least one example, got none")
        if self.labelled and (labels is None or len(labels) != len(x) or np.min(labels) < 0):
            raise DataError(f"{type(self).__name__}.fit_network needs one label >= 0 an example")
        truth = None if labels is None else np.asarray(labels, dtype=np.int64)
        object.__setattr__(self, "_state", self.learn_network(network, x, truth, batch))
        return self

    def score_network(self, network: Network, x: Any, *, ids: Array | None = None, batch: int = 128) -> Float64:
        """Scores float64 `[n]`, larger = more OOD."""
        state = self._fitted()
        if len(x) == 0:
            raise DataError(f"{type(self).__name__}: expected at least one example, got none")
        numbers = np.arange(len(x)) if ids is None else np.asarray(ids, dtype=np.int64)
        parts = [slice(start, start + batch) for start in range(0, len(x), batch)]
        scores = np.concatenate([self.judge(state, network, x[part], numbers[part]) for part in parts])
        if scores.shape != (len(x),) or scores.dtype != np.float64:
            raise PluginViolation(f"{type(self).__name__}: expected {len(x)} float64 scores, got {scores.shape}")
        return scores

    def fit(self, outputs: Outputs) -> Self:
        """Not from outputs: raises UsageError."""
        raise UsageError(f"{type(self).__name__} reads inputs, not outputs: use fit_network(classifier, x, labels)")

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """Not from outputs: raises UsageError."""
        raise UsageError(f"{type(self).__name__} reads inputs, not outputs: use score_network(classifier, x)")

    def score(self, outputs: Outputs) -> Float64:
        """Not from outputs: raises UsageError."""
        return self.evaluate(self._fitted(), outputs)


def step_down(x: Any, loss: Callable[[Any], Any], eps: float) -> Any:
    """x - eps sign(d sum(loss) / dx): the input step of ODIN and its kin; like theirs, not clipped."""
    import torch

    with torch.enable_grad():
        moving = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(moving).sum(), moving)
    return x.detach() - eps * gradient.sign()


def features_of(network: Network, x: Any, name: str) -> tuple[Any, Any]:
    """(logits, features), differentiable; DataError where the model has no features."""
    logits, features = network.differentiable_outputs(x)
    if features is None:
        raise DataError(f"{name} reads features, and this model has none: {getattr(network, 'feature_reason', '')}")
    return logits, features


@contextmanager
def map_hooks(module: Any, layers: Sequence[str], change: Callable[[str, Any], Any]) -> Iterator[None]:
    """While entered, `change(name, map)` sees each named layer's output; what it returns (not None) replaces it."""
    known = dict(module.named_modules())
    for name in layers:
        if name not in known or not name:
            raise UsageError(f"layer {name!r}: the model has no such module; {nearest(name, [k for k in known if k])}")
    hooks = [known[name].register_forward_hook(_hook(name, change)) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def map_layers(network: Network, x: Any) -> list[str]:
    """Names of the modules whose output is a map `[n c h w]` with h w > 1, in the order in which they finish.

    Where one module hands on the output of another unchanged (a container and its last part), the outer one counts.
    """
    import torch

    seen: dict[str, Any] = {}
    names = [name for name, _ in network.module.named_modules() if name]

    def note(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            for inner in [n for n, o in seen.items() if o is output]:
                del seen[inner]
            seen[name] = output

    with torch.no_grad(), map_hooks(network.module, names, note):
        network.logits(x[:1])
    if not seen:
        raise DataError("the network has no module that gives a map [n c h w]; name the layers")
    return list(seen)


def _hook(name: str, change: Callable[[str, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda _, __, output: change(name, output)

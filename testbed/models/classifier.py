"""A classifier as the testbed uses it: eval mode, frozen parameters, logits and penultimate features in one pass.

Features are the input of the last linear layer, found by running the network once on two grey examples: of all
`nn.Linear` modules that run, the last one, provided that its output is the logits. Where it is not (a network that
ends in a convolution, adds to the last layer, or averages several), there are no features, and `feature_reason` says
why. A layer can also be named: then the features are the input of that module, flattened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from testbed import boundary
from testbed.errors import DataError, UsageError, nearest
from testbed.models.black_box import BlackBox
from testbed.models.reading import Read
from testbed.types import Floats, Spec


class Classifier:
    """Wraps `module`, which takes float32 `[n c h w]` in [0, 1] and gives logits `[n k]`.

    The module is put into eval mode and its parameters are frozen; gradients still flow to the input.

    module         the torch module itself
    feature_layer  name of the module whose input is the features; None: found
    spec           of the data; its class count is checked against the logits
    feature_reason why there are no features, "" where there are
    """

    def __init__(self, module: nn.Module, feature_layer: str | None = None, *, spec: Spec) -> None:
        self.module = boundary.evaluating(module)
        for parameter in module.parameters():  # a scripted module does not do this by itself
            parameter.requires_grad_(False)
        self.spec, self.feature_reason = spec, ""
        self._layer: nn.Module | None = None
        self._is_head = False
        self._find(feature_layer)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n k]`; differentiable in `x`."""
        return boundary.logits(boundary.ask(self.module, x))

    @torch.no_grad()
    def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits `[n k]` and features `[n d]` (None where the model has none), float32."""
        return self.differentiable_outputs(x)

    def differentiable_outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `outputs`, with gradients that flow from both to `x`."""
        if isinstance(self.module, BlackBox):
            return self.module.both(x)
        if self._layer is None:
            return self.logits(x), None
        seen: list[torch.Tensor] = []
        hook = self._layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self.logits(x)
        finally:
            hook.remove()
        return logits, seen[-1].flatten(1).float()

    def head(self) -> tuple[Floats, Floats] | None:
        """Weight `[k d]` and bias `[k]` of the last linear layer, where logits = features @ weight.T + bias."""
        if not self._is_head or not isinstance(self._layer, nn.Linear):
            return None
        weight, bias = self._layer.weight, self._layer.bias
        zero = np.zeros(len(weight), dtype=np.float32)
        return weight.detach().float().cpu().numpy(), zero if bias is None else bias.detach().float().cpu().numpy()

    def _find(self, name: str | None) -> None:
        """Run once on two grey examples, check the logits and choose the feature layer; a black box is not asked."""
        if isinstance(self.module, BlackBox):
            self.feature_reason = "a black box gives scores only"
            return
        if isinstance(self.module, torch.jit.ScriptModule | Read):
            if name is not None:
                raise UsageError(f"feature_layer {name!r}: a scripted module shows none of its layers")
            self.feature_reason = "a scripted module shows none of its layers"
            with torch.no_grad():
                self._check(boundary.ask(self.module, grey(self.spec, self.module)))
            return
        modules = {key: module for key, module in self.module.named_modules() if key}
        if name is not None and name not in modules:
            raise UsageError(f"feature_layer {name!r}: the model has no such module; {nearest(name, modules)}")
        watched = {key: m for key, m in modules.items() if key == name or (name is None and isinstance(m, nn.Linear))}
        runs = _Runs(watched)
        with torch.no_grad(), runs:
            logits = boundary.ask(self.module, grey(self.spec, self.module))
        self._check(logits)
        if not runs.order:
            what = f"the module {name!r} does not run" if name else "no nn.Linear module runs in it"
            self.feature_reason = f"{what}, so there are no features"
            return
        last, output = runs.order[-1]
        if name is None and not (output.shape == logits.shape and torch.equal(output, logits)):
            self.feature_reason = f"the last linear layer {last!r} does not give the logits: something follows it"
            return
        self._layer = watched[last]
        self._is_head = (
            isinstance(self._layer, nn.Linear) and output.shape == logits.shape and torch.equal(output, logits)
        )

    def _check(self, logits: Any) -> None:
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            got = list(logits.shape) if isinstance(logits, torch.Tensor) else boundary.shape_of(logits)
            way = "" if isinstance(logits, torch.Tensor) else f"; say which part has them: `output: {_example(logits)}`"
            raise DataError(f"{type(self.module).__name__}: expected logits [n k], got {got}{way}")
        if logits.shape[1] != self.spec.classes:
            raise DataError(
                f"{type(self.module).__name__} gives {logits.shape[1]} classes, the data has {self.spec.classes}"
            )


class _Runs:
    """While entered, records which of the watched modules run and what they give, in order."""

    def __init__(self, watched: dict[str, nn.Module]) -> None:
        self.order: list[tuple[str, torch.Tensor]] = []
        self._watched, self._hooks = watched, []  # type: tuple[dict[str, nn.Module], list[Any]]

    def __enter__(self) -> None:
        for key, module in self._watched.items():
            self._hooks.append(module.register_forward_hook(self._note(key)))

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, key: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        return lambda _, __, output: self.order.append((key, output))


def _example(found: Any) -> str | int:
    """A key of what a network gave, to show how one is named: `logits` where there is that."""
    if not isinstance(found, Mapping):
        return "logits" if hasattr(found, "logits") else 0
    return "logits" if "logits" in found else str(next(iter(found), "KEY"))


def grey(spec: Spec, module: nn.Module) -> torch.Tensor:
    """Two examples in the middle of the bounds, on the module's device."""
    low, high = (torch.tensor(side, dtype=torch.float32) for side in zip(*spec.bounds, strict=True))
    middle = (low + high) / 2
    shape = spec.model_shape
    one = middle.expand(shape) if middle.numel() == 1 else middle.view(-1, *[1] * (len(shape) - 1)).expand(shape)
    first = next(module.parameters(), None)
    return one.expand(2, *shape).clone().to("cpu" if first is None else first.device)

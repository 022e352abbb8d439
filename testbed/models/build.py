"""From a model plug-in to a torch module, with weights where a file is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from testbed.errors import PluginViolation
from testbed.models import weights as weight_files
from testbed.types import Spec


def module(
    plugin: Any,
    spec: Spec,
    weights: str | Path | None = None,
    key_map: Mapping[str, str] | None = None,
    bare: bool = False,
) -> nn.Module:
    """The torch module of a built model plug-in: a dataclass with `build(spec)`, or a function of the spec.

    bare  the weights come from elsewhere: a plug-in whose `build` fetches some may offer `architecture(spec)` instead

    >>> from testbed import plugins
    >>> net = module(plugins.read("model", "small_cnn").build(), Spec("image", (8, 8, 1), classes=10))
    >>> type(net).__name__
    'SmallCnn'
    """
    if bare and hasattr(plugin, "architecture"):
        built = plugin.architecture(spec)
    else:
        built = plugin.build(spec) if hasattr(plugin, "build") else plugin(spec)
    if not isinstance(built, nn.Module):
        raise PluginViolation(f"the model plug-in gave a {type(built).__name__}, expected a torch.nn.Module")
    own = getattr(plugin, "key_map", None)
    return built if weights is None else weight_files.load(built, weights, key_map or own)

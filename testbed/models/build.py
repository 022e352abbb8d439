"""From a model plug-in to a torch module, with weights where a file is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from testbed import boundary, makers
from testbed.errors import PluginViolation, TestbedError
from testbed.models import weights as weight_files
from testbed.types import Spec


def module(
    plugin: Any,
    spec: Spec,
    weights: str | Path | None = None,
    key_map: Mapping[str, str] | None = None,
    bare: bool = False,
) -> nn.Module:
    """The torch module of a built model plug-in: a dataclass with `build(spec)`, a function, or a module's class.

    bare  the weights come from elsewhere: a plug-in whose `build` fetches some may offer `architecture(spec)` instead

    >>> from testbed import plugins
    >>> net = module(plugins.read("model", "small_cnn").build(), Spec("image", (8, 8, 1), classes=10))
    >>> type(net).__name__
    'SmallCnn'
    """
    if bare and hasattr(plugin, "architecture"):
        built = plugin.architecture(spec)
    else:
        built = plugin.build(spec) if hasattr(plugin, "build") else _made(plugin, spec)
    if not isinstance(built, nn.Module):
        what = "nothing (does it return the network?)" if built is None else f"a {type(built).__name__}"
        raise PluginViolation(f"the model plug-in gave {what}, expected a torch.nn.Module")
    own = getattr(plugin, "key_map", None)
    return built if weights is None else weight_files.load(built, weights, key_map or own)


def _made(plugin: Any, spec: Spec) -> Any:
    """What the user's code gives; what it raises is told with the line that raised it."""
    try:
        return makers.made(plugin, spec)
    except TestbedError:
        raise
    except Exception as error:
        name = boundary.name_of(getattr(plugin, "func", plugin))
        raise PluginViolation(
            f"the model plug-in {name} raised {type(error).__name__}: {error}{boundary.place(error)}"
        ) from error

"""Where a model's weights may come from: what fits its plug-in, and the packages that it runs with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from testbed.data.base import beside
from testbed.digest import digest_file
from testbed.errors import MissingExtra, TestbedError
from testbed.grid.asking import Resolver
from testbed.grid.model import Model
from testbed.grid.reader import Where
from testbed.grid.resolved import Bound
from testbed.plugins import Plugin, installed_version

#: Distribution -> the extra of this project that brings it.
EXTRAS = {
    "onnxruntime": "onnx", "timm": "timm", "torchvision": "torchvision", "transformers": "transformers",
    "robustbench": "robustbench", "faiss-cpu": "faiss",
}  # fmt: skip


def source_problems(entry: Model, plugin: Plugin) -> Iterator[tuple[str, str]]:
    """(key, message) of everything that does not fit; the key is "" where one is missing."""
    name, source = plugin.name, plugin.facts["weights_from"]
    if plugin.facts["adapter"]:
        yield "use", f"{name!r} is a library: name one of its models behind a colon, as in {name}:NAME"
    if entry.train is not None and entry.weights is not None:
        yield "weights", "give either `train` or `weights`, not both"
    if source != "anywhere" and entry.train is not None:
        yield "train", f"the model {name!r} cannot be trained here: it is run as it is"
    if source == "nowhere" and entry.weights is not None:
        yield "weights", f"the model {name!r} takes no file of weights"
    if source == "file" and entry.weights is None:
        yield "", f"the model {name!r} needs its file: `weights: FILE.onnx`"
    if entry.weights is not None and source != "nowhere" and (source == "file") != entry.weights.endswith(".onnx"):
        fitting = "an ONNX file (.onnx)" if source == "file" else "safetensors or torch weights; an .onnx file runs as"
        yield "weights", f"expected {fitting}{'' if source == 'file' else ' `use: onnx`'}, got {entry.weights!r}"
    if not plugin.facts["gradients"] and entry.feature_layer is not None:
        yield "feature_layer", f"the black box {name!r} has no layers to name"


def weight_path(entry: Model, bound: Bound, base: Path) -> Path | None:
    """The file of a model's weights: the one the grid names, or the one that an installed model brings."""
    if entry.weights is not None:
        return beside(base, entry.weights)
    if entry.train is not None or bound.plugin.source is not None or bound.plugin.facts["adapter"]:
        return None
    built = bound.plugin.build(**bound.params)
    found: Path | None = built.weight_file() if hasattr(built, "weight_file") else None
    return found


def settled(resolver: Resolver, where: Where, bound: Bound) -> Bound:
    """A model of ours with what names its content, a commit or digests of local files; a problem where that fails."""
    try:
        bound, places = _settled(bound)
    except (TestbedError, OSError) as error:
        resolver.fail((*where, "use"), str(error))
        return bound
    resolver.places |= places
    return bound


def _settled(bound: Bound) -> tuple[Bound, dict[str, str]]:
    if bound.plugin.foreign or bound.plugin.facts["adapter"]:
        return bound, {}
    built = bound.plugin.build(**bound.params)
    params = built.pinned() if hasattr(built, "pinned") else {}
    files: tuple[Path, ...] = built.files() if hasattr(built, "files") else ()
    if not params and not files:
        return bound, {}
    digests = {path: digest_file(path) for path in files}
    root = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    content = {path.relative_to(root).as_posix(): one for path, one in digests.items()}
    places = {one: str(path) for path, one in digests.items()}
    return replace(bound, params={**bound.params, **params}, content=content), places


def missing_packages(plugin: Plugin) -> MissingExtra | None:
    """The error about the packages of a plug-in that are not installed."""
    missing = [one for one in plugin.facts["packages"] if installed_version(one) == "none"]
    if not missing:
        return None
    return MissingExtra(missing[0], f"{plugin.kind} {plugin.ref!r}", pip_line(missing[0]))


def pip_line(package: str) -> str:
    """What to write behind `pip install`.

    >>> pip_line("onnxruntime")
    "'robustness-testbed[onnx]'"
    """
    return f"'robustness-testbed[{EXTRAS[package]}]'" if package in EXTRAS else package

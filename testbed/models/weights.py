"""Weights in and out: safetensors, or torch files that hold tensors and nothing that runs.

`torch.load(weights_only=True)` refuses every pickle that names code; so does this, and says so. The usual wrappings
are taken off: a mapping under "state_dict", "model" or "net", and the prefix "module." of DataParallel. Nothing else is
guessed: every other key that does not fit is an error that names it.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from testbed.errors import DataError

KeyMap = Mapping[str, str] | Callable[[str], str | None]
_WRAPPERS = ("state_dict", "model", "net")


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file by name. Raises DataError where it is damaged or wants to run code.

    An ONNX file is one tensor of bytes, "onnx": it is not taken apart.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no weight file {path}")
    if path.suffix == ".onnx":
        return {"onnx": torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)}
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, torch.Tensor] = load_file(path)
        except SafetensorError as error:
            raise DataError(f"{path} is not a whole safetensors file: {error}") from None
        return tensors
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(GLOBAL|global|type|class)\s+`?([\w.]+)", str(error).partition("\n")[2])
        reason = f"it asks for {named[2]}" if named else "no unpickler of plain tensors reads it"
        raise DataError(
            f"{path} is refused: it is a pickle that would run code, or is damaged ({reason}). "
            "Where you trust it, load it yourself and save its state_dict as safetensors"
        ) from None
    except (RuntimeError, EOFError) as error:
        raise DataError(f"{path} is not a whole torch file: {str(error).partition(chr(10))[0]}") from None
    return _unwrap(found, path)


def load(module: nn.Module, path: str | Path, key_map: KeyMap | None = None) -> nn.Module:
    """Put the weights of a file into `module` and return it.

    `key_map` renames the file's keys: a mapping from the file's name to the module's (others keep theirs), or a
    function from name to name (None leaves the tensor out). Raises DataError that names every key that is missing, left
    over or of another shape.
    """
    return fit(module, read(path), key_map, where=str(path))


def fit(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], key_map: KeyMap | None = None, *, where: str
) -> nn.Module:
    """Put tensors by name into `module` and return it; as `load`, for tensors that are read already."""
    state = rename(tensors, key_map)
    free: frozenset[str] = getattr(module, "sized_by_file", frozenset())
    own = tensors_of(module.state_dict())
    expected = {key: state.get(key, value) if key in free else value for key, value in own.items()}
    problems = mismatches(expected, state)
    if problems:
        shown = "\n  ".join(problems[:12]) + (f"\n  and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise DataError(
            f"the weights of {where} do not fit {type(module).__name__}:\n  {shown}\n"
            "  the file is of another network, or of this one with other parameters, classes or input size"
        )
    _load(module, state)
    return module


def tensors_of(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The entries of a state dict that are tensors: what is kept of it.

    Packed weights of a quantised layer, its dtypes, and what `get_extra_state` gives are made by the network's code.
    """
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def restore(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `tensors_of` kept; all tensors must be there, and the network's code has made the rest."""
    wrong = sorted(tensors_of(module.state_dict()).keys() ^ tensors.keys())
    if wrong:
        raise DataError(f"the kept weights do not fit {type(module).__name__}: {', '.join(wrong[:3])}")
    _load(module, tensors)


def _load(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Into the module's own state dict, whose versions tell a quantised layer what its entries are."""
    state = module.state_dict()
    state.update(tensors)
    module.load_state_dict(state)


def save(module: nn.Module, path: str | Path) -> None:
    """Write the module's state dict as safetensors: temporary name, fsync, rename; same weights, same bytes."""
    write(tensors_of(module.state_dict()), path)


def write(tensors: Mapping[str, torch.Tensor], path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically."""
    from safetensors.torch import save as serialise

    path = Path(path)
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(serialise(whole, metadata))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def rename(state: Mapping[str, torch.Tensor], key_map: KeyMap | None) -> dict[str, torch.Tensor]:
    """`state` under the names that `key_map` gives; two tensors under one name are an error."""
    if key_map is None:
        return dict(state)
    named: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        new = key_map(key) if callable(key_map) else key_map.get(key, key)
        if new is None:
            continue
        if new in named:
            raise DataError(f"the key map gives the name {new!r} to two tensors, one of them {key!r}")
        named[new] = value
    return named


def mismatches(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps `state` from being loaded, one line a key; counters of batch norm may be absent.

    >>> mismatches({"w": torch.zeros(2, 3)}, {"w": torch.zeros(3), "b": torch.zeros(1)})
    ["'w': the model has shape [2, 3], the file [3]", "'b': in the file, not in the model (shape [1])"]
    """
    problems = []
    for key, value in expected.items():
        if key not in state:
            if not key.endswith("num_batches_tracked"):
                problems.append(f"{key!r}: in the model, not in the file (shape {list(value.shape)})")
        elif state[key].shape != value.shape:
            problems.append(f"{key!r}: the model has shape {list(value.shape)}, the file {list(state[key].shape)}")
    left = [
        f"{key!r}: in the file, not in the model (shape {list(state[key].shape)})"
        for key in state
        if key not in expected
    ]
    return problems + left


def _unwrap(found: object, path: Path) -> dict[str, torch.Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise DataError(f"{path} holds no state dict: expected tensors by name, got {type(found).__name__}")
    prefixed = all(str(key).startswith("module.") for key in found)
    return {str(key).removeprefix("module.") if prefixed else str(key): value for key, value in found.items()}

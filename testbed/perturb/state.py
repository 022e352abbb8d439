"""What a model remembers, so that an attack that changes it is caught: its state dict, whatever that is made of.

Mostly tensors. But a quantised layer keeps packed weights and dtypes, `get_extra_state` gives anything, and a scripted
one objects of its own. Tensors are kept as copies and compared bit by bit (a NaN equals itself); containers by their
parts; everything else by its pickle, and by its type where it has none.

A model may also change by being asked: a buffer that counts calls, a moving average. What its own forward changes is
told apart by comparing before an attack begins (`settled`), so that no attack is blamed for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class State:
    """The state of `module` as it is now; of a plain callable nothing is known.

    >>> net = torch.nn.Linear(1, 1)
    >>> before = State(net)
    >>> with torch.no_grad(): _ = net.bias.add_(1)
    >>> before.changed()
    ['bias']
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.own: frozenset[str] = frozenset()
        self.before = {key: kept(value) for key, value in self._now().items()}

    def _now(self) -> dict[str, Any]:
        return dict(self.module.state_dict()) if isinstance(self.module, torch.nn.Module) else {}

    def changed(self) -> list[str]:
        """The entries that differ now, less those that the model itself changes."""
        now = self._now()
        same = {key for key, value in self.before.items() if key in now and alike(value, now[key])}
        return [key for key in self.before if key not in same and key not in self.own]

    def settled(self) -> State:
        """The state after the model was asked and nothing else happened: what differs is the model's own doing."""
        self.own = frozenset(self.changed())
        return self

    def restore(self) -> None:
        """Put the tensors back."""
        tensors = {k: v for k, v in self.before.items() if isinstance(v, Tensor) and k not in self.own}
        now = self.module.state_dict()  # with the versions of its entries, which a quantised layer reads
        now.update(tensors)
        self.module.load_state_dict(now)


def kept(value: Any) -> Any:
    """A copy of an entry that a later change does not reach: tensors as they are, the rest as `fingerprint`."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return fingerprint(value)


def alike(before: Any, now: Any) -> bool:
    """Whether an entry is what `kept` was made of."""
    if isinstance(before, Tensor):
        return isinstance(now, Tensor) and same_bits(before, now.detach())
    return bool(before == fingerprint(now))


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same bits, NaN included.

    >>> same_bits(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    True
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if torch.equal(a, b):
        return True
    if not a.is_floating_point():
        return False
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def fingerprint(value: Any) -> Any:
    """Something that compares equal where `value` is the same: plain values, tuples and bytes."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu()
        scale = (str(plain.qscheme()), fingerprint(_scales(plain))) if plain.is_quantized else ()
        whole = plain.int_repr() if plain.is_quantized else plain
        bits = whole.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return (str(value.dtype), tuple(value.shape), scale, bits)
    if isinstance(value, Mapping):
        return tuple((str(key), fingerprint(one)) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *map(fingerprint, value))
    try:
        return pickle.dumps(value)
    except Exception:  # whatever an object's own __reduce__ raises: it cannot be looked into
        return type(value).__qualname__


def _scales(value: Tensor) -> Any:
    """Scale and zero point of a quantised tensor."""
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return (value.q_scale(), value.q_zero_point())
    return (value.q_per_channel_scales(), value.q_per_channel_zero_points())

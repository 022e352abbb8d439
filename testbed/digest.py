"""Content digests: what makes two pieces of work the same work.

A digest is BLAKE3 over the canonical JSON of a recipe, printed as 20 characters of lower-case base 32 (100 bits).
Canonical means: keys sorted, no white space, and one spelling for one value. A whole float is written as a float
(`1.0`), an integer as an integer, so the caller types its parameters before it asks (8/255 and its decimal are then
one float). NaN and infinities are refused: a recipe holding one would be a mistake.

Accepted trade-off: 100 bits make an accidental collision impossible in practice, not a deliberate one; the store is
not a defence against somebody who can write to it.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

LENGTH = 20


def canonical(value: Any) -> str:
    """The one spelling of a recipe made of mappings, sequences, strings, numbers, booleans and None.

    >>> canonical({"b": 8 / 255, "a": (1, 2.0, None)})
    '{"a":[1,2.0,null],"b":0.03137254901960784}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=_plain)


def digest(value: Any) -> str:
    """The digest of a recipe.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 2.0})
    True
    """
    return digest_bytes(canonical(value).encode())


def digest_bytes(*pieces: bytes | bytearray | memoryview) -> str:
    """The digest of raw bytes, in one piece or in several one behind the other."""
    hasher = blake3()
    for piece in pieces:
        hasher.update(piece)
    return _spell(hasher.digest())


def digest_file(path: str | Path) -> str:
    """The digest of a file's bytes, read in parallel through a memory map."""
    return _spell(blake3(max_threads=blake3.AUTO).update_mmap(path).digest())


def _spell(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()[:LENGTH]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return list(value)
    raise TypeError(f"a recipe holds a {type(value).__name__}, which has no canonical form")

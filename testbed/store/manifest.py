"""The manifest: what a finished job left in the store, and from what.

Byte-stable: the same job gives the same bytes on every machine, so it holds no times, hosts or costs. Its first line
carries a check over the rest, so a manifest that was cut short or altered reads as absent, and its job runs again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from testbed.digest import LENGTH, digest, digest_bytes

MANIFEST_VERSION: Final = 1
_HEAD: Final = b'{"check": "'
_MIDDLE: Final = b'",\n"manifest": '
_TAIL: Final = b"}\n"

Format = Literal["safetensors", "parquet", "json"]


@dataclass(frozen=True)
class Blob:
    """One stored file: name under `blobs/`, hash of its bytes, size, how to read it, and what it is for.

    role  "inputs" (perturbed images: may be dropped once used), "outputs", "rows", "weights" ...
    """

    file: str
    hash: str
    bytes: int
    format: Format
    role: str


@dataclass(frozen=True)
class Manifest:
    """What the job `digest` left: blobs by name, small facts in `meta`, and the content it consumed.

    recipe   the job's recipe in clear
    inputs   digest of an input job -> content hash of what was read of it
    dropped  names of blobs whose files were removed on purpose; their hashes stay
    """

    digest: str
    kind: str
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str]
    blobs: Mapping[str, Blob]
    meta: Mapping[str, Any]
    dropped: tuple[str, ...] = ()
    content: str = field(init=False)

    def __post_init__(self) -> None:
        hashes = {name: blob.hash for name, blob in self.blobs.items()}
        object.__setattr__(self, "content", digest({"blobs": hashes, "meta": self.meta}))

    @property
    def reusable(self) -> bool:
        """Whether a later run may take it as it is: not where a plug-in read what is not in the digest."""
        return not self.meta.get("undeclared")

    def names(self, prefix: str = "") -> tuple[str, ...]:
        """Names of the blobs that start with `prefix`, sorted: the shards of one thing in order."""
        return tuple(sorted(name for name in self.blobs if name.startswith(prefix)))

    def of_roles(self, roles: Iterable[str]) -> tuple[str, ...]:
        """Names of the blobs of these roles, sorted."""
        wanted = set(roles)
        return tuple(sorted(name for name, blob in self.blobs.items() if blob.role in wanted))

    def kept(self) -> dict[str, Blob]:
        """The blobs that were not dropped."""
        return {name: blob for name, blob in self.blobs.items() if name not in self.dropped}

    def to_bytes(self) -> bytes:
        """The file's bytes: indented JSON with sorted keys behind a check over them."""
        blobs = {name: vars(blob) for name, blob in self.blobs.items()}
        fields = {"version": MANIFEST_VERSION, **vars(self), "blobs": blobs, "dropped": sorted(self.dropped)}
        body = json.dumps(fields, sort_keys=True, indent=1, allow_nan=False)
        return _framed(body.encode())


def _framed(body: bytes | bytearray) -> bytes:
    return b"".join((_HEAD, digest_bytes(body).encode(), _MIDDLE, body, _TAIL))


def parse(data: bytes | bytearray) -> Manifest | None:
    """The manifest in these bytes, or None where they are not a whole, unaltered manifest of this version.

    >>> m = Manifest("d", "score", {"a": 1}, {}, {"x": Blob("ab/abc.json", "abc", 3, "json", "rows")}, {"n": 2})
    >>> parse(m.to_bytes()) == m, parse(m.to_bytes()[:-3]), parse(m.to_bytes().replace(b'"n": 2', b'"n": 3'))
    (True, None, None)
    """
    body = data[len(_HEAD) + LENGTH + len(_MIDDLE) : -len(_TAIL)]
    if data != _framed(body):
        return None
    try:
        fields = json.loads(body)
        if not isinstance(fields, dict) or fields.pop("version") != MANIFEST_VERSION:
            return None
        content = fields.pop("content")
        fields["blobs"] = {name: Blob(**blob) for name, blob in fields["blobs"].items()}
        manifest = Manifest(**fields | {"dropped": tuple(fields["dropped"])})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return manifest if _sound(manifest) and manifest.content == content else None


def _sound(manifest: Manifest) -> bool:
    """Whether every value is of its kind, and every file is named by a hash: a manifest may come from anybody."""
    inputs, blobs = manifest.inputs, manifest.blobs
    return (
        _is_name(manifest.digest)
        and isinstance(manifest.kind, str)
        and all(isinstance(one, dict) for one in (manifest.recipe, inputs, blobs, manifest.meta))
        and all(_is_name(one) for pair in inputs.items() for one in pair)
        and all(_is_blob(blob, manifest.digest) for blob in blobs.values())
        and all(name in blobs for name in manifest.dropped)
    )


def _is_blob(blob: Blob, owner: str) -> bool:
    whose = (f"{blob.hash}.{blob.format}", f"{blob.hash}.{owner}.{blob.format}")
    return (
        _is_name(blob.hash)
        and blob.format in get_args(Format)
        and blob.file in tuple(f"{blob.hash[:2]}/{name}" for name in whose)
        and type(blob.bytes) is int
        and blob.bytes >= 0
        and isinstance(blob.role, str)
    )


def _is_name(value: object) -> bool:
    """Whether a value has the letters of a digest, and so can stand in a path."""
    return isinstance(value, str) and value.isascii() and value.isalnum()

"""How operations read and write sets, outputs and fitted states: the one place that knows their layout in the store.

set       blobs set-00000 ... {x, y, ids[, groups]} of at most `shard` examples each, in id order; meta spec, n
outputs   blobs outputs-00000 ... {logits, y, ids[, features, groups]}; blob head {weight, bias}; meta n
ledger    blob ledger {ids, one array a column of types.LEDGER}
state     blob state (arrays) and meta state (plain values)
rows      one parquet table
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from testbed import loading
from testbed.errors import DataError, UsageError
from testbed.imports import digest_of
from testbed.plugins import Plugin, from_recipe
from testbed.store import Store, Writer
from testbed.types import Array, Examples, Job, Outputs, Spec

PREVIEW = 64


def code(kind: str, recipe: Mapping[str, Any], store: Store) -> Plugin:
    """The plug-in a recipe names, from the store where it is a user's. Raises DataError where what it reads changed."""
    unchanged(recipe)
    return from_recipe(kind, recipe, store.source)


def unchanged(recipe: Mapping[str, Any]) -> None:
    """Refuse to run a plug-in where what it declares to read is not what the plan saw."""
    for spelled, planned in recipe.get("reads", {}).items():
        key = f"{recipe['source']}:{spelled}"
        try:
            found = digest_of(spelled, Path(loading.places.get(key, spelled)))
        except UsageError as error:
            raise DataError(f"the plug-in {recipe['use']!r}: {error}; it must be there on every node") from None
        if found != planned:
            what = "the environment variable" if spelled.startswith("$") else "the file"
            raise DataError(f"{what} {spelled} that {recipe['use']!r} reads is not what the plan saw; plan again")


def spec_of(meta: Mapping[str, Any]) -> Spec:
    """The spec that a describe or set artifact carries."""
    plain = dict(meta["spec"])
    for name in ("shape", "categorical", "class_names"):
        plain[name] = tuple(plain[name])
    plain["bounds"] = tuple(tuple(pair) for pair in plain["bounds"])
    return Spec(**plain)


def one(job: Job, role: str) -> str:
    """The only input of a role."""
    (digest,) = job.inputs[role]
    return digest


def described(job: Job, store: Store) -> Spec:
    """The spec of the data set that a job is about."""
    return spec_of(store.require(one(job, "describe")).meta)


def shards(store: Store, digests: Sequence[str], part: int | None = None) -> Iterator[Examples]:
    """The shards of a set in id order; with `part`, only that one."""
    position = 0
    for digest in digests:
        manifest = store.require(digest)
        spec = spec_of(manifest.meta)
        names = tuple(manifest.meta.get("group_names", ()))
        for name in sorted(n for n in manifest.blobs if n.startswith("set-")):
            if part is None or position == part:
                t = store.tensors(digest, name)
                yield Examples(t["x"], t["y"], t["ids"], spec, t.get("groups"), names)
            position += 1


def whole(store: Store, digests: Sequence[str]) -> Examples:
    """A set in memory."""
    parts = list(shards(store, digests))
    groups = None if parts[0].groups is None else np.concatenate([p.groups for p in parts if p.groups is not None])
    x, y, ids = (np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "y", "ids"))
    return Examples(x, y, ids, parts[0].spec, groups, parts[0].group_names)


class SetWriter:
    """Writes a set shard by shard; `PREVIEW` examples are kept apart, for the report, drawn by id as in `lottery`.

    role  "data" for splits, which stay; "inputs" for perturbed sets, which `keep: outputs` drops once they are read
    """

    def __init__(self, writer: Writer, spec: Spec, group_names: Sequence[str] = (), role: str = "inputs") -> None:
        self.writer, self.role, self.count, self.n = writer, role, 0, 0
        self.preview: Examples | None = None
        writer.meta.update(spec=asdict(spec), group_names=list(group_names))

    def add(self, examples: Examples, shard: int | None = None) -> None:
        """Write these examples as the next shards of at most `shard` examples."""
        step = shard or max(len(examples), 1)
        for start in range(0, len(examples), step):
            part = examples.take(slice(start, start + step))
            write_shard(self.writer, f"{self.count:05d}", part, self.role)
            self.preview = part if self.preview is None else joined(self.preview, part)
            self.preview = self.preview.take(np.sort(np.argsort(lottery(self.preview.ids), kind="stable")[:PREVIEW]))
            self.count += 1
            self.n += len(part)

    def close(self) -> None:
        """Write the preview and the size; an empty set is an error."""
        if self.preview is None:
            raise DataError("the set is empty: it has no examples")
        kept = {"x": np.ascontiguousarray(self.preview.x), "ids": self.preview.ids}
        self.writer.tensors("preview", kept, role="preview")
        self.writer.meta["n"] = self.n


def write_shard(writer: Writer, number: str, part: Examples, role: str = "inputs") -> None:
    """Write one shard of a set."""
    arrays = {"x": np.ascontiguousarray(part.x), "y": part.y, "ids": part.ids}
    if part.groups is not None:
        arrays["groups"] = part.groups
    writer.tensors(f"set-{number}", arrays, role=role)


def joined(first: Examples, second: Examples) -> Examples:
    """Two parts of one set as one, without their groups."""
    x, y, ids = (np.concatenate([getattr(e, name) for e in (first, second)]) for name in ("x", "y", "ids"))
    return Examples(x, y, ids, first.spec)


def lottery(ids: Array) -> Array:
    """uint64 `[n]`: a number an id that looks random and is the same everywhere (the splitmix64 finaliser).

    >>> lottery(np.array([0, 1])).argsort().tolist()
    [0, 1]
    """
    z = np.asarray(ids).astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    found: Array = z ^ (z >> np.uint64(31))
    return found


def outputs(store: Store, digest: str, features: bool = True) -> Outputs:
    """All outputs of one model on one set."""
    manifest = store.require(digest)
    names = sorted(n for n in manifest.blobs if n.startswith("outputs-"))
    parts = [store.tensors(digest, name) for name in names]

    def joined(key: str) -> Array | None:
        return np.concatenate([p[key] for p in parts]) if key in parts[0] else None

    head = store.tensors(digest, "head") if "head" in manifest.blobs else {}
    logits = joined("logits")
    assert logits is not None
    return Outputs(
        logits,
        joined("features") if features else None,
        joined("y"),
        joined("ids"),
        head.get("weight"),
        head.get("bias"),
        joined("groups"),
    )


def unlabelled(store: Store, digest: str, features: bool = True) -> Outputs:
    """The outputs of a target set without what must not be known of it: labels, and groups that may give them away."""
    return replace(outputs(store, digest, features), labels=None, groups=None)


def needs_features(recipe: Mapping[str, Any] | None, store: Store) -> bool:
    """Whether a calibrator reads features."""
    return recipe is not None and "features" in code("calibrator", recipe, store).facts["needs"]


def write_outputs(writer: Writer, position: int, values: Mapping[str, Array | None]) -> None:
    """Write one shard of outputs."""
    writer.tensors(
        f"outputs-{position:05d}", {name: np.ascontiguousarray(v) for name, v in values.items() if v is not None}
    )


def ledger(store: Store, digests: Iterable[str]) -> dict[str, Array]:
    """The ledger of an attack over all of its shards, in id order."""
    parts = [store.tensors(digest, "ledger") for digest in digests]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]} if parts else {}


def write_state(writer: Writer, state: Mapping[str, Any]) -> None:
    """Write a fitted state: arrays to a tensor blob, the rest to the manifest."""
    arrays = {name: np.asarray(value) for name, value in state.items() if isinstance(value, np.ndarray)}
    if arrays:
        writer.tensors("state", arrays)
    writer.meta["state"] = {name: _plain(value) for name, value in state.items() if name not in arrays}


def read_state(store: Store, digest: str) -> dict[str, Any]:
    """A fitted state."""
    manifest = store.require(digest)
    arrays = store.tensors(digest, "state") if "state" in manifest.blobs else {}
    return {**manifest.meta["state"], **arrays}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value

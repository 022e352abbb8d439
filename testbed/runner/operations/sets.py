"""Jobs that make sets: describe, split, ood, shift, quantise. None of them needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from testbed import watch
from testbed.data import ood as made
from testbed.data import splits
from testbed.data.base import fingerprint
from testbed.data.outputs import RecordedOutputs
from testbed.digest import canonical
from testbed.errors import DataError
from testbed.perturb.shift import SLOTS, Shift
from testbed.runner.operations import access
from testbed.store import Store, Writer
from testbed.types import Array, Examples, Job, Spec


def opened(job: Job, store: Store) -> Any:
    """The job's data set. Raises DataError where its content is not what the plan saw; of a user's file it saw none."""
    dataset = access.code("dataset", job.recipe["dataset"], store).build(**job.recipe["dataset"]["params"])
    if (watched := watch.current()) is not None and hasattr(dataset, "files"):
        watched.allow(dataset.files())
    planned = job.recipe["fingerprint"]
    if planned and (found := fingerprint(dataset)) != planned:
        raise DataError(
            f"the data set {job.recipe['dataset']['use']!r} is not what the plan was made for: "
            f"expected {canonical(planned)}, got {canonical(found)}; plan again, with the same data on every node"
        )
    return dataset


def describe(job: Job, store: Store, writer: Writer) -> None:
    """Ask a data set what it holds."""
    dataset = opened(job, store)
    writer.meta.update(spec=asdict(dataset.spec()), sizes=dict(dataset.sizes()))
    if isinstance(dataset, RecordedOutputs):
        writer.meta["systems"] = [[name, *columns] for name, columns in dataset.columns().items()]
        for name, (weight, bias) in dataset.heads().items():
            writer.tensors(f"head-{list(dataset.columns()).index(name):05d}", {"weight": weight, "bias": bias})


def split(job: Job, store: Store, writer: Writer) -> None:
    """Draw one named split of a data set and keep it in id order."""
    dataset = opened(job, store)
    sizes = store.require(access.one(job, "describe")).meta["sizes"]
    draw = splits.split_plan(sizes, **job.recipe["counts"], limit=job.recipe["limit"])[job.recipe["split"]]
    parts = splits.stream(dataset, draw, job.recipe["seed"], job.recipe["shard"])
    write(parts, job.recipe["shard"], writer, f"the split {job.recipe['split']!r}")


def ood(job: Job, store: Store, writer: Writer) -> None:
    """Draw an out-of-distribution set and bring it to the shape of the in-distribution one."""
    dataset = opened(job, store)
    like = access.described(job, store)
    given = access.shards(store, job.inputs["set"]) if job.inputs.get("set") else None
    writer.meta["rule"] = made.rule(dataset, like)
    recipe = job.recipe
    parts = made.stream(
        dataset, like=like, seed=recipe["seed"], size=recipe["shard"], limit=recipe["limit"], given=given
    )
    write(parts, recipe["shard"], writer, job.label)


def write(parts: Iterable[Examples], shard: int, writer: Writer, name: str) -> None:
    """Keep a set that comes in parts, in id order. Raises DataError where it is empty."""
    out: access.SetWriter | None = None
    for examples in parts:
        out = out or access.SetWriter(writer, examples.spec, examples.group_names, role="data")
        out.add(examples, shard)
    if out is None:
        raise DataError(f"{name} is empty: it has no examples")
    out.close()


def shift(job: Job, store: Store, writer: Writer) -> None:
    """Shift a set, shard by shard where the shift works on single examples."""
    recipe = job.recipe["shift"]
    plugin = access.code("shift", recipe, store)
    handle = Shift(plugin, recipe["params"])
    alone = plugin.facts["level"] in ("example", "frames")
    parts = access.shards(store, job.inputs["set"]) if alone else iter([access.whole(store, job.inputs["set"])])
    if plugin.facts["level"] == "frames":
        parts = (piece for examples in parts for piece in few(examples))
    out: access.SetWriter | None = None
    for examples in parts:
        rounded = examples.spec.layout == "chw"
        if rounded:
            examples = replace(examples, x=quantised(examples.x), spec=at_rest(examples.spec))
        shifted = handle.on(examples, seed=job.recipe["seed"])
        if out is None:
            out = access.SetWriter(writer, shifted.spec, shifted.group_names)
            writer.meta["quantised"] = rounded
        out.add(shifted, job.recipe["shard"])
    assert out is not None
    out.close()


def few(examples: Examples) -> Iterator[Examples]:
    """Pieces of a set whose films take about 64 MiB each, so that memory does not grow with the image size."""
    step = max(1, 2**26 // (SLOTS * examples.x[0].size))
    for start in range(0, len(examples), step):
        yield examples.take(slice(start, start + step))


def quantise(job: Job, store: Store, writer: Writer) -> None:
    """Round an attacked set to 8 bits, as an image file would."""
    out: access.SetWriter | None = None
    for examples in access.shards(store, job.inputs["set"]):
        out = out or access.SetWriter(writer, at_rest(examples.spec), examples.group_names)
        out.add(replace(examples, x=quantised(examples.x), spec=at_rest(examples.spec)), job.recipe["shard"])
    assert out is not None
    out.close()


def quantised(x: Array) -> Array:
    """uint8 `[n h w c]` from float32 `[n c h w]` in [0, 1], rounded to nearest."""
    return np.ascontiguousarray(np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1))


def at_rest(spec: Spec) -> Spec:
    """The spec of images at rest from that of attacked ones."""
    return replace(spec, dtype="uint8", layout="hwc", shape=(spec.shape[1], spec.shape[2], spec.shape[0]))

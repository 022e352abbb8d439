"""The job that stands where a forward pass would, for a system of which only the outputs are known."""

from __future__ import annotations

from testbed.runner.operations import access
from testbed.store import Store, Writer
from testbed.types import Job


def recorded(job: Job, store: Store, writer: Writer) -> None:
    """Logits, features and head of a system, from the columns of a set of outputs that are its own."""
    described = store.require(access.one(job, "describe"))
    systems = described.meta["systems"]
    number = [name for name, *_ in systems].index(job.recipe["system"])
    _, start, classes, width = systems[number]
    stop, n = start + classes, 0
    for position, examples in enumerate(access.shards(store, job.inputs["set"])):
        x = examples.x
        values = {
            "logits": x[:, start:stop],
            "features": x[:, stop : stop + width] if width else None,
            "y": examples.y,
            "ids": examples.ids,
            "groups": examples.groups,
        }
        access.write_outputs(writer, position, values)
        n += len(examples)
    if (name := f"head-{number:05d}") in described.blobs:
        head = store.tensors(described.digest, name)
        writer.tensors("head", {"weight": head["weight"], "bias": head["bias"]})
    writer.meta.update(n=n, no_features="" if width else "the file of outputs has no features")

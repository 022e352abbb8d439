"""The job that replays a stream over cached outputs. It needs no torch, and no more memory for a longer stream.

Outputs are mapped from the store shard by shard and read row by row (on an object store they are downloaded whole).
Rows leave in blobs of a fixed number, so that they never are in memory together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from testbed.monitoring.replay import Replay
from testbed.monitoring.schedule import schedule
from testbed.monitoring.settings import settings
from testbed.runner.operations import access
from testbed.runner.operations.fits import fitted
from testbed.store import Store, Writer
from testbed.types import STREAM, STREAM_VERSION, Array, Ints, Job, Outputs, arrow_schema

#: Rows of one blob.
BLOCK: Final = 5000


class StoredOutputs:
    """The outputs of one forward job, read row by row."""

    def __init__(self, store: Store, digest: str) -> None:
        manifest = store.require(digest)
        names = sorted(n for n in manifest.blobs if n.startswith("outputs-"))
        self._shards = [store.tensors(digest, name) for name in names]
        self._ends = np.cumsum([len(s["ids"]) for s in self._shards])
        self.ids: Ints = np.concatenate([s["ids"] for s in self._shards]).astype(np.int64)

    def take(self, rows: Ints, features: bool) -> Outputs:
        """The outputs at these positions of the whole set."""
        shard = np.searchsorted(self._ends, rows, side="right")
        at = rows - np.concatenate([[0], self._ends])[shard]

        def column(key: str) -> Array | None:
            if key not in self._shards[0]:
                return None
            out = np.empty((len(rows), *self._shards[0][key].shape[1:]), self._shards[0][key].dtype)
            for one in np.unique(shard).tolist():
                out[shard == one] = self._shards[one][key][at[shard == one]]
            return out

        logits = column("logits")
        assert logits is not None
        return Outputs(logits, column("features") if features else None, column("y"), self.ids[rows])


def replay(job: Job, store: Store, writer: Writer) -> None:
    """Replay a stream; blobs stream-00000 ... hold its rows, meta how often the examples came round."""
    recipe = job.recipe
    sources = [StoredOutputs(store, access.one(job, f"outputs{i}")) for i in range(len(recipe["conditions"]))]
    calibration = access.outputs(store, access.one(job, "calibration"))
    calibrators = {
        c["name"]: fitted(job, store, f"calibrator{i}", c["calibrator"])[0] for i, c in enumerate(recipe["calibrators"])
    }
    metric = recipe["metric"] and access.code("metric", recipe["metric"], store).build(**recipe["metric"]["params"])
    asked = settings(recipe["settings"])
    plan = schedule(recipe["segments"], asked.seed)
    running = Replay(asked, plan, recipe["conditions"], recipe["titles"], sources, calibration, calibrators, metric)
    count = 0
    for count, rows in enumerate(blocks(running.rows()), start=1):
        writer.table(f"stream-{count - 1:05d}", as_table(rows))
    writer.meta.update(steps=plan.length, passes=running.dealer.passes, blocks=count)


def blocks(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """The rows, `BLOCK` at a time.

    >>> [len(block) for block in blocks([{}] * (BLOCK + 1))]
    [5000, 1]
    """
    held: list[Mapping[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == BLOCK:
            yield held
            held = []
    if held:
        yield held


def as_table(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Rows as a pyarrow table in the columns of stream.parquet."""
    import pyarrow as pa

    return pa.Table.from_pylist([dict(row) for row in rows], schema=arrow_schema(STREAM, STREAM_VERSION))

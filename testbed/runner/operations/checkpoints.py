"""Where a running training keeps its checkpoint: beside the blobs of a local store, in the bucket of a remote one.

On an object store the file that the training writes is local and temporary; a copy goes to the store after each epoch,
in one atomic write, and the next try of the job, on whatever machine, begins with it. Either is removed once the job is
published. A checkpoint names the training it belongs to, so one that is left over can do no harm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from testbed.store import Store


class Checkpoint(NamedTuple):
    """The file that a training writes, and what it calls after each epoch."""

    file: Path
    after_epoch: Callable[[int, float], None]


@contextmanager
def checkpoint(store: Store, digest: str) -> Iterator[Checkpoint]:
    """The checkpoint of a job, with what an earlier try left; removed on clean exit, kept on an error."""
    name = f"{digest}.safetensors"
    local = store.scratch(name)
    if local is not None:
        yield Checkpoint(local, lambda epoch, loss: None)
        local.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="testbed-training-") as folder:
        remote, file = f"scratch/{name}", Path(folder) / name
        for data in store.files.read_many([remote]).values():
            file.write_bytes(data)
        yield Checkpoint(file, lambda epoch, loss: store.files.write(remote, file.read_bytes()))
        store.files.remove([remote])

"""Writing the blobs of one artifact."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from testbed.digest import digest_bytes
from testbed.store import codec
from testbed.store.manifest import Blob, Format
from testbed.types import Array

if TYPE_CHECKING:
    from testbed.store.store import Store

#: Threads that wait for the disk (or the object store) on behalf of one writer.
WRITERS: Final = 4
_SMALL_BYTES: Final = 2**20

#: Roles of blobs whose file is its artifact's own, so that it can be dropped without asking who else names it.
DROPPABLE: Final = frozenset({"inputs"})


def blob_name(blob: Blob) -> str:
    """File name of a blob."""
    return f"blobs/{blob.file}"


class Writer:
    """Takes the blobs of one artifact, one at a time; `meta` holds small plain facts (no times, no hosts).

    Small blobs are written behind the work's back, because waiting for the disk takes longer than making them; big
    ones at once, so that no more than one shard and a few small blobs are in memory.
    """

    def __init__(self, store: Store, owner: str, pool: ThreadPoolExecutor) -> None:
        self._store, self._owner, self._pool = store, owner, pool
        self._pending: list[Future[None]] = []
        self.meta: dict[str, Any] = {}
        self.blobs: dict[str, Blob] = {}

    def tensors(self, name: str, arrays: Mapping[str, Array], role: str = "outputs") -> None:
        """Write arrays as one blob, now; a big set is several shards, each its own blob."""
        self._add(name, codec.tensors_to_bytes(arrays), "safetensors", role)

    def table(self, name: str, table: Any, role: str = "rows") -> None:
        """Write a pyarrow table as one blob."""
        self._add(name, codec.table_to_bytes(table), "parquet", role)

    def json(self, name: str, value: Any, role: str = "outputs") -> None:
        """Write a plain value as one blob."""
        self._add(name, codec.json_to_bytes(value), "json", role)

    def settle(self) -> None:
        """Wait until every blob is on disk; raises what stopped one of them."""
        for future in self._pending:
            future.result()
        self._pending.clear()

    def _add(self, name: str, data: bytes | bytearray | memoryview, form: Format, role: str) -> None:
        if name in self.blobs:
            raise ValueError(f"blob {name!r} was already written in this artifact; each name is written once")
        blob = self.blobs[name] = blob_of(data, form, role, self._owner)
        if self._store.lacks(blob):
            self._pending.append(self._pool.submit(self._store.put, blob, data))
        if blob.bytes > _SMALL_BYTES or len(self._pending) >= 2 * WRITERS:
            self.settle()


def shared_name(blob: Blob) -> str:
    """The name that all owners' files of one content have beside their own."""
    return f"shared/{blob.hash[:2]}/{blob.hash}.{blob.format}"


def owned(blob: Blob) -> bool:
    """Whether the file is one artifact's own: its name says whose."""
    return blob.file.count(".") == 2


def blob_of(data: bytes | bytearray | memoryview, form: Format, role: str, owner: str) -> Blob:
    """What the manifest of `owner` says of these bytes."""
    name = digest_bytes(data)
    whose = f".{owner}" if role in DROPPABLE else ""
    return Blob(f"{name[:2]}/{name}{whose}.{form}", name, memoryview(data).nbytes, form, role)

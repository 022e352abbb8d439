"""Space: the disk budget, and dropping what is no longer needed; neither costs more in a store that holds more.

Dropping. The file of a blob that may be dropped is its artifact's own: the digest of the artifact is in its name
(`blobs/<hh>/<hash>.<digest>.<format>`), so an artifact drops its files without asking who else has the same content.
Where there are hard links one content is stored once for all the same: it has one more name under `shared/`, the next
owner's file is a link to that, and the last owner that goes takes it along. The file system counts the references, so
no order of writers and droppers can take a file from an artifact that names it. On an object store each owner has a
copy.

Blobs that earlier versions wrote have no owner in their names and may be named by several manifests. They are marked
as dropped, and `testbed store gc` removes their files; so are those of roles that are not meant to be dropped.

Budget. A process lists the blobs when it first writes, then counts what it writes and drops. It lists them again when
the budget seems to be reached, and else so seldom that listing takes a fiftieth of the time: several workers together
may pass the budget by what they write between two looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from testbed.errors import EnvironmentProblem
from testbed.store.files import Files
from testbed.store.manifest import Manifest
from testbed.store.writer import blob_name, owned, shared_name

if TYPE_CHECKING:
    from testbed.store.store import Store

#: Seconds between two listings for the budget at least, and their share of the time at most.
REFRESH_SECONDS: Final = 1.0
REFRESH_SHARE: Final = 0.02


class StoreFull(EnvironmentProblem):
    """Writing would pass the disk budget."""


@dataclass
class _Used:
    """What this process knows of a store: bytes of all blobs, those of them that its threads are still writing, and
    from when on it looks again (monotonic seconds)."""

    bytes: int = 0
    writing: int = 0
    due: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


#: What this process knows of each store that has a budget, by URL.
_used: dict[str, _Used] = {}


def spend(files: Files, more: int, limit: int) -> None:
    """Count bytes that will be written (`written` says when they are); StoreFull where they would pass `limit`."""
    used = _used.setdefault(files.url, _Used())
    if time.monotonic() >= used.due or used.bytes + more > limit:  # another process may have dropped something
        _look(files, used)
    if used.bytes + more > limit:
        raise StoreFull(
            f"the store {files.url} holds {used.bytes:,} bytes, and {more:,} more would pass the budget of "
            f"{limit:,} (--max-disk); what was finished is kept. Run `testbed store gc`, keep less "
            "(`keep: outputs`) or raise the budget"
        )
    with used.lock:
        used.bytes, used.writing = used.bytes + more, used.writing + more


def written(files: Files, size: int) -> None:
    """Bytes that `spend` counted are on disk now, where the next listing finds them."""
    if files.url in _used:
        with _used[files.url].lock:
            _used[files.url].writing -= size


def _look(files: Files, used: _Used) -> None:
    begin, writing = time.monotonic(), used.writing
    used.bytes = sum(entry.held for entry in files.list("blobs")) + writing
    end = time.monotonic()
    used.due = end + max(REFRESH_SECONDS, (end - begin) / REFRESH_SHARE)


def drop(store: Store, digests: Iterable[str], role: str) -> int:
    """Remove the blobs of a role of these artifacts, manifests first; returns the bytes freed."""
    freed = 0
    for manifest in store.manifests(digests).values():
        names = set(manifest.of_roles([role])) - set(manifest.dropped)
        if names:
            store.write_manifest(dropped(manifest, {*manifest.dropped, *names}))
            freed += sum(_release(store.files, manifest, name) for name in names)
    if store.url in _used:
        with _used[store.url].lock:
            _used[store.url].bytes -= freed
    return freed


def _release(files: Files, manifest: Manifest, name: str) -> int:
    """Remove an artifact's own file, and with the last owner the shared name; the bytes that this freed."""
    blob = manifest.blobs[name]
    if not owned(blob):
        return 0
    before = files.links(blob_name(blob))
    files.remove([blob_name(blob)])
    if files.local(shared_name(blob)) is None:
        return blob.bytes if before else 0
    after = files.links(shared_name(blob))
    if after == 1:
        files.remove([shared_name(blob)])
    return blob.bytes if before and after <= 1 else 0


def dropped(manifest: Manifest, names: set[str]) -> Manifest:
    """The manifest with these blobs marked as dropped; its content hash does not change."""
    return replace(manifest, dropped=tuple(sorted(names)))

"""Looking after a store: check every hash, remove what nothing names, count bytes, take in another store.

None of these needs the store to be idle. `gc` leaves alone whatever is younger than a grace period, because a job that
runs now has written blobs that no manifest names yet.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from testbed.digest import LENGTH
from testbed.errors import CorruptArtifact
from testbed.store.files import TEMPORARY, Entry
from testbed.store.manifest import Manifest
from testbed.store.store import Store, manifest_name

GRACE_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Usage:
    """Where the bytes of a store are.

    by_kind  kind of job -> role of blob -> bytes; a file that several artifacts share counts for the first
    unnamed  bytes of blobs that no manifest names (in flight, or left by a crash)
    dropped  bytes that were removed on purpose
    """

    artifacts: int
    files: int
    total: int
    by_kind: dict[str, dict[str, int]]
    unnamed: int
    dropped: int


@dataclass(frozen=True)
class Merged:
    """What a merge took in, and the digests that both stores have with different content (ours stays)."""

    artifacts: int
    bytes: int
    conflicts: tuple[str, ...]


def verify(store: Store, *, repair: bool = False) -> dict[str, str]:
    """Read every blob of every artifact against its hash: digest -> what is wrong with it.

    repair  set bad artifacts aside, so that the next run makes them again
    """
    known = store.all_manifests()
    bad = {
        Path(entry.name).stem: "its manifest was truncated or altered"
        for entry in store.files.list("manifests")
        if Path(entry.name).stem not in known
    }
    sound: dict[str, str] = {}
    for digest, manifest in known.items():
        for blob in manifest.kept().values():
            try:
                if sound.get(blob.file) != blob.hash:
                    store.verify_blob(digest, blob)
                    sound[blob.file] = blob.hash
            except CorruptArtifact as error:
                bad[digest] = error.reason
                break
    if repair:
        for digest in bad:
            store.set_aside(digest)
    return dict(sorted(bad.items()))


def gc(store: Store, *, keep: Collection[str] | None = None, grace: float = GRACE_SECONDS) -> int:
    """Remove files nothing names, leftovers of writers and manifests set aside; returns the bytes freed.

    keep   if given, artifacts whose digest is not in it go too
    grace  seconds: files changed later than that long ago stay
    """
    before = time.time() - grace
    manifests = store.all_manifests()
    if keep is not None:
        store.files.remove(manifest_name(d) for d in manifests if d not in keep)
        manifests = {d: m for d, m in manifests.items() if d in keep}
    named = {f"blobs/{blob.file}" for m in manifests.values() for blob in m.kept().values()}
    old = [e for folder in ("blobs", TEMPORARY, "aside") for e in store.files.list(folder) if e.modified <= before]
    gone = [entry for entry in old if entry.name not in named]
    store.files.remove(entry.name for entry in gone)
    # A shared name that is left alone has no owner any more; its bytes are counted with it and not with the owner.
    alone = [e for e in store.files.list("shared") if e.modified <= before and e.links == 1]
    store.files.remove(entry.name for entry in alone)
    return sum(entry.size for entry in (*alone, *(e for e in gone if e.links == 1)))


def digests_in(text: str) -> set[str]:
    """Everything in a text that has the form of a digest: the jobs that a plan.json speaks of, for `gc`.

    >>> digests_in('{"digest": "abcdefghij234567abcd", "n": 1}')
    {'abcdefghij234567abcd'}
    """
    return set(re.findall(rf"(?<![a-z2-7])[a-z2-7]{{{LENGTH}}}(?![a-z2-7])", text))


def du(store: Store) -> Usage:
    """Count the bytes of a store."""
    files: dict[str, Entry] = {entry.name: entry for entry in store.files.list("blobs")}
    manifests = store.all_manifests()
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    dropped = 0
    left = dict(files)
    for manifest in manifests.values():
        dropped += sum(manifest.blobs[name].bytes for name in manifest.dropped)
        for blob in manifest.kept().values():
            entry = left.pop(f"blobs/{blob.file}", None)
            by_kind[manifest.kind][blob.role] += entry.held if entry else 0
    return Usage(
        artifacts=len(manifests),
        files=len(files),
        total=sum(entry.held for entry in files.values()),
        by_kind={kind: dict(sorted(roles.items())) for kind, roles in sorted(by_kind.items())},
        unnamed=sum(entry.held for entry in left.values()),
        dropped=dropped,
    )


def merge(store: Store, other: Store) -> Merged:
    """Take in the artifacts and plug-in sources of another store; blobs are checked on the way, manifests come last."""
    ours, theirs = store.all_manifests(), other.all_manifests()
    conflicts = sorted(d for d, m in theirs.items() if d in ours and ours[d].content != m.content)
    copied = 0
    fresh = {d: m for d, m in theirs.items() if d not in ours}
    for manifest in fresh.values():
        copied += _copy(store, other, manifest)
    for entry in other.files.list("sources"):
        store.put_source(other.source(Path(entry.name).stem))
    return Merged(len(fresh), copied, tuple(conflicts))


def _copy(store: Store, other: Store, manifest: Manifest) -> int:
    blobs = dict(manifest.blobs)
    for name, blob in manifest.kept().items():
        blobs[name] = store.write_blob(other.read_blob(manifest.digest, blob), blob.format, blob.role, manifest.digest)
    store.write_manifest(replace(manifest, blobs=blobs))
    return sum(blob.bytes for blob in manifest.kept().values())

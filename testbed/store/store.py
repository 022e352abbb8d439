"""Reading, writing and asking what is done; see the package's docstring for the layout and the promises."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from testbed.digest import digest_bytes
from testbed.errors import CorruptArtifact
from testbed.store import codec, space
from testbed.store.files import open_files
from testbed.store.manifest import Blob, Format, Manifest, parse
from testbed.store.writer import WRITERS, Writer, blob_name, blob_of, owned, shared_name
from testbed.types import Array, Job

#: Roles of blobs that a reader needs; None = all of them.
Roles: TypeAlias = frozenset[str] | None

NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True)
class Failure:
    """Why a job failed last: class and message of the error, traceback text, and whether it ran out of time."""

    digest: str
    error: str
    message: str
    traceback: str = ""
    status: str = "failed"
    label: str = ""

    def __str__(self) -> str:
        return f"{self.error}: {self.message}"


def default_url() -> str:
    """Where artifacts go when nothing else is said: TESTBED_STORE, else `.testbed` in the current folder."""
    return os.environ.get("TESTBED_STORE") or ".testbed"


def manifest_name(digest: str) -> str:
    """File name of a manifest.

    >>> manifest_name("abcdef")
    'manifests/ab/abcdef.json'
    """
    return f"manifests/{digest[:2]}/{digest}.json"


class Store:
    """Artifacts by digest. Cheap to open and to pickle: workers get the URL and open their own.

    url       a folder or any fsspec URL
    max_disk  budget in bytes for blobs, None for no limit

    `published` holds the digests of what was published through this object.
    """

    def __init__(self, url: str | os.PathLike[str], *, max_disk: int | None = None) -> None:
        self.files = open_files(url)
        self.url = self.files.url
        self.max_disk = max_disk
        self._pins: dict[str, Manifest] | None = None
        self.published: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url, self.max_disk)

    def pinned(self) -> Store:
        """This store as one job sees it: each manifest is read once, so what was consumed is what is recorded."""
        other = Store(self.url, max_disk=self.max_disk)
        other._pins = {}
        return other

    # --- asking ---------------------------------------------------------------------------------------------------

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest of a finished job, None where it is not finished."""
        if self._pins is None:
            return self.manifests([digest]).get(digest)
        if digest not in self._pins:
            self._pins |= self.manifests([digest])
        return self._pins.get(digest)

    def manifests(self, digests: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of those jobs that are finished, read together."""
        names = {manifest_name(d): d for d in digests}
        found = {names[name]: parse(data) for name, data in self.files.read_many(names).items()}
        return {digest: one for digest, one in found.items() if one is not None and one.digest == digest}

    def all_manifests(self) -> dict[str, Manifest]:
        """Every manifest in the store."""
        return self.manifests(Path(e.name).stem for e in self.files.list("manifests"))

    def present(self, asked: Mapping[str, tuple[Manifest, Roles]]) -> set[str]:
        """Which artifacts can serve: kept blobs are there with their size, and none of a needed role was dropped."""
        sizes = self.files.sizes({blob_name(b) for manifest, _ in asked.values() for b in manifest.kept().values()})
        return {
            digest
            for digest, (manifest, roles) in asked.items()
            if all(roles is not None and manifest.blobs[name].role not in roles for name in manifest.dropped)
            and all(sizes.get(blob_name(blob)) == blob.bytes for blob in manifest.kept().values())
        }

    def done(self, job: Job, needs: Roles = NONE) -> bool:
        """Finished, not stale, and able to serve the roles `needs`.

        Stale: an input's manifest is present with another content hash than the one this artifact consumed.
        """
        return self.done_among([job], {job.digest: needs}) == {job.digest}

    def done_among(self, jobs: Iterable[Job], needs: Mapping[str, Roles] | None = None) -> set[str]:
        """The digests of those jobs that are done, asked together (see `done`)."""
        jobs = list(jobs)
        known = self.manifests({d for job in jobs for d in (job.digest, *job.needs)})
        fresh = [job.digest for job in jobs if job.digest in known and not stale(known[job.digest], known)]
        return self.present({d: (known[d], (needs or {}).get(d, NONE)) for d in fresh})

    # --- reading --------------------------------------------------------------------------------------------------

    def tensors(self, digest: str, name: str) -> dict[str, Array]:
        """The arrays of a blob, over the bytes that were hashed. Writing to them changes no file."""
        data = self.read_blob(digest, self._blob(digest, name, "safetensors"))
        return codec.tensors_from_buffer(data if isinstance(data, bytearray) else bytearray(data))

    def table(self, digest: str, name: str) -> Any:
        """The pyarrow table of a blob, hash checked."""
        return codec.table_from(self.read_blob(digest, self._blob(digest, name, "parquet")))

    def json(self, digest: str, name: str) -> Any:
        """The plain value of a blob, hash checked."""
        return codec.json_from_bytes(self.read_blob(digest, self._blob(digest, name, "json")))

    def check(self, digest: str, roles: Roles = None) -> None:
        """Read the blobs of these roles against their hashes; CorruptArtifact names the first that differs."""
        manifest = self.require(digest)
        for blob in manifest.kept().values():
            if roles is None or blob.role in roles:
                self.verify_blob(digest, blob)

    def damaged(self, manifests: Mapping[str, Manifest], roles: Roles = None) -> dict[str, str]:
        """Which of these artifacts have a blob of these roles that is not what it should be, and why; read together."""
        asked = [
            (digest, blob)
            for digest, manifest in manifests.items()
            for blob in manifest.kept().values()
            if roles is None or blob.role in roles
        ]
        remote = self.files.read_many({blob_name(b) for _, b in asked if self.files.local(blob_name(b)) is None})
        bad: dict[str, str] = {}
        for digest, blob in asked:
            if blob_name(blob) in remote:
                if digest_bytes(remote[blob_name(blob)]) != blob.hash:
                    bad.setdefault(digest, f"blob {blob.file} was truncated or altered")
                continue
            try:
                self.verify_blob(digest, blob)
            except CorruptArtifact as error:
                bad.setdefault(digest, error.reason)
        return bad

    def require(self, digest: str) -> Manifest:
        """The manifest of a finished job; CorruptArtifact where there is none (it is then made again)."""
        manifest = self.manifest(digest)
        if manifest is None:
            raise CorruptArtifact(digest, f"has no manifest in the store {self.url}")
        return manifest

    def _blob(self, digest: str, name: str, form: Format) -> Blob:
        manifest = self.require(digest)
        if name not in manifest.blobs or manifest.blobs[name].format != form:
            kinds = {n: b.format for n, b in manifest.blobs.items()}
            raise KeyError(f"artifact {digest} ({manifest.kind}) has no {form} blob {name!r}; it has {kinds}")
        if name in manifest.dropped:
            raise CorruptArtifact(digest, f"blob {name!r} was dropped to save space")
        return manifest.blobs[name]

    def read_blob(self, digest: str, blob: Blob) -> bytes | bytearray:
        """The bytes of a blob that have its hash; else CorruptArtifact(digest). What was hashed is what is returned."""
        return self._verified(digest, blob_name(blob), blob)

    def verify_blob(self, digest: str, blob: Blob) -> None:
        """CorruptArtifact(digest) unless the file of a blob has its hash."""
        self._verified(digest, blob_name(blob), blob)

    def _verified(self, digest: str, name: str, blob: Blob) -> bytes | bytearray:
        try:
            data = self.files.read(name)
        except FileNotFoundError:
            raise CorruptArtifact(digest, f"blob {blob.file} is absent") from None
        found = digest_bytes(data)
        if found != blob.hash:
            raise CorruptArtifact(digest, f"blob {blob.file} has hash {found}: it was truncated or altered")
        return data

    # --- writing --------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self, job: Job) -> Iterator[Writer]:
        """Write the artifact of a job; it is published on clean exit, and nothing is on an error.

        >>> import tempfile, numpy as np
        >>> store, job = Store(tempfile.mkdtemp()), Job("abcdefghij0123456789", "toy", {"n": 3})
        >>> with store.writer(job) as w:
        ...     w.tensors("x/0", {"x": np.arange(3)}, role="inputs")
        ...     w.meta["n"] = 3
        >>> store.done(job), store.tensors(job.digest, "x/0")["x"].tolist(), store.manifest(job.digest).meta
        (True, [0, 1, 2], {'n': 3})
        """
        inputs = {digest: self.require(digest).content for digest in job.needs}
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="testbed-store") as pool:
            writer = Writer(self, job.digest, pool)
            folder = pool.submit(self.files.prepare, manifest_name(job.digest))
            yield writer
            writer.settle()
            folder.result()
        self._publish(Manifest(job.digest, job.kind, job.recipe, inputs, writer.blobs, writer.meta))

    def _publish(self, manifest: Manifest) -> None:
        """The manifest last. Where somebody else has published the same work meanwhile, theirs stays."""
        theirs = self.manifests([manifest.digest]).get(manifest.digest)
        same = theirs is not None and theirs.inputs == manifest.inputs and theirs.reusable
        keep = theirs is not None and same and bool(self.present({"": (theirs, None)}))
        if not keep:
            self.write_manifest(manifest)
        self.published.add(manifest.digest)
        self.clear_failure(manifest.digest)

    def write_blob(self, data: bytes | bytearray | memoryview, form: Format, role: str, owner: str = "") -> Blob:
        """Write bytes under their hash as a blob of the artifact `owner`, unless they are there."""
        blob = blob_of(data, form, role, owner)
        if self.lacks(blob):
            self.put(blob, data)
        return blob

    def lacks(self, blob: Blob) -> bool:
        """Whether a blob must be written: it is absent, or a file of its name is damaged. Counts it in the budget.

        A file of the artifact's own is not written where another owner has the same: it gets one more name.
        """
        if self._sound(blob_name(blob), blob):
            return False
        if owned(blob) and self._shared(blob):
            return False
        if self.max_disk is not None:
            space.spend(self.files, blob.bytes, self.max_disk)
        return True

    def _shared(self, blob: Blob) -> bool:
        name = shared_name(blob)
        return self.files.local(name) is not None and self._sound(name, blob) and self.files.link(name, blob_name(blob))

    def _sound(self, name: str, blob: Blob) -> bool:
        try:
            self._verified("", name, blob)
        except CorruptArtifact:
            return False
        return True

    def put(self, blob: Blob, data: bytes | bytearray | memoryview) -> None:
        """Write the file of a blob that is lacking."""
        try:
            self.files.write(blob_name(blob), data)
        finally:
            if self.max_disk is not None:
                space.written(self.files, blob.bytes)
        if owned(blob):
            self.files.link(blob_name(blob), shared_name(blob))

    def drop(self, digests: Iterable[str], role: str = "inputs") -> int:
        """Remove the blobs of a role of these artifacts; the manifests remember. Returns the bytes freed.

        What is removed is their own files (see `space`): nothing else in the store is read.
        """
        return space.drop(self, digests, role)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write or replace a manifest."""
        self.files.write(manifest_name(manifest.digest), manifest.to_bytes())

    def set_aside(self, digest: str) -> None:
        """Withdraw a manifest whose blobs are not what it says, so that its job counts as not done."""
        name = manifest_name(digest)
        data = self.files.read_many([name]).get(name)
        if data is not None:
            self.files.write(f"aside/{digest}-{digest_bytes(data)[:6]}.json", data)
            self.files.remove([name])

    def exists(self) -> bool:
        """Whether anything was ever written here."""
        return any(next(self.files.list(folder), None) for folder in ("manifests", "sources", "failures", "blobs"))

    def check_writable(self) -> None:
        """Raise EnvironmentProblem, which says what to do, where this process cannot write to the store."""
        self.files.write("tmp/writable", b"")

    def scratch(self, name: str) -> Path | None:
        """A path beside the blobs for what a running job leaves to itself (a checkpoint); None on an object store."""
        path = self.files.local(f"scratch/{name}")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    # --- sources and failures -------------------------------------------------------------------------------------

    def put_source(self, text: str) -> str:
        """Keep the text of a user plug-in; returns its digest."""
        data = text.encode()
        name = digest_bytes(data)
        if not self.files.sizes([f"sources/{name}.py"]):
            self.files.write(f"sources/{name}.py", data)
        return name

    def source(self, digest: str) -> str:
        """The text of a user plug-in; CorruptArtifact where it is absent or altered."""
        try:
            data = self.files.read(f"sources/{digest}.py")
        except FileNotFoundError:
            raise CorruptArtifact(digest, f"plug-in source is not in the store {self.url}") from None
        if digest_bytes(data) != digest:
            raise CorruptArtifact(digest, "plug-in source was truncated or altered; remove it and plan again")
        return data.decode()

    def record_failure(self, failure: Failure) -> None:
        """Remember why a job failed, until it is published."""
        self.files.write(f"failures/{failure.digest}.json", json.dumps(asdict(failure), indent=1).encode())

    def failure(self, digest: str) -> Failure | None:
        """Why a job failed last, None where it did not."""
        return self.failures([digest]).get(digest)

    def failures(self, digests: Iterable[str]) -> dict[str, Failure]:
        """Why those of the jobs failed that did."""
        found = self.files.read_many(f"failures/{d}.json" for d in digests)
        return {f.digest: f for f in (Failure(**json.loads(data)) for data in found.values())}

    def clear_failure(self, digest: str) -> None:
        """Forget a failure."""
        if self.files.sizes([f"failures/{digest}.json"]):
            self.files.remove([f"failures/{digest}.json"])


def stale(manifest: Manifest, known: Mapping[str, Manifest]) -> bool:
    """Whether an input's manifest is known with another content than the one consumed."""
    return any(d in known and known[d].content != content for d, content in manifest.inputs.items())


def _reopen(url: str, max_disk: int | None) -> Store:
    return Store(url, max_disk=max_disk)

"""Files by name under one root: a local folder or any fsspec URL, behind one small interface.

Names are relative, with forward slashes. `write` is atomic on both: a reader sees the whole file or none. Locally that
is temporary name, fsync, rename, fsync of the folder, so that a file that is there is also there after a power cut.
Trouble that is the machine's (full disk, no permission) becomes `EnvironmentProblem` with what to do.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple, Protocol

from testbed.errors import EnvironmentProblem

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}
TEMPORARY = "tmp"
#: Folders of an object store that are listed one by one, and listings under way at a time.
_MOST_FOLDERS, _SIDE_BY_SIDE = 128, 16


class Entry(NamedTuple):
    """One listed file: name, size in bytes, time of last change (seconds since the epoch), names that it has."""

    name: str
    size: int
    modified: float
    links: int = 1

    @property
    def held(self) -> int:
        """Its part of the bytes: a blob of several owners has a name for each, and one more (see `space`)."""
        return self.size // max(1, self.links - 1)


class Files(Protocol):
    """What a store needs of a file system."""

    url: str

    def read(self, name: str) -> bytes | bytearray:
        """The bytes of a file; FileNotFoundError where there is none."""

    def read_many(self, names: Iterable[str]) -> dict[str, bytes | bytearray]:
        """The bytes of those of the files that exist."""

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Write or replace a file atomically."""

    def prepare(self, name: str) -> None:
        """Do what can be done before a file is written: make its folder, where there are folders."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those of the files that exist."""

    def list(self, folder: str) -> Iterator[Entry]:
        """All files under a folder, at any depth."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those already gone are no error."""

    def link(self, name: str, other: str) -> bool:
        """Give a file another name, in place of what has it; False where that cannot be: the bytes are then copied."""

    def links(self, name: str) -> int:
        """How many names a file has, 0 where there is none."""

    def local(self, name: str) -> Path | None:
        """The path of a file where it can be memory mapped, else None."""


def open_files(url: str | os.PathLike[str]) -> Files:
    """The files under a path, a `file://` URL or any URL fsspec knows (`s3://bucket/prefix`).

    >>> open_files("some/folder").url.endswith("/some/folder")
    True
    """
    text = os.fspath(url)
    if "://" not in text or text.startswith("file://"):
        return LocalFiles(Path(text.removeprefix("file://")))
    return RemoteFiles(text)


@contextmanager
def usable(url: str) -> Iterator[None]:
    """Turn the machine's own errors into ones that say what to do."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise EnvironmentProblem(
                f"no space left for the store {url} ({error.strerror}); what was finished is kept. "
                "Free space, or run `testbed store gc`, or point TESTBED_STORE elsewhere, then run the same grid again"
            ) from error
        if error.errno in _CLOSED or isinstance(error, PermissionError):
            raise EnvironmentProblem(
                f"cannot write to the store {url} ({error.strerror or error}); expected a folder or bucket that this "
                "user may write to. Change its permissions, or point TESTBED_STORE elsewhere"
            ) from error
        raise


class LocalFiles:
    """Files under a folder of this machine (or of a shared network file system)."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)

    def read(self, name: str) -> bytearray:
        """The bytes of a file; FileNotFoundError where there is none, be it that a link or a pipe has its name."""
        return read_regular(self.root / name)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes | bytearray]:
        """The bytes of those of the files that exist."""
        found: dict[str, bytes | bytearray] = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """Temporary name, fsync, rename, fsync of the folder."""
        target = self.root / name
        temporary = self._temporary()
        with usable(self.url):
            self._folder(temporary.parent)
            self._folder(target.parent)
            try:
                _write_through(temporary, data)
                temporary.replace(target)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def prepare(self, name: str) -> None:
        """Make the folder of a file, and wait until it is on disk."""
        with usable(self.url):
            self._folder((self.root / name).parent)

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those of the files that exist."""
        found = {}
        root = f"{self.root}/"
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                found[name] = os.lstat(root + name).st_size  # twice as fast as Path.lstat, and called in bulk
        return found

    def list(self, folder: str) -> Iterator[Entry]:
        """All files under a folder, at any depth."""
        with suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    yield from self.list(name)
                    continue
                with suppress(FileNotFoundError):  # another process may have removed it since
                    stat = entry.stat(follow_symlinks=False)
                    yield Entry(name, stat.st_size, stat.st_mtime, stat.st_nlink)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those already gone are no error."""
        with usable(self.url):
            for name in names:
                (self.root / name).unlink(missing_ok=True)

    def link(self, name: str, other: str) -> bool:
        """A hard link, moved into its place; False where there is no such file, or no links on this file system."""
        target, temporary = self.root / other, self._temporary()
        with usable(self.url):
            self._folder(temporary.parent)
            self._folder(target.parent)
            try:
                temporary.hardlink_to(self.root / name)
                temporary.replace(target)
                temporary.unlink(missing_ok=True)  # moving one name of a file over another of its names does nothing
            except OSError as error:
                if error.errno in _FULL:
                    raise
                return False
            _sync_folder(target.parent)
        return True

    def links(self, name: str) -> int:
        """How many names a file has, 0 where there is none."""
        with suppress(FileNotFoundError):
            return (self.root / name).stat().st_nlink
        return 0

    def _temporary(self) -> Path:
        return self.root / TEMPORARY / f"{os.getpid()}-{secrets.token_hex(6)}"

    def local(self, name: str) -> Path | None:
        """The path of a file."""
        return self.root / name

    def _folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        with suppress(FileExistsError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            _sync_folder(folder.parent)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", str(folder))


def read_regular(path: Path) -> bytearray:
    """The bytes of a regular file; FileNotFoundError for anything else of its name, which could block or lead away."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path)) from None
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        stat = os.fstat(descriptor)
        if not S_ISREG(stat.st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
        data = bytearray(stat.st_size)
        view, filled = memoryview(data), 0
        while filled < len(data) and (count := file.readinto(view[filled:])):
            filled += count
        view.release()
        del data[filled:]
    return data


def _write_through(path: Path, data: bytes | bytearray | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RemoteFiles:
    """Files under an fsspec URL. Credentials and endpoints come from the environment, as the back ends read them."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        # A cached listing would hide what other processes have published since.
        self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError where there is none."""
        return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def read_many(self, names: Iterable[str]) -> dict[str, bytes | bytearray]:
        """The bytes of those of the files that exist, fetched side by side where the back end can."""
        paths = {f"{self._root}/{name}": name for name in names}
        found = self._fs.cat(list(paths), on_error="return") if paths else {}
        for value in found.values():
            if isinstance(value, Exception) and not isinstance(value, FileNotFoundError):
                raise value
        return {paths[path]: bytes(value) for path, value in found.items() if not isinstance(value, Exception)}

    def write(self, name: str, data: bytes | bytearray | memoryview) -> None:
        """One PUT (several parts of one upload where the back end splits big files); readers see all or nothing."""
        with usable(self.url):
            try:
                self._fs.pipe_file(f"{self._root}/{name}", bytes(data))
            except FileNotFoundError as error:
                raise EnvironmentProblem(
                    f"cannot write to the store {self.url}: {error}; create the bucket first"
                ) from error

    def prepare(self, name: str) -> None:
        """Nothing: an object store has no folders."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those of the files that exist: asked one by one if few, else from listings.

        A listing is of one folder of two letters, a thousandth of the store; of all where most of them are asked for.
        """
        wanted = set(names)
        if len(wanted) > 8:
            folders = {name.rpartition("/")[0] for name in wanted}
            if len(folders) > _MOST_FOLDERS:
                folders = {name.split("/", 1)[0] for name in wanted}
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
                listed = pool.map(lambda folder: list(self.list(folder)), sorted(folders))
            return {e.name: e.size for entries in listed for e in entries if e.name in wanted}
        found = {}
        for name in wanted:
            with suppress(FileNotFoundError):
                found[name] = int(self._fs.info(f"{self._root}/{name}")["size"])
        return found

    def list(self, folder: str) -> Iterator[Entry]:
        """All files under a folder, at any depth."""
        with suppress(FileNotFoundError):
            for path, info in self._fs.find(f"{self._root}/{folder}", detail=True).items():
                yield Entry(path.removeprefix(f"{self._root}/"), int(info["size"]), _modified(info))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those already gone are no error."""
        with usable(self.url):
            for name in names:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(f"{self._root}/{name}")

    def link(self, name: str, other: str) -> bool:
        """False: an object has one name."""
        return False

    def links(self, name: str) -> int:
        """One where the object is there: it has no other name."""
        return len(self.sizes([name]))

    def local(self, name: str) -> Path | None:
        """None: a remote file cannot be mapped."""
        return None


def _modified(info: dict[str, Any]) -> float:
    """Time of last change, under the names the fsspec back ends use; 0 where one says nothing."""
    value = info.get("LastModified") or info.get("mtime") or info.get("modified") or info.get("created") or 0.0
    return value.timestamp() if isinstance(value, datetime) else float(value)

"""Downloads that can be trusted: size and SHA-256 known beforehand, resumed, tried at several mirrors.

For each file, at each mirror in turn, up to `attempts` times:
1. ask for what is missing of `FILE.part` with a Range header; a server that ignores it starts the file again;
2. a page of HTML instead of the file, or an answer 4xx, sends us to the next mirror at once;
3. an answer 5xx, a broken connection or a truncated body is tried again from there after a pause that doubles;
4. the whole file is checked; one of another size or sum is deleted and the next mirror asked.
Only a checked file gets its name, by a rename. With TESTBED_OFFLINE=1 (or `offline=True`) no server is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Final

from testbed.data.base import data_root
from testbed.errors import EnvironmentProblem, UsageError, nearest

_CHUNK: Final = 1 << 18
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Remote:
    """One file: where it goes below the data folder, where it comes from, how long it is and its SHA-256."""

    path: str
    urls: tuple[str, ...]
    size: int
    sha256: str


class _GiveUp(Exception):
    """This mirror does not have the file; ask the next one."""


class _Broken(Exception):
    """The transfer broke; it may go on at the same mirror."""


def catalog() -> dict[str, tuple[Remote, ...]]:
    """The data sets that can be downloaded by name.

    >>> [file.path for file in catalog()["mnist"]][0]
    'mnist/train-images-idx3-ubyte.gz'
    """
    entries: dict[str, Any] = json.loads((package_files("testbed.data") / "catalog.json").read_text())
    return {
        name: tuple(
            Remote(f"{entry['folder']}/{file}", tuple(base + file for base in entry["mirrors"]), size, sha256)
            for file, (size, sha256) in entry["files"].items()
        )
        for name, entry in entries.items()
    }


def get(
    name: str,
    root: Path | None = None,
    *,
    mirrors: Sequence[str] = (),
    offline: bool | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetch the files of a named data set into `root` (default TESTBED_DATA); those that are there are only checked.

    `mirrors` are base URLs asked before the catalog's own, and before those that TESTBED_MIRRORS names (base URLs with
    blanks between them: a laboratory's own server, where nodes have no other). Below each the file is looked for
    under its path in the data folder, then under its name. Raises UsageError for an unknown name, EnvironmentProblem
    where a file cannot be had, with what each mirror said.
    """
    known, key = catalog(), name.replace("-", "_")
    if key not in known:
        raise UsageError(f"no download is known for the data set {name!r}; {nearest(name, known)}")
    root = root or data_root()
    if root is None:
        raise UsageError("say where the data shall go: set TESTBED_DATA or give a folder")
    extra = [base.rstrip("/") + "/" for base in (*mirrors, *os.environ.get("TESTBED_MIRRORS", "").split())]
    found = []
    for file in known[key]:
        urls = tuple(base + tail for base in extra for tail in (file.path, Path(file.path).name)) + file.urls
        found.append(fetch(Remote(file.path, urls, file.size, file.sha256), root, offline=offline, progress=progress))
    return found


def fetch(
    file: Remote,
    root: Path,
    *,
    attempts: int = 4,
    pause: float = 1.0,
    timeout: float = 30.0,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> Path:
    """The checked file below `root`, downloaded where it is not there yet."""
    target = root / file.path
    if target.is_file() and sha256(target) == file.sha256:
        return target
    if os.environ.get("TESTBED_OFFLINE", "") not in ("", "0") if offline is None else offline:
        raise EnvironmentProblem(
            f"offline: {target} is not there or not whole; put the file with SHA-256 {file.sha256} there"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write to {target.parent}: {error.strerror}") from None
    said = []
    for url in file.urls:
        try:
            _from_mirror(url, file, target, attempts, pause, timeout, progress)
            return target
        except _GiveUp as error:
            said.append(f"{url}: {error}")
    raise EnvironmentProblem(f"{file.path} cannot be had:\n  " + "\n  ".join(said))


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_mirror(
    url: str, file: Remote, target: Path, attempts: int, pause: float, timeout: float, progress: Progress | None
) -> None:
    """Download from one mirror, going on where it breaks, check, and give the file its name."""
    part, reason = target.with_name(target.name + ".part"), ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _transfer(url, part, file, timeout, progress)
        except _Broken as error:
            reason = str(error)
            continue
        if (found := sha256(part)) != file.sha256:
            part.unlink()
            raise _GiveUp(f"the file there has SHA-256 {found}, expected {file.sha256}")
        part.replace(target)
        return
    raise _GiveUp(f"{reason}, {attempts} times")


def _transfer(url: str, part: Path, file: Remote, timeout: float, progress: Progress | None) -> None:
    """Append what is missing of `part`; raises _Broken where less than the whole came."""
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have == file.size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            if "text/html" in answer.headers.get("Content-Type", ""):
                raise _GiveUp("serves an HTML page instead of the file")
            have = have if answer.status == 206 else 0
            with part.open("ab" if have else "wb") as out:
                while chunk := answer.read(_CHUNK):
                    out.write(chunk)
                    have += len(chunk)
                    if progress is not None:
                        progress(file.path, have, file.size)
                    if have > file.size:
                        raise _GiveUp(f"sends more than the {file.size} bytes of the file")
    except urllib.error.HTTPError as error:
        raise (_Broken if error.code >= 500 else _GiveUp)(f"answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _Broken(f"{type(error).__name__}: {error}") from None
    if have < file.size:
        raise _Broken(f"breaks off after {have} of {file.size} bytes")

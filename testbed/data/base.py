"""What a data set is to the rest of the testbed, and the few things all of them share.

A data-set plug-in is a frozen dataclass whose fields are its parameters. It answers
    sizes()     part name -> number of examples, cheap: no torch, no full load
    spec()      the `Spec` of every example
    files()     the files whose bytes decide the content
    load(part)  the `Examples` of one part
and may answer
    identity()         what else decides the content (a hub fingerprint, a package version)
    load_rows(part, rows)  a few examples without reading the rest
Parts are what the source has ("train", "test", or "all"); the splits train, calibration and test of an experiment
are drawn from parts by `testbed.data.splits`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from testbed.digest import digest_file
from testbed.errors import DataError, EnvironmentProblem, MissingExtra, UsageError, nearest
from testbed.types import Array, Examples, Ints, Spec

#: Ids of a part start here, so that they are unique over the parts of a set and do not move when a part grows.
PART_START: Final = {
    "train": 0,
    "all": 0,
    "test": 10**9,
    "validation": 2 * 10**9,
    "val": 2 * 10**9,
    "calibration": 3 * 10**9,
}
_OTHER_PARTS: Final = 4 * 10**9


@runtime_checkable
class Dataset(Protocol):
    """The four questions every data set answers."""

    def sizes(self) -> dict[str, int]: ...

    def spec(self) -> Spec: ...

    def files(self) -> tuple[Path, ...]: ...

    def load(self, part: str) -> Examples: ...


def ids_of(part: str, rows: Sequence[int] | Array, parts: Sequence[str] = ()) -> Ints:
    """Ids of the examples at `rows` of a part: position plus the start of that part.

    `parts` are all parts of the set, needed only for parts with a name of their own.

    >>> ids_of("test", [0, 5]).tolist()
    [1000000000, 1000000005]
    """
    if part in PART_START:
        start = PART_START[part]
    else:
        start = _OTHER_PARTS + 10**9 * sorted(p for p in parts if p not in PART_START).index(part)
    return np.asarray(rows, dtype=np.int64) + start


def fingerprint(dataset: Any) -> dict[str, Any]:
    """What decides the content of a data set beside its parameters: digests of its files, and its `identity()`.

    File names do not enter, so moving the data keeps every digest. Which part (and which class) a file belongs to is
    for the set's `identity()` to say, where its name or folder decides that: see `parts_of`.
    """
    files = dataset.files() if hasattr(dataset, "files") else ()
    identity = dataset.identity() if hasattr(dataset, "identity") else {}
    try:
        return {"files": [digest_file(path) for path in files], **identity}
    except OSError as error:
        absent = [str(path) for path in files if not Path(path).is_file()]
        raise EnvironmentProblem(
            f"cannot read {' or '.join(absent[:1]) or 'a file of the data set'}: {error}"
        ) from None


def parts_of(parts: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, int]]:
    """The part names of a set in folders, in the order of its files, and how many files each has, for `identity()`.

    A set of one part "all" has no names that decide anything.

    >>> parts_of({"test": ["a", "b"], "train": ["c"]}), parts_of({"all": ["a"]})
    ({'parts': {'test': 2, 'train': 1}}, {})
    """
    return {} if list(parts) == ["all"] else {"parts": {part: len(files) for part, files in parts.items()}}


def check_part(part: str, sizes: dict[str, int], name: str) -> None:
    """Refuse a part that the set does not have."""
    if part not in sizes:
        raise UsageError(f"data set {name!r} has no part {part!r}; {nearest(part, sizes)}")


def package_file(package: str, inside: str, needed_for: str) -> Path:
    """A data file inside an installed package, found without importing the package."""
    found = importlib.util.find_spec(package)
    if found is None or not found.origin:
        raise MissingExtra(package, needed_for)
    path = Path(found.origin).parent / inside
    if not path.is_file():
        raise EnvironmentProblem(f"{needed_for}: the installed package {package!r} has no file {inside}; reinstall it")
    return path


def data_root() -> Path | None:
    """The folder that TESTBED_DATA names, or None."""
    value = os.environ.get("TESTBED_DATA")
    return Path(value).expanduser() if value else None


def data_file(inside: str, name: str) -> Path:
    """A file of the local data folder; says how to get it where it is absent."""
    root = data_root()
    if root is None:
        raise EnvironmentProblem(
            f"data set {name!r} is read from local files: set TESTBED_DATA to a folder that holds {inside}"
        )
    path = root / inside
    if not path.is_file():
        raise EnvironmentProblem(f"data set {name!r}: TESTBED_DATA={root} has no file {inside}")
    return path


def local_path(path: str, needed_for: str) -> Path:
    """A path as the user gave it: as it stands, else below TESTBED_DATA."""
    given = Path(path).expanduser()
    root = data_root()
    for candidate in (given, root / given if root else given):
        if candidate.exists():
            return candidate
    tried = f"{given.absolute()}" + (f" and {root / given}" if root and not given.is_absolute() else "")
    raise EnvironmentProblem(f"{needed_for}: no such file or folder: {tried}")


def beside(base: Path, path: str) -> Path:
    """A path that a grid in the folder `base` names: relative to that folder, else below TESTBED_DATA."""
    near, root = base / Path(path).expanduser(), data_root()
    return (root / path if root is not None and not near.exists() and (root / path).exists() else near).resolve()


def as_images(x: Array, where: str) -> Array:
    """uint8 `[n h w c]` from uint8 `[n h w]` or `[n h w c]`; anything else is an error."""
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise DataError(f"{where}: expected images as uint8 [n h w] or [n h w c], got {x.dtype} {list(x.shape)}")
    return x[..., None] if x.ndim == 3 else x


def as_labels(y: Array, n: int, classes: int, where: str) -> Ints:
    """int64 `[n]` labels in -1..classes-1; anything else is an error."""
    labels = np.asarray(y).reshape(-1)
    if len(labels) != n:
        raise DataError(f"{where}: {n} examples but {len(labels)} labels")
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: expected integer labels, got {labels.dtype}")
    labels = labels.astype(np.int64)
    if labels.size and (labels.min() < -1 or labels.max() >= classes):
        raise DataError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, expected 0..{classes - 1}, or -1 for none"
        )
    return labels

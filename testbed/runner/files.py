"""Files of a run folder: replaced in one step, and not at all where nothing changed.

A new file is written beside its place under a name of its own, so that several runs may write one folder, and moved
there whole. Where it has the bytes of the one that is there, that one stays, with its time. `.made.json` says what the
tables were made of, so that a rerun which finds nothing new makes none of them.
"""

from __future__ import annotations

import filecmp
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from testbed.errors import EnvironmentProblem

MADE: Final = ".made.json"
#: What a run folder's page is made of, besides plan.json and jobs.parquet.
TABLES: Final = ("results.parquet", "regressions.parquet", "samples.parquet", "images")
_SUFFIX: Final = ".new"
_FORGOTTEN_SECONDS: Final = 3600.0
_TRIES: Final = 20


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the machine says of a folder that cannot be written into an error that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise EnvironmentProblem(
            f"cannot write the run folder {str(folder)!r}: {reason}; choose another with --out "
            "(what was finished is in the store)"
        ) from error


def beside(path: Path) -> Path:
    """A name beside a path that nobody else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}")


def replace(path: Path, write: Callable[[Path], object]) -> bool:
    """Write a file beside its place and move it there; whether its bytes are new. The same bytes leave it alone."""
    fresh = beside(path)
    try:
        write(fresh)
        if path.is_file() and filecmp.cmp(fresh, path, shallow=False):
            return False
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def replace_folder(path: Path, fresh: Path) -> None:
    """Move a folder to its place; what is there goes, be it another run's."""
    for attempt in range(_TRIES):
        old = beside(path)
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            fresh.rename(path)
        except OSError:
            if attempt == _TRIES - 1:
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what runs that were killed while they wrote have left."""
    for path in folder.glob(f".*{_SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def states(folder: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of change (ns) of these files, and of all in these folders; those that are absent are left out."""
    found = {}
    for name in names:
        for path in _inside(folder / name):
            with suppress(FileNotFoundError):
                stat = path.stat()
                found[str(path.relative_to(folder))] = [stat.st_size, stat.st_mtime_ns]
    return found


def _inside(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except FileNotFoundError:  # another run may be replacing it
        return []
    except NotADirectoryError:
        return [path]


@dataclass(frozen=True)
class Made:
    """What the tables in a run folder are made of.

    of     digest of all that decides them
    files  size and time of each file as it was written, to notice that somebody changed it
    page   the same of the page and what it is made of besides; empty where no page was made
    parts  file of samples.parquet -> digest of what is in it
    """

    of: str = ""
    files: Mapping[str, list[int]] = field(default_factory=dict)
    page: Mapping[str, list[int]] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)

    def keep(self, folder: Path, name: str, of: str, fresh: Path) -> bool:
        """Put the file that holds the same into a fresh folder under this name; False where there is none."""
        for was in (n for n, made in self.parts.items() if made == of):
            path = folder / was
            found = states(folder.parent, [f"{folder.name}/{was}"])
            with suppress(FileNotFoundError):  # another run may have replaced the folder
                if found and found.items() <= self.files.items():
                    shutil.copy2(path, fresh / name)
                    return True
        return False


def read_made(folder: Path) -> Made:
    """What is said in `.made.json`; nothing where it is absent or not what a run writes."""
    try:
        return Made(**json.loads((folder / MADE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Made()


def write_made(folder: Path, made: Made) -> None:
    """Write `.made.json`, after everything else."""
    replace(folder / MADE, lambda path: path.write_text(json.dumps(asdict(made)), encoding="utf-8"))

"""Reading small files that a user names: what is no regular file would block, or never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a file; OSError where it is a folder, a pipe or a device, or holds more than `most` bytes.

    ValueError where the path holds a NUL character.
    """
    check_regular(path)
    with path.open("rb") as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes")
    return found


def check_regular(path: Path) -> None:
    """OSError where a path is absent, or is no regular file."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")

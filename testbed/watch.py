"""What a plug-in reads without saying so: noticed in the process that runs its job.

An audit hook sees every file that is opened and every folder that is listed, and `os.environ` tells who asks it. What
counts is a read with the plug-in's code on the stack (for a variable: by that code itself) of something that is
neither declared (`testbed.imports`), nor left out:
    the interpreter, installed packages and this one, whose versions are in the digest
    the store, the system's own files (/proc, /sys, /dev, /etc, /usr), caches of compiled code
    temporary files: below the temporary folder and younger than the job, or written by the job itself
Out of reach: reads in compiled code (safetensors, Arrow and OpenCV open files themselves), other processes that a
plug-in starts, and the network.

`os.fork` by a plug-in's own code is refused: two processes would then finish one job.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from testbed.loading import is_plugin_code

_SYSTEM: Final = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib/", "/lib64/")
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """What the plug-ins of one job read. An audit hook cannot be taken out: it is for a process that runs one job.

    declared  names as a recipe has them -> where they are (of a variable, anything)
    folders   of the plug-ins: what lies below is named from there
    store     path of a local store
    """

    def __init__(self, declared: Mapping[str, Path], folders: Iterable[Path], store: Path | None) -> None:
        self.noted: dict[str, None] = {}
        self.variables = {name[1:] for name in declared if name.startswith("$")}
        self.declared = [str(path) for name, path in declared.items() if not name.startswith("$")]
        self.folders = sorted({str(one.resolve()) + os.sep for one in folders}, key=len, reverse=True)
        self._temporary = os.path.realpath(tempfile.gettempdir()) + os.sep
        self._began = time.time()
        self._written: set[str] = set()
        self._out = (*left_out(), *([str(store.resolve()) + os.sep] if store is not None else []))

    def start(self) -> None:
        """Watch from now on, until the process ends."""
        global _current
        _current = self
        os.environ.__class__ = _Watched
        sys.addaudithook(self._hear)

    def allow(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        """Count these files as declared too: a data set has said that it is made of them."""
        self.declared += [os.path.realpath(path) for path in paths]

    def undeclared(self) -> list[str]:
        """What was read without a word, as it would be declared, sorted."""
        allowed = tuple({os.path.realpath(one) for one in self.declared})
        within = tuple(one + os.sep for one in allowed)
        found = set()
        for name in self.noted:
            if name.startswith("$"):
                found |= {name} - {f"${one}" for one in self.variables}
            elif name not in allowed and not name.startswith(within):
                found.add(self._spelled(name))
        return sorted(found)

    def _spelled(self, path: str) -> str:
        for folder in self.folders:
            if path.startswith(folder):
                return path.removeprefix(folder)
        home = f"{Path.home()}{os.sep}"
        return f"~/{path.removeprefix(home)}" if path.startswith(home) else path

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            self._opened(path, mode, flags or 0)
        elif event in ("os.listdir", "os.scandir", "sqlite3.connect"):
            path = arguments[0] if arguments and arguments[0] is not None else "."
            if not any(frame.startswith("<frozen importlib") for frame in _files(sys._getframe(1), 1)):
                self._opened(path, "r", 0)
        elif event == "os.mkdir" and isinstance(arguments[0], (str, bytes)):
            self._written.add(os.path.realpath(os.fsdecode(arguments[0])))
        elif event in ("os.fork", "os.forkpty") and any(map(is_plugin_code, _files(sys._getframe(1), 1))):
            raise RuntimeError("os.fork is refused in a plug-in: two processes would finish one job; use subprocess")

    def _opened(self, path: Any, mode: Any, flags: int) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # a descriptor: its file was seen when it was opened
        name = os.path.realpath(os.fsdecode(path))
        if (isinstance(mode, str) and not mode.startswith("r")) or (mode is None and flags & _WRITES):
            self._written.add(name)
            return
        if name.startswith(self._out) or "/__pycache__/" in name or name in self.noted or self._is_temporary(name):
            return
        if any(map(is_plugin_code, _files(sys._getframe(1)))):
            self.noted[name] = None

    def _is_temporary(self, name: str) -> bool:
        if name in self._written or any(name.startswith(one + os.sep) for one in self._written):
            return True
        if not name.startswith(self._temporary):
            return False
        try:
            return Path(name).stat().st_ctime > self._began
        except OSError:
            return False


_current: Watch | None = None


def current() -> Watch | None:
    """The watch over this process, None where nothing of a user's runs here."""
    return _current


class _Watched(os._Environ):  # type: ignore[type-arg]
    """`os.environ` that notes which variables a plug-in's own code asks for."""

    def __getitem__(self, key: str) -> str:
        _asked(f"${key}")
        value: str = super().__getitem__(key)
        return value

    def __iter__(self) -> Iterator[str]:
        _asked("$*")
        return super().__iter__()


def _asked(name: str) -> None:
    """Note a variable, unless it is asked for by something else that the plug-in has called."""
    if _current is None or "$*" in _current.noted:
        return
    for file in _files(sys._getframe(2)):
        if file in ("<frozen os>", "<frozen _collections_abc>") or file.endswith(("/os.py", "/_collections_abc.py")):
            continue
        if is_plugin_code(file):
            _current.noted[name] = None
        return


def _files(frame: Any, most: int = sys.maxsize) -> Iterator[str]:
    """File names of the code objects on the stack, innermost first, of our own left out."""
    while frame is not None and most > 0:
        file = frame.f_code.co_filename
        if file != __file__:
            most -= 1
            yield file
        frame = frame.f_back


@cache
def left_out() -> tuple[str, ...]:
    """Beginnings of paths whose reading says nothing."""
    import testbed

    paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    paths |= {p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    paths |= {str(Path(testbed.__file__).parent)}
    paths |= {str(Path(one).parent) for name in ("attacks", "shifts") if (one := _origin(f"testbed_{name}"))}
    real = {os.path.realpath(path) for path in paths}
    return (*_SYSTEM, *sorted(path + os.sep for path in real if len(path) > 1))


def _origin(module: str) -> str | None:
    from importlib.util import find_spec

    spec = find_spec(module)
    return None if spec is None else spec.origin

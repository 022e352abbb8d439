"""Running a user's plug-in: its text and that of the modules it imports, as the plan read them.

What is hashed is what runs: the texts come from the plan (by way of the store), not from the disk of the worker, so a
plug-in of several files travels as one of a single file does, and an edit between plan and job changes nothing.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.digest import digest, digest_bytes
from testbed.errors import UsageError
from testbed.imports import is_native, module_name

#: Modules made of users' files are called this and the digest of their text.
_OWN: Final = "testbed_plugin_"

#: Where files were on the disk of whoever planned, by digest: for `__file__`, where such a file is here too.
places: dict[str, str] = {}

#: Files, and folders with a slash, of plug-ins that were loaded from an installed package.
_installed: Final[set[str]] = set()


@dataclass(frozen=True)
class _Text:
    """The text of a module that a plug-in imports, and its name below the folder that it was found in."""

    key: str
    text: str
    digest: str


def load(identity: Mapping[str, Any], source_of: Callable[[str], str]) -> types.ModuleType:
    """The module that a recipe's word for a user's code names (see `Plugin.identity`); run once a process."""
    modules: Mapping[str, str] = identity.get("modules", {})
    for key, own in modules.items():
        if not is_native(key):
            _FINDER.serve(module_name(key), _Text(key, source_of(own), own))
    if identity.get("module"):
        module = importlib.import_module(identity["module"])
        root = getattr(sys.modules[identity["module"].partition(".")[0]], "__file__", None)
        if root:
            _installed.add(str(Path(root).parent) + "/" if Path(root).name == "__init__.py" else root)
        return module
    return execute(source_of(identity["source"]), modules)


def execute(text: str, modules: Mapping[str, str] | None = None) -> types.ModuleType:
    """Run a user's source as a module of its own, once a process; its name is its digest and that of what it imports.

    modules  digests of the modules that it imports, by name
    """
    own = digest_bytes(text.encode())
    name = f"{_OWN}{digest([own, dict(modules)]) if modules else own}"
    if name not in sys.modules:
        module = types.ModuleType(name)
        if file := _file_of(own):
            module.__file__ = file
        sys.modules[name] = module  # dataclasses look their module up while it is being executed
        try:
            run(text, f"<{_OWN}{own}>", module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def run(text: str, filename: str, module: types.ModuleType) -> None:
    """Execute a text as a module; its lines are there for tracebacks."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), module.__dict__)


def is_user_file(filename: str) -> bool:
    """Whether a code object's file name is that of a user's file which was run here.

    >>> is_user_file("<testbed_plugin_abc>"), is_user_file("/usr/lib/python3/torch/nn.py")
    (True, False)
    """
    return filename.startswith(f"<{_OWN}")


def is_plugin_code(filename: str) -> bool:
    """Whether a code object is of a plug-in that is not ours: of a user's file, or of an installed package of one."""
    return is_user_file(filename) or any(filename.startswith(one) for one in _installed)


def spoken(filename: str, line: int) -> str:
    """Where in a user's code something happened, in words that hold on every machine.

    >>> spoken("<testbed_plugin_abc>", 3), spoken("<testbed_plugin_abc lab/consts.py>", 4)
    ('at line 3 of its file', 'at lab/consts.py:4')
    """
    _, _, key = filename.strip("<>").partition(" ")
    return f"at {key}:{line}" if key else f"at line {line} of its file"


def _file_of(own: str) -> str | None:
    path = places.get(own)
    return path if path is not None and Path(path).is_file() else None


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Serves the modules that users' plug-ins import. `once`: a name that means two things is an error."""

    def __init__(self) -> None:
        self.texts: dict[str, _Text] = {}
        self.once = False

    def serve(self, name: str, text: _Text) -> None:
        """Have `import name` give this text from now on."""
        before = self.texts.get(name)
        if before is not None and before.digest != text.digest:
            if self.once:
                raise UsageError(
                    f"two plug-ins of one job import a module {name!r}, and mean two files that differ; rename one"
                )
            root = name.partition(".")[0]
            for loaded in [m for m in sys.modules if m == root or m.startswith(f"{root}.")]:
                del sys.modules[loaded]
        elif before is None and self.once:
            sys.modules.pop(name, None)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        self.texts[name] = text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module that is served, or of a folder without `__init__.py` that holds one."""
        text = self.texts.get(fullname)
        if text is not None:
            package = text.key.endswith("/__init__.py")
            spec = importlib.machinery.ModuleSpec(fullname, self, origin=_filename(text), is_package=package)
            file = _file_of(text.digest)
            if package and file:
                spec.submodule_search_locations = [str(Path(file).parent)]
            return spec
        if not any(name.startswith(f"{fullname}.") for name in self.texts):
            return None
        there = importlib.machinery.PathFinder.find_spec(fullname, path)
        return there or importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def get_source(self, fullname: str) -> str:
        """The text, for tracebacks and for what compiles functions from their source."""
        return self.texts[fullname].text if fullname in self.texts else ""

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the text."""
        text = self.texts.get(module.__name__)
        if text is not None:
            if file := _file_of(text.digest):
                module.__file__ = file
            run(text.text, _filename(text), module)


def _filename(text: _Text) -> str:
    return f"<{_OWN}{text.digest} {text.key}>"


_FINDER: Final = _Finder()


def one_job(known: Mapping[str, str]) -> None:
    """Say that this process runs one job and ends; `known` is where users' files were when it was planned."""
    places.update(known)
    _FINDER.once = True

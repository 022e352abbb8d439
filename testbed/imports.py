"""What a user's plug-in rests on beside its own text: modules that it imports, versions of packages, what it reads.

Everything is read with `ast`; nothing is executed. Imports are followed wherever they stand, in functions too, and
those that `importlib.import_module("name")` spells. A module is looked for beside the plug-in's file (a plug-in given
as a file only), then where Python finds it:
    of the standard library            nothing
    of an installed distribution       the distribution's version
    all else (a folder on PYTHONPATH, a checkout installed with -e, a file beside)
                                       its text, and what it imports in turn; of a compiled module the bytes

A module says what it reads in a list of strings, `reads`, at its top or in the plug-in's class:
    reads = ["table.json", "weights/", "{path}", "$LAB_MODE"]
a file or a folder beside it, one that a parameter names, an environment variable.

Accepted trade-off: a name that is put together while the code runs is not seen here; the file that is then opened is
noticed while the job runs (`testbed.watch`).
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, Final

from testbed.digest import digest, digest_bytes, digest_file
from testbed.errors import UsageError

#: Our own packages stand in a digest as the version of our distribution: operations and built-ins have versions too.
OURS: Final = frozenset({"testbed", "testbed_attacks", "testbed_shifts", "testbed_papers"})
OWN_DISTRIBUTION: Final = "robustness-testbed"


@dataclass(frozen=True)
class Module:
    """A module that a plug-in imports: its file, its digest, and its text (None of a compiled one)."""

    path: Path
    digest: str
    text: str | None


@dataclass(frozen=True)
class Code:
    """A user's plug-in file and all that decides what it does.

    path      the file on this disk
    module    the name it is imported by, "" of a plug-in given as a file
    modules   "lab/consts.py" -> module, the plug-in's own one too where it has a name
    packages  distribution -> version
    reads     (folder, what is declared there)
    """

    path: Path
    module: str
    modules: Mapping[str, Module]
    packages: Mapping[str, str]
    reads: tuple[tuple[Path, str], ...]

    def identity(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a digest must know of it beside its own text. Raises UsageError where a declared file is not there."""
        found: dict[str, Any] = {"module": self.module} if self.module else {}
        found |= {"modules": {key: one.digest for key, one in self.modules.items()}} if self.modules else {}
        found |= {"packages": dict(self.packages)} if self.packages else {}
        read = {spelled: digest_of(spelled, path) for spelled, path in self.declared(params).items()}
        return {**found, "reads": read} if read else found

    def places(self, own: str, params: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Digest -> path of its file (`own`) and of those it imports; `own:NAME` -> path of a declared file."""
        found = {one.digest: str(one.path) for one in self.modules.values()} | {own: str(self.path)}
        declared = {} if params is None else self.declared(params)
        return found | {f"{own}:{spelled}": str(path) for spelled, path in declared.items()}

    def declared(self, params: Mapping[str, Any]) -> dict[str, Path]:
        """What is declared, with the parameters filled in -> where it is; of an environment variable an empty path."""
        found = {}
        for folder, spelled in self.reads:
            try:
                name = spelled.format(**params)
            except (KeyError, IndexError, ValueError, AttributeError):
                known = ", ".join(params) or "none"
                raise UsageError(
                    f"{self.path}: reads {spelled!r}: braces hold the name of a parameter; known: {known}"
                ) from None
            if name and name != "None":
                found[name] = Path() if name.startswith("$") else _place(folder, name)
        return found


def digest_of(spelled: str, path: Path) -> str:
    """The digest of a declared read: of a file's bytes, of all files of a folder with their names, of a variable."""
    if spelled.startswith("$"):
        value = os.environ.get(spelled[1:])
        return "unset" if value is None else digest_bytes(value.encode())
    try:
        if path.is_dir():
            inside = sorted(f for f in path.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
            return digest({f.relative_to(path).as_posix(): digest_file(f) for f in inside})
        return digest_file(path)
    except OSError as error:
        raise UsageError(f"it declares to read {spelled!r}, and {path} cannot be read: {error.strerror}") from None


def follow(text: str, path: Path, module: str = "", inside: str = "") -> Code:
    """All that the plug-in in this file rests on.

    module  the name it is imported by, where it is not given as a file
    inside  the plug-in's name: a class may declare `reads` of its own
    """
    walk = _Walk(None if module else path.parent)
    tree = _parsed(text, path)
    if module:
        walk.import_(module)
    else:
        walk.read(tree, path.parent, "")
    if tree is not None:
        own = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == inside]
        walk.reads += [(path.parent, one) for node in own for one in declared_in(node, path)]
    return Code(path, module, dict(sorted(walk.modules.items())), dict(sorted(walk.packages.items())), walk.unique())


@dataclass
class _Walk:
    """The modules found so far; `beside` is the folder of a plug-in given as a file."""

    beside: Path | None
    modules: dict[str, Module] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    reads: list[tuple[Path, str]] = field(default_factory=list)

    def unique(self) -> tuple[tuple[Path, str], ...]:
        return tuple(dict.fromkeys(self.reads))

    def read(self, tree: ast.Module | None, folder: Path, package: str) -> None:
        """Note what a module declares, and follow what it imports."""
        if tree is None:
            return
        self.reads += [(folder, one) for one in declared_in(tree, folder)]
        for name in dict.fromkeys(imported(tree, package)):
            self.import_(name)

    def import_(self, name: str) -> None:
        """Follow an imported name; what follows the module's own name in it may be an attribute."""
        root, *rest = name.split(".")
        if root in OURS:
            self.packages[OWN_DISTRIBUTION] = _version(OWN_DISTRIBUTION)
            return
        if not root or root in sys.stdlib_module_names or root in sys.builtin_module_names:
            return
        home, distributions = _home(root, self.beside)
        for one in distributions:
            self.packages[one] = _version(one)
        if home is None or distributions:
            return
        for key, path in _files(home, root, rest):
            if key not in self.modules:
                self.modules[key] = one_module = _module(path)
                if one_module.text is not None:
                    package = ".".join(Path(key).parent.parts)
                    self.read(_parsed(one_module.text, path), path.parent, package)


def imported(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Dotted names that a module may import; `package` is the one it lies in, for relative imports.

    >>> list(imported(ast.parse("import a.b; from c import d; from .e import f"), "lab"))
    ['a.b', 'c', 'c.d', 'lab.e', 'lab.e.f']
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            if node.level > len(parts):
                continue  # outside of any package: Python refuses it too
            base = (
                [*parts[: len(parts) - node.level + 1], *filter(None, [node.module])] if node.level else [node.module]
            )
            name = ".".join(filter(None, base))
            yield name
            yield from (f"{name}.{one.name}" for one in node.names if one.name != "*")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value.lstrip(".")


def declared_in(node: ast.Module | ast.ClassDef, where: Path) -> tuple[str, ...]:
    """What `reads = [...]` in this body says; UsageError where it is no literal list of strings.

    >>> declared_in(ast.parse("reads = ['table.json', '$MODE']"), Path("my_attack.py"))
    ('table.json', '$MODE')
    """
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and getattr(targets[0], "id", "") == "reads":
            try:
                value = ast.literal_eval(statement.value) if statement.value is not None else ()
            except ValueError:
                value = None
            if isinstance(value, str):
                value = (value,)
            if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and one for one in value):
                raise UsageError(
                    f"{where}, line {statement.lineno}: `reads` must be a literal list of file names, folders and "
                    "$VARIABLES, because it is read without running the file"
                )
            return tuple(value)
    return ()


def is_native(key: str) -> bool:
    """Whether a module of this name is compiled: such a one does not travel.

    >>> is_native("lab/consts.py"), is_native("lab/fast.abi3.so")
    (False, True)
    """
    return not key.endswith(".py")


def module_name(key: str) -> str:
    """The dotted name of a followed module.

    >>> module_name("lab/consts.py"), module_name("lab/__init__.py"), module_name("helper.py")
    ('lab.consts', 'lab', 'helper')
    """
    parts = Path(key).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _home(root: str, beside: Path | None) -> tuple[Path | None, tuple[str, ...]]:
    """The file or folder of a top-level module, and the distributions that it is of where it is installed."""
    near = beside / root if beside is not None else None
    if near is not None:
        file = near.with_name(f"{root}.py")
        if file.is_file():
            return file, ()
        if (near / "__init__.py").is_file():
            return near, ()
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        spec = None
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    found = next((Path(p) for p in places if p and p not in ("built-in", "frozen", "namespace")), None)
    if found is None:
        return (near if near is not None and near.is_dir() else None), ()
    names = packages_of(root)
    if names and any(found.resolve().is_relative_to(one) for one in _sites()):
        return found, names
    if found.resolve().is_relative_to(Path(sysconfig.get_paths()["stdlib"]).resolve() / "lib-dynload"):
        return None, ()
    return (found.parent if found.name == "__init__.py" else found), ()


def _files(home: Path, root: str, rest: list[str]) -> Iterator[tuple[str, Path]]:
    """The files that importing `root.rest` runs, by their names below the folder that holds `root`."""
    if home.is_file():
        yield (f"{root}.py" if home.suffix == ".py" else f"{root}/{home.name}"), home
        return
    folder, key = home, root
    for part in ["", *rest]:
        below = folder / part
        if (below / "__init__.py").is_file():
            key = f"{key}/{part}" if part else key
            yield f"{key}/__init__.py", below / "__init__.py"
        elif part and (folder / f"{part}.py").is_file():
            yield f"{key}/{part}.py", folder / f"{part}.py"
            return
        elif not below.is_dir():
            native = (folder / f"{part}{suffix}" for suffix in EXTENSION_SUFFIXES)
            yield from ((f"{key}/{one.name}", one) for one in native if one.is_file())
            return
        elif part:
            key = f"{key}/{part}"
        folder = below


def _module(path: Path) -> Module:
    data = path.read_bytes()
    if path.suffix != ".py":
        return Module(path, digest_bytes(data), None)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: it is imported by a plug-in and is not UTF-8 ({error.reason})") from None
    return Module(path, digest_bytes(text.encode()), text)


def _parsed(text: str, path: Path) -> ast.Module | None:
    """The tree of a module; None where it does not parse, which is said by whoever runs it."""
    try:
        return ast.parse(text, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _place(folder: Path, name: str) -> Path:
    given = Path(name).expanduser()
    return (folder / given if (folder / given).exists() or not given.exists() else given).absolute()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"


def packages_of(root: str) -> tuple[str, ...]:
    """The installed distributions that a top-level module is of."""
    return tuple(sorted(set(_distributions().get(root, ()))))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def _sites() -> tuple[Path, ...]:
    """The folders that installers put packages into."""
    paths = {*sys.path, *(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))}
    return tuple(Path(p).resolve() for p in paths if Path(p).name in ("site-packages", "dist-packages"))

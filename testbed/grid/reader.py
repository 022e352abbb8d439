"""YAML to plain values, remembering where each stood.

YAML 1.2 through ruamel: `1e-3` is a number, `no` is a word, a key given twice is refused. `8/255` stays text here and
becomes a number where a parameter wants one. Positions are kept by path, so that a problem found later (by pydantic, by
a plug-in's schema, by the planner) can say file:line:column. A path is a tuple of keys and indices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from testbed.errors import Problem, UsageError

Where: TypeAlias = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|[0-9]+)$")


@dataclass
class Document:
    """A grid as written: plain values, and the 1-based (line, column) of each path.

    `origin` overrides the place of paths that were set on the command line.
    """

    value: Any
    file: str
    base: Path
    positions: dict[Where, tuple[int, int]] = field(default_factory=dict)
    origin: dict[Where, str] = field(default_factory=dict)

    def problem(self, where: Where, message: str) -> Problem:
        """A problem at a path, or at the nearest of its parents that has a position."""
        for end in range(len(where), -1, -1):
            if where[:end] in self.origin:
                return Problem(self.origin[where[:end]], 0, 0, spell(where), message)
            if where[:end] in self.positions:
                return Problem(self.file, *self.positions[where[:end]], spell(where), message)
        return Problem(self.file, 0, 0, spell(where), message)


def spell(where: Where) -> str:
    """A path as people write it.

    >>> spell(("conditions", 1, "eps"))
    'conditions[1].eps'
    """
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_file(path: str | Path) -> Document:
    """The grid in a file; UsageError with all syntax problems."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the grid {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError([Problem(str(path), 1, 1, "", f"not UTF-8 text (byte {error.start})")]) from None
    return read_text(text, str(path), path.resolve().parent)


def read_text(text: str, file: str = "<grid>", base: Path | None = None) -> Document:
    """The grid in a text.

    >>> read_text("eps: [1e-3, 8/255]\\nname: no").value
    {'eps': [0.001, '8/255'], 'name': 'no'}
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    document = Document({}, file, base or Path.cwd())
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise UsageError([Problem(file, line, column, "", f"not YAML: {error.problem or error.context}")]) from None
    if root is None:
        raise UsageError([Problem(file, 1, 1, "", "the grid is empty; `testbed schema` says what it may hold")])
    problems: list[Problem] = []
    document.value = _construct(root, (), document, problems)
    if problems:
        raise UsageError(problems)
    return document


def from_mapping(value: Mapping[str, Any], base: Path | None = None) -> Document:
    """A grid given in Python; its problems have a path but no line."""
    return Document(_copy(value), "<grid>", base or Path.cwd())


def override(document: Document, settings: Sequence[str]) -> None:
    """Apply `-o path=value` settings in place; the value is YAML, list positions are numbers.

    >>> document = read_text("models: [{train: {epochs: 8}}]")
    >>> override(document, ["models.0.train.epochs=2"])
    >>> document.value
    {'models': [{'train': {'epochs': 2}}]}
    """
    problems = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        origin = f"-o {setting}"
        if not equals or not key:
            problems.append(Problem(origin, 0, 0, "", "expected key=value, for example models.0.train.epochs=2"))
            continue
        where = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        try:
            _set(document.value, where, read_text(text or "null", origin).value)
        except (KeyError, IndexError, TypeError):
            problems.append(Problem(origin, 0, 0, spell(where), "no such place in the grid"))
            continue
        document.origin[where] = origin
    if problems:
        raise UsageError(problems)


def _set(value: Any, where: Where, new: Any) -> None:
    *parents, last = where
    for part in parents:
        value = value.setdefault(part, {}) if isinstance(value, dict) else value[part]
    if isinstance(value, list) and last == len(value):
        value.append(new)
    else:
        value[last] = new


def _construct(node: Any, where: Where, document: Document, problems: list[Problem]) -> Any:
    here = (node.start_mark.line + 1, node.start_mark.column + 1)
    document.positions.setdefault(where, here)
    kind = node.tag.rpartition(":")[2]
    if kind == "map":
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            at = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key in found:
                problems.append(
                    Problem(document.file, *at, spell((*where, key)), f"key given twice (first on line {first[key]})")
                )
                continue
            first[key] = at[0]
            document.positions[(*where, key)] = at
            found[key] = _construct(value_node, (*where, key), document, problems)
        return found
    if kind == "seq":
        return [_construct(item, (*where, i), document, problems) for i, item in enumerate(node.value)]
    return _scalar(kind, node.value)


def _scalar(kind: str, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and _INT.match(text.replace("_", "")):
        return int(re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", text.replace("_", "")), 0)
    if kind == "float":
        return float(re.sub(r"\.(inf|nan)", r"\1", text.replace("_", "").lower()))
    return text


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value

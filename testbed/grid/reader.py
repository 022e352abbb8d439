"""A file of YAML as a document: its value, and where each part of it stood.

YAML 1.2: `1e-3` is a number, `no` is a word, a key given twice is refused (`testbed.grid.values`). `8/255` stays text
here and becomes a number where a parameter wants one. Positions are kept by path, so that a problem found later (by
pydantic, by a plug-in's schema, by the planner) can say file:line:column. Grids, streams and files of thresholds are
read by this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.errors import Problem, UsageError
from testbed.files import read_regular
from testbed.grid.values import DEPTH, LONGEST, Place, Where, load, plain, spell, unprintable
from testbed.parameters import short

__all__ = ["Document", "Where", "from_mapping", "override", "read_file", "read_text", "spell"]


@dataclass
class Document:
    """A grid as written: plain values, and the 1-based (line, column) of each path.

    `origin` overrides the place of paths that were set on the command line.
    """

    value: Any
    file: str
    base: Path
    positions: dict[Where, Place] = field(default_factory=dict)
    origin: dict[Where, str] = field(default_factory=dict)

    def problem(self, where: Where, message: str) -> Problem:
        """A problem at a path, or at the nearest of its parents that has a position."""
        for end in range(len(where), -1, -1):
            if where[:end] in self.origin:
                return Problem(self.origin[where[:end]], 0, 0, spell(where), message)
            if where[:end] in self.positions:
                return Problem(self.file, *self.positions[where[:end]], spell(where), message)
        return Problem(self.file, 0, 0, spell(where), message)


def read_file(path: str | Path, what: str = "grid") -> Document:
    """The document in a file; UsageError with all syntax problems. `what` it is, for the error where it cannot be read.

    A pipe, a device and a file of more than half a megabyte are refused.
    """
    path = Path(path)
    try:
        raw = read_regular(path, LONGEST * 4)
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            line = raw.count(b"\n", 0, error.start) + 1
            column = error.start - raw.rfind(b"\n", 0, error.start)
            raise UsageError([Problem(str(path), line, column, "", f"not UTF-8 text (byte {error.start})")]) from None
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read the {what} {str(path)!r}: {reason}") from None
    document = read_text(text, str(path), path.resolve().parent)
    if document.value is None:
        raise UsageError([Problem(str(path), 1, 1, "", f"the {what} is empty; {_HELP.get(what, _HELP['grid'])}")])
    return document


_HELP = {
    "grid": "`testbed schema` says what it may hold",
    "stream": "`testbed schema stream` says what it may hold",
    "thresholds": "expected metrics with the change that is allowed, for example `ece: +0.01`",
}


def read_text(text: str, file: str = "<grid>", base: Path | None = None) -> Document:
    """The document in a text; an empty one has the value None.

    >>> read_text("eps: [1e-3, 8/255]\\nname: no").value
    {'eps': [0.001, '8/255'], 'name': 'no'}
    """
    value, positions = load(text, file)
    return Document(value, file, base or Path.cwd(), positions)


def from_mapping(value: Mapping[str, Any], base: Path | None = None) -> Document:
    """A grid given in Python; its problems have a path but no line."""
    return Document(plain(value, "<grid>"), "<grid>", base or Path.cwd())


def override(document: Document, settings: Sequence[str]) -> None:
    """Apply `-o path=value` settings in place; the value is YAML, list positions are numbers.

    >>> document = read_text("models: [{train: {epochs: 8}}]")
    >>> override(document, ["models.0.train.epochs=2"])
    >>> document.value
    {'models': [{'train': {'epochs': 2}}]}
    """
    problems: list[Problem] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        origin = f"-o {setting if len(setting) <= 80 else setting[:77] + '...'}"
        parts = key.split(".")
        if not equals or not all(parts):
            problems.append(Problem(origin, 0, 0, "", "expected key=value, for example models.0.train.epochs=2"))
            continue
        if (says := unprintable(key)) is not None:
            problems.append(Problem(origin, 0, 0, "", says))
            continue
        if len(parts) > DEPTH:
            problems.append(Problem(origin, 0, 0, "", f"expected a path of at most {DEPTH} parts, got {len(parts)}"))
            continue
        where = tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 7 else part for part in parts)
        try:
            where = _set(document.value, where, read_text(text, origin).value)
        except UsageError as error:
            problems += [Problem(origin, 0, 0, spell(where), one.message) for one in error.problems]
        except (KeyError, IndexError, TypeError):
            problems.append(Problem(origin, 0, 0, spell(where), "no such place in the grid"))
        else:
            _forget(document, where)
            document.origin[where] = origin
    if problems:
        raise UsageError(problems)


def _set(top: Any, where: Where, new: Any) -> Where:
    """Put a value at a path, making mappings on the way; the path as it is in the document (a key is a text)."""
    real: list[str | int] = []
    value = top
    for i, part in enumerate(where):
        if not isinstance(value, (dict, list)):
            raise TypeError(f"{short(value)} has no parts")
        part = str(part) if isinstance(value, dict) else part
        real.append(part)
        if isinstance(value, list) and not isinstance(part, int):
            raise TypeError(f"{part!r} is no position of a list")
        held: Any = value
        if i < len(where) - 1:
            value = held.setdefault(part, {}) if isinstance(held, dict) else held[part]
        elif isinstance(held, list) and part == len(held):
            held.append(new)
        else:
            held[part] = new
    return tuple(real)


def _forget(document: Document, where: Where) -> None:
    """Drop the places of what stood at a path and below it."""
    document.positions = {path: at for path, at in document.positions.items() if path[: len(where)] != where}
    document.origin = {path: at for path, at in document.origin.items() if path[: len(where)] != where}

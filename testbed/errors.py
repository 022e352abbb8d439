"""Every error a user can cause, and the exit code each ends in.

    TestbedError                 shown as its message, never as a traceback
    |-- UsageError        (2)    a grid, a name or an option is wrong; carries the list of problems
    |   `-- ParameterError       a parameter outside the values that it may take; a ValueError too
    |-- MissingExtra      (3)    a package is not installed; says the pip line
    |-- EnvironmentProblem (3)   disk full, store not writable, no such device
    |-- DataError         (1)    an input at run time breaks a contract (shape, range, labels)
    |-- PluginViolation   (1)    a plug-in broke its contract (left the ball, returned NaN, changed weights)
    `-- CorruptArtifact   (1)    a stored blob does not have the hash its manifest names

A message says what was expected, what came, where, and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class TestbedError(Exception):
    """Base of all errors that are shown to the user as one message."""

    exit_code = 1
    __test__ = False  # pytest: not a test class, whatever its name


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a grid: where (file, 1-based line and column, dotted path) and what.

    >>> str(Problem("grid.yaml", 14, 7, "conditions[1].epss", "unknown key; did you mean 'eps'?"))
    "grid.yaml:14:7  conditions[1].epss: unknown key; did you mean 'eps'?"
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return visible(f"{where}  {self.path}: {self.message}" if self.path else f"{where}  {self.message}")


def visible(text: str) -> str:
    """A text in one line that any terminal shows: what would move the cursor, or cannot be encoded, is escaped.

    >>> visible("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(text: str) -> str:
    """A text of any lines without what a terminal obeys: control characters, and marks that turn its direction.

    >>> harmless("a\\x1b]0;title\\x07b\\tc\\n"), harmless("\\u202efdp.exe")
    ('a]0;titleb\\tc\\n', 'fdp.exe')
    """
    return _OBEYED.sub("", text)


_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class UsageError(TestbedError):
    """The user asked for something that cannot be; `problems` holds all of them."""

    exit_code = 2

    def __init__(self, message: str | Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = () if isinstance(message, str) else tuple(sorted(message))
        super().__init__(message if isinstance(message, str) else "\n".join(map(str, self.problems)))


class ParameterError(UsageError, ValueError):
    """A parameter was given a value that it does not take."""


class MissingExtra(TestbedError):
    """A package that only some users need is not installed."""

    exit_code = 3

    def __init__(self, package: str, needed_for: str, pip: str | None = None) -> None:
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed: pip install {pip or package}"
        )


class EnvironmentProblem(TestbedError):
    """The machine is in the way: full disk, unwritable store, absent device."""

    exit_code = 3


class DataError(TestbedError):
    """Data at run time does not meet the contract of what consumes it."""


class PluginViolation(TestbedError):
    """A plug-in did something it must not; the message says what it did."""


class CorruptArtifact(TestbedError):
    """A stored blob is absent, truncated or altered."""

    def __init__(self, digest: str, reason: str) -> None:
        self.digest, self.reason = digest, reason
        super().__init__(f"artifact {digest}: {reason}")

    def __reduce__(self) -> tuple[type[CorruptArtifact], tuple[str, str]]:
        return type(self), (self.digest, self.reason)


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """The ending of an error about an unknown name: the nearest known ones, or how many there are.

    >>> nearest("temprature", ["temperature", "platt", "isotonic"])
    "did you mean 'temperature'?"
    """
    names = sorted(set(known))
    if not names:
        return "there is none that it could be"
    lower = {one.lower(): one for one in reversed(names)}
    close = difflib.get_close_matches(name.replace("-", "_").lower()[:200], lower, n=most, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(lower[c]) for c in close) + "?"
    return "known: " + ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")

"""Options that are one of a few words are checked when they are given: a misspelt one would be another method."""

from __future__ import annotations

import dataclasses
import typing
from functools import lru_cache
from typing import Any, Literal

from testbed.errors import DataError, nearest


def one_of(value: object, choices: Any, name: str) -> None:
    """DataError unless `value` is among the words of the Literal `choices`; `name` says whose option it is.

    >>> one_of("L2", Literal["l1", "l2"], "debiased_ece: norm")
    Traceback (most recent call last):
    testbed.errors.DataError: debiased_ece: norm: expected 'l1' or 'l2', got 'L2'; did you mean 'l2'?
    """
    known = typing.get_args(choices)
    if not any(type(value) is type(one) and value == one for one in known):
        words = " or ".join(filter(None, (", ".join(map(repr, known[:-1])), repr(known[-1]))))
        spelled = [one for one in known if isinstance(one, str)]
        near = nearest(value.lower(), spelled) if isinstance(value, str) and spelled else ""
        ending = f"; {near}" if near.startswith("did") else ""
        raise DataError(f"{name}: expected {words}, got {value!r}{ending}")


class Checked:
    """Base of dataclasses whose Literal fields are checked at construction."""

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for field, choices in _literals(cls).items():
            one_of(getattr(self, field), choices, f"{cls.__name__}: {field}")


@lru_cache(maxsize=256)
def _literals(cls: type) -> dict[str, Any]:
    """The Literal fields of a dataclass."""
    hints = typing.get_type_hints(cls)
    fields = [f.name for f in dataclasses.fields(cls)]
    return {name: hints[name] for name in fields if typing.get_origin(hints[name]) is Literal}

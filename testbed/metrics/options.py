"""An option of a function that is one of a few words is checked: a misspelt one would be another method.

The options of classes are checked by `testbed.parameters`.
"""

from __future__ import annotations

import typing
from typing import Any

from testbed.errors import DataError, nearest


def one_of(value: object, choices: Any, name: str) -> None:
    """DataError unless `value` is among the words of the Literal `choices`; `name` says whose option it is.

    >>> from typing import Literal
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

"""What values a parameter may take: a small vocabulary, declared with the parameter, checked wherever one is given.

    k: Count = 50                            an integer from 1
    percentile: Percentile = 90.0            a number in [0, 100]
    norm: Literal["l1", "l2"] = "l2"         one of these words
    gamma: Annotated[float, Gt(0), Lt(2)]    anything else, in the words of annotated_types

A declaration is read three times: by the plan (pydantic, with file and line), by the editor's schema (as minimum and
maximum) and by every construction of a class that has `Checked` among its bases, however it is constructed. A float is
finite in all of them. Bounds are not part of a digest.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from functools import cache
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from annotated_types import BaseMetadata, Ge, Gt, Interval, Le, Lt

from testbed.errors import ParameterError, nearest

#: The largest count that is taken: more is a slip, and overflows what it is multiplied with.
MOST: Final = 10**9

Count: TypeAlias = Annotated[int, Interval(ge=1, le=MOST)]
CountOrNone: TypeAlias = Annotated[int, Interval(ge=0, le=MOST)]
Seed: TypeAlias = Annotated[int, Interval(ge=0, lt=2**63)]
Positive: TypeAlias = Annotated[float, Gt(0)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Share: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
PositiveShare: TypeAlias = Annotated[float, Interval(gt=0, le=1)]
OpenShare: TypeAlias = Annotated[float, Interval(gt=0, lt=1)]
ShareBelowOne: TypeAlias = Annotated[float, Interval(ge=0, lt=1)]
Percentile: TypeAlias = Annotated[float, Interval(ge=0, le=100)]
PercentileBelow100: TypeAlias = Annotated[float, Interval(ge=0, lt=100)]
Severity: TypeAlias = Annotated[float, Interval(ge=0, le=5)]

#: Plain values that are no number. Anything else that is none (an array of radii, a path) is let through.
_PLAIN: Final = (str, bytes, list, tuple, dict, set, frozenset, type(None))


class Checked:
    """Base of dataclasses whose parameters are checked, before anything else, whenever one is constructed.

    Raises ParameterError (a UsageError and a ValueError) that names the parameter, what was expected and what came.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Nearest(Checked):
    ...     k: Count = 50
    >>> Nearest(k=0)
    Traceback (most recent call last):
        ...
    testbed.errors.ParameterError: Nearest: k: expected an integer of at least 1, got 0
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        declared = declared_types(typing.cast("typing.Hashable", cls))
        for name, value in [*zip(declared, args, strict=False), *kwargs.items()]:
            if name in declared and (says := misfit(declared[name], value)) is not None:
                raise ParameterError(f"{cls.__name__}: {name}: {says}")
        return super().__new__(cls)


@cache
def declared_types(cls: Any) -> dict[str, Any]:
    """The parameters of a dataclass in order, with their annotations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def misfit(annotation: Any, value: Any) -> str | None:
    """What is wrong with a value of a parameter, None if nothing is.

    >>> misfit(Count, -5), misfit(Share, 0.5), misfit(Literal["l1", "l2"], "L2")
    ('expected an integer of at least 1, got -5', None, "expected 'l1' or 'l2', got 'L2'; did you mean 'l2'?")
    """
    if fits(annotation, value):
        return None
    options = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal and isinstance(value, str):
        return f"expected {expected(annotation)}, got {short(value)}; {nearest(value, map(str, options))}"
    return f"expected {expected(annotation)}, got {short(value)}"


def fits(annotation: Any, value: Any) -> bool:
    """Whether a value is one that the annotation allows; what it does not understand is allowed."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return fits(inner[0], value) and all(_within(bound, value) for bound in bounds(annotation))
    if origin is Literal:
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in inner)
    if origin in (typing.Union, types.UnionType):
        return any(fits(one, value) for one in inner)
    if origin is tuple and isinstance(value, (list, tuple)):
        return all(fits(inner[0], one) for one in value) if inner[1:] == (...,) else len(inner) == len(value)
    if annotation in (int, float):
        return _number(value, whole=annotation is int)
    if annotation in (None, type(None)):
        return value is None
    if annotation is bool:
        return not isinstance(value, (*_PLAIN, numbers.Number)) or isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str) or not isinstance(value, (*_PLAIN, numbers.Number))
    return origin is not tuple or not isinstance(value, (*_PLAIN, numbers.Number))


def _number(value: Any, whole: bool) -> bool:
    """Whether it is a finite number, and a whole one if that is wanted; an array is let through."""
    if isinstance(value, (*_PLAIN, bool)):
        return False
    if not isinstance(value, numbers.Real):
        return True
    return isinstance(value, numbers.Integral) or (math.isfinite(value) and (not whole or float(value).is_integer()))


def _within(bound: BaseMetadata, value: Any) -> bool:
    """Whether a number keeps a bound; what is no number has none."""
    real = isinstance(value, numbers.Real)
    match bound:
        case Ge(limit):
            return not real or value >= limit
        case Gt(limit):
            return not real or value > limit
        case Le(limit):
            return not real or value <= limit
        case Lt(limit):
            return not real or value < limit
    return True


def bounds(annotation: Any) -> list[Any]:
    """The single bounds of an annotation.

    >>> bounds(Share)
    [Ge(ge=0), Le(le=1)]
    """
    found: list[Any] = []
    for one in typing.get_args(annotation)[1:]:
        found += list(one) if isinstance(one, Interval) else [one]
    return found


def expected(annotation: Any) -> str:
    """The values that an annotation allows, in words.

    >>> expected(Count), expected(OpenShare), expected(Positive | None)
    ('an integer of at least 1', 'a number in (0, 1)', 'a number above 0, or null')
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        options = [repr(one) for one in inner]
        return " or ".join(filter(None, (", ".join(options[:-1]), options[-1])))
    if origin in (typing.Union, types.UnionType):
        some = [expected(one) for one in inner if one is not type(None)]
        return " or ".join(some) + (", or null" if type(None) in inner else "")
    if origin is tuple:
        return f"a list, each of it {expected(inner[0])}" if inner[1:] == (...,) else f"a list of {len(inner)} values"
    if origin is Annotated:
        return f"{expected(inner[0])} {_range(bounds(annotation))}"
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _range(found: list[Any]) -> str:
    """Bounds in words: as an interval where both ends are given and the upper one is not there against slips alone."""
    low = next((b for b in found if isinstance(b, (Ge, Gt))), None)
    high = next((b for b in found if isinstance(b, (Le, Lt))), None)
    if isinstance(high, Le) and high.le == MOST and low is not None:
        high = None
    if low is not None and high is not None:
        left = f"[{low.ge:g}" if isinstance(low, Ge) else f"({low.gt:g}"
        right = f"{high.le:g}]" if isinstance(high, Le) else f"{high.lt:g})"
        return f"in {left}, {right}"
    match low or high:
        case Ge(limit):
            return f"of at least {limit:g}"
        case Gt(limit):
            return f"above {limit:g}"
        case Le(limit):
            return f"of at most {limit:g}"
        case Lt(limit):
            return f"below {limit:g}"
    return ""


def fraction_aware(annotation: Any) -> Any:
    """The annotation with every `float` able to read "8/255", and no number that is true or false."""
    from pydantic import BeforeValidator

    base, *bounds = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Annotated else [annotation]
    if base in (int, float):
        return typing.Annotated[(base, *bounds, BeforeValidator(real if base is float else no_truth))]
    arguments = typing.get_args(annotation)
    if not arguments or typing.get_origin(annotation) in (typing.Literal, typing.Annotated):
        return annotation
    inner = tuple(fraction_aware(a) for a in arguments)
    if isinstance(annotation, types.UnionType):
        return typing.Union[inner]  # noqa: UP007 - built from a tuple
    return typing.get_origin(annotation)[inner if len(inner) > 1 else inner[0]]


def number(value: Any) -> Any:
    """`"8/255"` as the float it means; anything else unchanged.

    >>> number("8/255") == 8 / 255, number("abc"), number(3)
    (True, 'abc', 3)
    """
    if isinstance(value, str) and value.count("/") == 1:
        above, below = value.split("/")
        try:
            return float(above) / float(below)
        except (ValueError, ZeroDivisionError):
            return value
    return value


def real(value: Any) -> Any:
    """As `number`; ValueError for true and false.

    >>> real("1/4")
    0.25
    """
    return no_truth(number(value))


def no_truth(value: Any) -> Any:
    """The value; ValueError for true and false, which are no numbers here.

    >>> no_truth(3)
    3
    """
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


def short(value: Any, most: int = 80) -> str:
    """A value as an error shows it, cut where it is long.

    >>> short("abc"), short("x" * 100, most=8)
    ("'abc'", "'xxxx...")
    """
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"an integer of {value.bit_length()} bits"
    return text if len(text) <= most else text[: most - 3] + "..."

"""pydantic's errors in the house form: where in the file, what was expected, what came, and the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from testbed.errors import Problem, nearest
from testbed.grid import model as schema
from testbed.grid.reader import Document, Where

#: The keys that may stand at a path, for the nearest name of an unknown one.
Keys: TypeAlias = Callable[[Where], Iterable[str]]

_TAGS = {"clean", "shift", "attack", "chain"}


def schema_problems(
    document: Document, error: ValidationError, prefix: Where = (), keys: Keys | None = None
) -> list[Problem]:
    """All problems of a failed validation; `prefix` is where the validated value stands, `keys` default a grid's."""
    places = paths(document, error, prefix)
    said = (say(item, document.value, where, keys) for item, where in zip(error.errors(), places, strict=True))
    return [document.problem(where, message) for where, message in zip(places, said, strict=True)]


def paths(document: Document, error: ValidationError, prefix: Where = ()) -> list[Where]:
    """Where each error of a failed validation is in the document."""
    return [real_path(document.value, (*prefix, *item["loc"]), len(prefix)) for item in error.errors()]


def without(value: Any, wheres: Iterable[Where]) -> Any | None:
    """A copy of a grid without the keys at these paths, and with `clean` for a condition that holds one of them.

    None where one of them is an item of another list: leaving it out would move those behind it, and so their places.

    >>> without({"seed": "x", "data": [{"use": "digits", "limt": 3}]}, [("seed",), ("data", 0, "limt")])
    {'data': [{'use': 'digits'}]}
    """
    kept = deepcopy(value)
    for where in wheres:
        holder = kept
        if where[:1] == ("conditions",) and len(where) > 1:
            holder["conditions"][where[1]] = "clean"
            continue
        for part in where[:-1]:
            try:
                holder = holder[part]
            except (KeyError, IndexError, TypeError):
                return None
        if not where or not isinstance(holder, dict):
            return None
        holder.pop(where[-1], None)
    return kept


def real_path(value: Any, loc: Sequence[str | int], trusted: int = 0) -> Where:
    """pydantic's location without union tags and without the index of a scalar that was taken for a list."""
    where: list[str | int] = []
    for position, part in enumerate(loc):
        before = loc[position - 1] if position else ""
        in_union = before in ("condition", "fit") or (
            isinstance(before, int) and loc[position - 2] in ("conditions", "chain")
        )
        if position >= trusted and part in _TAGS and in_union:
            continue
        if isinstance(part, int) and not isinstance(value, list):
            continue
        where.append(part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(where)


def say(item: Mapping[str, Any], value: Any, where: Where, keys: Keys | None = None) -> str:
    """A pydantic error in the house form."""
    kind, got = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(where[-1]), (keys or known_keys)(where))}"
    if kind == "missing":
        return "required, but not given"
    if kind == "literal_error":
        expected = item["ctx"]["expected"]
        options = expected.replace("'", "").replace(" or ", ", ").split(", ")
        return f"expected {expected}, got {got!r}; {nearest(str(got), options)}"
    text = item["msg"].removeprefix("Value error, ")
    text = (
        text.replace("Input should be a ", "expected a ")
        .replace("Input should be", "expected a value")
        .replace("String should match", "expected a text that matches")
    )
    return text if "got" in text else f"{text}, got {got!r}"


def known_keys(where: Where) -> Iterable[str]:
    """The keys that may stand where an unknown one stands."""
    conditions = (schema.ShiftCondition, schema.AttackCondition, schema.ChainCondition)
    at: dict[str, tuple[type[BaseModel], ...]] = {
        "conditions": conditions,
        "include": (schema.Filter,),
        "exclude": (schema.Filter,),
        "runtime": (schema.Runtime,),
        "intervals": (schema.Intervals,),
    }
    models = at.get(str(where[0]), ()) if len(where) > 1 else (schema.Grid,)
    if "condition" in where or "fit" in where:
        models = conditions
    return {name for one in models for name in one.model_fields}

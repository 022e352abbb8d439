"""pydantic's errors in the house form: where in the file, what was expected, what came, and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from testbed.errors import Problem, nearest
from testbed.grid import model as schema
from testbed.grid.reader import Document, Where
from testbed.parameters import short

_TAGS = {"clean", "shift", "attack", "chain"}


def schema_problems(
    document: Document, error: ValidationError, prefix: Where = (), top: type[BaseModel] = schema.Grid
) -> list[Problem]:
    """All problems of a failed validation of a `top`, one for each place; `prefix` is where the validated value is."""
    said: dict[Where, str] = {}
    for item, where in zip(error.errors(), paths(document, error, prefix), strict=True):
        said.setdefault(where, say(item, where, top))
    return [document.problem(where, message) for where, message in said.items()]


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


#: Tags of the members of a union, in pydantic's locations.
_UNION = re.compile(r"(str|int|float|bool)$|\w[\w-]*\[")


def real_path(value: Any, loc: Sequence[str | int], trusted: int = 0) -> Where:
    """pydantic's location without the tags of unions and without the index of a scalar that was taken for a list."""
    where: list[str | int] = []
    for position, part in enumerate(loc):
        before = loc[position - 1] if position else ""
        in_union = before in ("condition", "fit") or (
            isinstance(before, int) and loc[position - 2] in ("conditions", "chain")
        )
        if position >= trusted and part in _TAGS and in_union:
            continue
        if position >= trusted and not isinstance(value, list if isinstance(part, int) else dict):
            continue
        if position >= trusted and isinstance(part, str) and part not in value and _UNION.match(part):
            continue
        where.append(part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(where)


#: pydantic's names of bounds, and what the house says.
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"), "greater_than": ("gt", "a number above"),
    "less_than_equal": ("le", "at most"), "less_than": ("lt", "a number below"),
}  # fmt: skip


def say(item: Mapping[str, Any], where: Where, top: type[BaseModel] = schema.Grid) -> str:
    """A pydantic error in the house form."""
    kind, got = item["type"], short(item.get("input"))
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(where[-1]), known_keys(top, where))}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"expected {words} {item['ctx'][key]}, got {got}"
    if kind == "missing":
        return "required, but not given"
    if kind == "literal_error":
        expected = item["ctx"]["expected"]
        options = expected.replace("'", "").replace(" or ", ", ").split(", ")
        return f"expected {expected}, got {got}; {nearest(str(item.get('input')), options)}"
    text = item["msg"].removeprefix("Value error, ")
    text = (
        text.replace("Input should be a ", "expected a ")
        .replace("Input should be", "expected a value")
        .replace("String should match", "expected a text that matches")
    )
    return text if "got" in text else f"{text}, got {got}"


def known_keys(top: type[BaseModel], where: Where) -> set[str]:
    """The keys that may stand where an unknown one stands in a document of this model.

    >>> sorted(known_keys(schema.Grid, ("intervals", "levle")))
    ['level', 'replicates']
    """
    models = {top}
    for part in where[:-1]:
        if isinstance(part, str):
            inner = [one.model_fields[part].annotation for one in models if part in one.model_fields]
            models = {model for annotation in inner for model in _models(annotation)}
    return {name for one in models for name in one.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)

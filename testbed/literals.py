"""What a source file states in plain values: annotations, defaults and facts, read from its tree, never executed."""

from __future__ import annotations

import ast
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final

from testbed.errors import UsageError
from testbed.parameters import short

_TYPES: Final[Mapping[str, Any]] = {
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "tuple": tuple, "dict": dict,
    "Any": Any, "Literal": typing.Literal, "Optional": typing.Optional, "Union": typing.Union, "None": None,
}  # fmt: skip

#: What `ast.literal_eval` raises on what is no literal, or on one that no value can be made of.
NO_LITERAL: Final = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, ArithmeticError)


def literal(name: str, node: ast.expr) -> Any:
    """The default of a parameter; UsageError, beginning with its place, where it is no plain and finite value.

    >>> literal("eps", ast.parse("8 / 255", mode="eval").body) == 8 / 255
    True
    """
    at = f"{node.lineno}:{node.col_offset + 1}  {name}:"
    try:
        found = value_of(node)
    except NO_LITERAL:
        raise UsageError(
            f"{at} the default {short(source(node))} is not a plain value; write it as a literal"
        ) from None
    if not _plain(found):
        says = "expected text, true, false, a finite number of at most 64 bits, null, or a list or mapping of these"
        raise UsageError(f"{at} the default {short(source(node))} cannot be kept; {says}")
    return found


def value_of(node: ast.expr) -> Any:
    """A literal, or one number divided by another."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return float(ast.literal_eval(node.left)) / float(ast.literal_eval(node.right))
    return ast.literal_eval(node)


def source(node: ast.AST) -> str:
    """A node as text; what it is where it is too deep for that."""
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):
        return type(node).__name__


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(one) for key, one in value.items())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or (isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value))


def annotation(node: ast.expr | None) -> Any:
    """The type an annotation spells; Any where it is not a plain one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except NO_LITERAL:
            return Any
    if node is None:
        return Any
    inner = list(ast.walk(node))
    names = {n.id for n in inner if isinstance(n, ast.Name)} | {n.attr for n in inner if isinstance(n, ast.Attribute)}
    parts = (ast.Name, ast.Constant, ast.Subscript, ast.BinOp, ast.BitOr, ast.Tuple, ast.Load)
    if not all(isinstance(n, parts) for n in inner) or not names <= set(_TYPES):
        return Any
    try:
        found = eval(compile(ast.Expression(node), "<annotation>", "eval"), {"__builtins__": {}}, dict(_TYPES))
    except NO_LITERAL:  # int[3], Optional[int, str]
        return Any
    return found if _readable(found) else Any


def _readable(found: Any) -> bool:
    """Whether values can be checked against it: a number or a list of types is an expression, not a type."""
    from pydantic import PydanticUserError, TypeAdapter

    try:
        TypeAdapter(found)
    except (PydanticUserError, AssertionError, *NO_LITERAL):
        return False
    return True


def stated(node: ast.ClassDef | ast.FunctionDef, known: Mapping[str, Any]) -> dict[str, Any]:
    """What a class or a function assigns to facts, over what is `known`; UsageError where it is of another type.

    A fact that is computed is as `known` says: the running class has it, the plan does without.
    """
    found = dict(known)
    for name, value in assigned(node):
        if name not in known:
            continue
        try:
            fact = ast.literal_eval(value)
        except NO_LITERAL:
            continue
        if not _alike(fact, known[name]):
            expected = f"something like {known[name]!r}"
            at = f"{value.lineno}:{value.col_offset + 1}"
            raise UsageError(f"{at}  {name}: expected {expected}, got {short(fact)}")
        found[name] = tuple(fact) if isinstance(fact, list) else fact
    return found


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """The names that the body of a class or a function assigns, and to what.

    >>> [name for name, _ in assigned(ast.parse("a = 1; b: int = 2; c: int"))]
    ['a', 'b']
    """
    for statement in getattr(node, "body", []):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(target, ast.Name) and statement.value:
            yield target.id, statement.value


def _alike(fact: Any, default: Any) -> bool:
    """Whether a fact is of its default's type; one without a default is a word or nothing."""
    if isinstance(default, tuple):
        return isinstance(fact, (list, tuple)) and all(isinstance(one, str) for one in fact)
    if default is None:
        return fact is None or isinstance(fact, str)
    if isinstance(default, bool):
        return isinstance(fact, bool)
    if isinstance(default, int):  # a version
        return isinstance(fact, (int, str)) and not isinstance(fact, bool)
    return isinstance(fact, type(default))

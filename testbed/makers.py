"""Networks that make themselves: an nn.Module class, or a function that does not ask for the spec, as a model plug-in.

A model plug-in is usually a function of the spec, or a dataclass with `build(spec)`. But what people have is often the
class of the network. Its `__init__` then has the parameters, and gets the spec too where it asks for one by that name:

    use: ./nets.py:Net            class Net(nn.Module): def __init__(self, classes=10, width=16)
    use: ./nets.py:make           def make(width=16)
    use: ./nets.py:make           def make(spec, *, width=16)     (as ever: the one required argument is the spec)
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from testbed.literals import NO_LITERAL

SPEC = "spec"


def maker(node: ast.AST, named: Mapping[str, ast.AST]) -> ast.FunctionDef | None:
    """The function whose arguments are a network's parameters, read without running it; None for other plug-ins.

    named  the functions and classes of the file, where a class without `__init__` has that of its base

    >>> tree = ast.parse("def make(width=16): ...").body[0]
    >>> maker(tree, {}) is tree, maker(ast.parse("def make(s, *, width=16): ...").body[0], {})
    (True, None)
    """
    if isinstance(node, ast.ClassDef):
        own = {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
        if "build" in own or any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            return None
        if "__init__" in own:
            return own["__init__"]
        bases = (named.get(ast.unparse(base)) for base in node.bases)
        return next((found for base in bases if base is not None and (found := maker(base, named))), None)
    if not isinstance(node, ast.FunctionDef):
        return None
    given = [*node.args.posonlyargs, *node.args.args]
    spec = len(given) > len(node.args.defaults) or any(one.arg == SPEC for one in given)
    return None if spec else node


def arguments(node: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    """The arguments that a grid may set, with their defaults (None: required).

    The spec is supplied, and what defaults to something else than a plain value (a class, a function) stays as it is.
    """
    given = [*node.args.posonlyargs, *node.args.args]
    defaults = [*[None] * (len(given) - len(node.args.defaults)), *node.args.defaults]
    pairs = list(zip(given, defaults, strict=True))[1 if node.name == "__init__" else 0 :]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return [(one, default) for one, default in pairs if one.arg != SPEC and (default is None or _plain(default))]


def _plain(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except NO_LITERAL:
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    return True


def is_module(target: Any) -> bool:
    """Whether a loaded plug-in is the class of a network (no torch is imported to find out)."""
    return isinstance(target, type) and any(one.__module__ == "torch.nn.modules.module" for one in target.__mro__)


def made(bound: Callable[..., Any], spec: Any) -> Any:
    """What a function, or the class of a network, gives; it is handed the spec where it asks for it.

    >>> made(lambda width=3: width, "a spec"), made(lambda s, *, width=3: s, "a spec")
    (3, 'a spec')
    """
    asks = inspect.signature(bound).parameters
    if SPEC in asks:
        return bound(**{SPEC: spec}) if asks[SPEC].kind is not inspect.Parameter.POSITIONAL_ONLY else bound(spec)
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    wants = [p for p in asks.values() if p.kind not in by_name and p.default is inspect.Parameter.empty]
    return bound(spec) if wants and not is_module(getattr(bound, "func", bound)) else bound()

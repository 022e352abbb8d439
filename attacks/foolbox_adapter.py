"""Every attack of an installed foolbox 3 (Rauber et al. 2020) by its class name, as `foolbox:LinfDeepFoolAttack`.

What a class takes and what it is are read from foolbox's sources with `ast`, so that planning imports neither foolbox
nor torch. What the adapter frees its users from:
- inputs a rounding error outside the bounds fail a bare assertion: inputs are clipped before they get here;
- foolbox accumulates gradients into parameters: the victim's are frozen, and its calls are counted;
- one example without a starting point makes Boundary, HopSkipJump and Brendel-Bethge raise for the whole batch: the
  batch is then run example by example, and an example that still fails is marked failed and keeps its clean image;
- classes that want `distance=` get the condition's norm, L0 ones are never asked to clip, `run` is called directly so
  that no epsilon is run twice;
- draws come from global generators and C&W stops on a sum over its batch: the adapter is batch-coupled (a seed for each
  slice, the global state restored); `exact: true` runs the examples one by one.
"""

from __future__ import annotations

import ast
import importlib.util
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from testbed.errors import MissingExtra, UsageError, nearest
from testbed.plugins import REQUIRED, Parameter, Plugin
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

#: Constructor arguments that are objects or side effects: the adapter or foolbox's own default supplies them.
HIDDEN = frozenset({"self", "distance", "init_attack", "tensorboard", "constraint"})
OWN = (Parameter("exact", bool, False), Parameter("target", str | int | tuple[int, ...], ""))
#: The key of the draws of every foolbox attack; not foolbox's version, so that a release does not change them.
DRAWS = "2/3.3.4"
_NORMS = {"l0": "l0", "l1": "l1", "l2": "l2", "linf": "linf"}
_TYPES = {
    "int": int, "float": float, "bool": bool, "str": str, "None": None, "Optional": typing.Optional,
    "Union": typing.Union, "Literal": typing.Literal, "Tuple": tuple,
}  # fmt: skip


class Foolbox:
    """The adapter: `plugin` says what one class is, without importing foolbox; `attack` runs it."""

    adapter: ClassVar = True
    batch_coupled: ClassVar = True
    reference: ClassVar = Paper(
        "Foolbox Native: fast adversarial attacks to benchmark the robustness of machine learning models in PyTorch, "
        "TensorFlow, and JAX",
        "Jonas Rauber and Roland Zimmermann and Matthias Bethge and Wieland Brendel", 2020, "JOSS",
    )  # fmt: skip

    @staticmethod
    def plugin(ref: str, inner: str) -> Plugin:
        """The plug-in `foolbox:inner`, read from the sources."""
        name = resolve(inner)
        facts = {
            "version": f"2/{version('foolbox')}", "draws": DRAWS, "kinds": ("image", "tabular", "series"),
            "norms": norms_of(name),
            "objective": "label", "white_box": name not in BLACK_BOX, "batch_coupled": True,
            "minimal": "FixedEpsilonAttack" not in ancestors(name), "adapter": False, "reference": Foolbox.reference,
        }  # fmt: skip
        parameters = (*_supplied(name), *parameters_of(name), *OWN)
        return Plugin("attack", f"foolbox:{name}", name, parameters, facts, None, lambda: _named(name))


@dataclass(frozen=True)
class Settings:
    """One foolbox class with everything it is run with; `params` are its constructor's."""

    name: str
    norm: str | None = None
    eps: float | None = None
    bounds: Any = (0.0, 1.0)
    exact: bool = False
    target: Any = ""
    params: Mapping[str, Any] = field(default_factory=dict)


def attack(name: str, model: Victim, x: Tensor, y: Tensor, *, generator: Any, rng: Any, **params: Any) -> Found:
    """x `[n ...]` -> the attacked x.

    `generator` only says that draws are per slice, foolbox uses the global ones; `rng` seeds examples run alone.
    """
    from .foolbox_run import run

    own = {key: params.pop(key) for key in ("norm", "eps", "bounds", "exact", "target") if key in params}
    return run(Settings(name, params=params, **own), model, x, y, rng)


def _named(name: str) -> Any:
    """`attack` for one class; steps given as such are in the unit of eps, all other constants shares of the range."""
    bound = partial(attack, name)
    bound.lengths = ("abs_stepsize",)  # type: ignore[attr-defined]
    bound.row_target = True  # type: ignore[attr-defined]
    return bound


#: Classes that never ask for a gradient.
BLACK_BOX = frozenset({
    "BoundaryAttack", "HopSkipJumpAttack", "GenAttack", "PointwiseAttack", "SpatialAttack", "SaltAndPepperNoiseAttack",
    "LinearSearchBlendedUniformNoiseAttack", "GaussianBlurAttack", "InversionAttack",
    "DatasetAttack", "BinarizationRefinementAttack",
    "BinarySearchContrastReductionAttack", "LinearSearchContrastReductionAttack", "L2ContrastReductionAttack",
    "L2AdditiveGaussianNoiseAttack", "L2AdditiveUniformNoiseAttack", "L2ClippingAwareAdditiveGaussianNoiseAttack",
    "L2ClippingAwareAdditiveUniformNoiseAttack", "LinfAdditiveUniformNoiseAttack",
    "L2RepeatedAdditiveGaussianNoiseAttack",
    "L2RepeatedAdditiveUniformNoiseAttack", "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
    "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack", "LinfRepeatedAdditiveUniformNoiseAttack",
})  # fmt: skip


def _supplied(name: str) -> tuple[Parameter, ...]:
    """What the condition fills in; eps has a default where the attack minimises or has no ball."""
    fixed = "FixedEpsilonAttack" in ancestors(name)
    norm = (Parameter("norm", str, norms_of(name)[0]),) if norms_of(name) else ()
    return (
        *norm,
        Parameter("eps", float if fixed else float | None, REQUIRED if fixed else None),
        Parameter("bounds", Any, (0.0, 1.0)),
    )


@cache
def classes() -> Mapping[str, ast.ClassDef]:
    """Every class foolbox's attack modules define."""
    nodes = (node for path in sorted(_folder().glob("*.py")) for node in ast.parse(path.read_text()).body)
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


@cache
def names() -> Mapping[str, str]:
    """Public name -> class name: the 58 attack classes and their short aliases.

    >>> names()["PGD"], len(set(names().values()))
    ('LinfProjectedGradientDescentAttack', 58)
    """
    body = ast.parse((_folder() / "__init__.py").read_text()).body
    imported = [alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    found = {name: name for name in imported if name not in ("Attack", "MinimizationAttack", "FixedEpsilonAttack")}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Name):
            found[node.targets[0].id] = found[node.value.id]
    return found


def resolve(inner: str) -> str:
    """The class behind a public name; an unknown one is an error that gives the nearest."""
    if inner not in names():
        raise UsageError(f"foolbox has no attack {inner!r}; {nearest(inner, names())}")
    return names()[inner]


def ancestors(name: str) -> list[str]:
    """The class and its bases, nearest first."""
    node = classes().get(name)
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)] if node else []
    return [name, *(one for base in bases for one in ancestors(base))]


def parameters_of(name: str) -> tuple[Parameter, ...]:
    """The constructor's parameters, from the nearest class that has a constructor."""
    for owner in ancestors(name):
        for member in classes()[owner].body if owner in classes() else ():
            if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                return tuple(_arguments(member.args))
    return ()


def norms_of(name: str) -> tuple[str, ...]:
    """The norms an attack can be run in; none for the spatial attack."""
    if name == "HopSkipJumpAttack":
        return ("l2", "linf")
    if "FlexibleDistanceMinimizationAttack" in ancestors(name):
        return ("l2", "linf", "l1", "l0")
    for owner in ancestors(name):
        for member in classes()[owner].body if owner in classes() else ():
            word = _distance(member)
            if word:
                return (word,)
    return ()


def _distance(member: ast.stmt) -> str | None:
    """The norm a class member sets as `distance`, as an attribute or a property."""
    if isinstance(member, ast.FunctionDef) and member.name == "distance":
        values = [node.value for node in ast.walk(member) if isinstance(node, ast.Return)]
    elif (isinstance(member, ast.Assign) and ast.unparse(member.targets[0]) == "distance") or (
        isinstance(member, ast.AnnAssign) and ast.unparse(member.target) == "distance"
    ):
        values = [member.value]
    else:
        return None
    return next((_NORMS[value.id] for value in values if isinstance(value, ast.Name) and value.id in _NORMS), None)


def _arguments(arguments: ast.arguments) -> Iterator[Parameter]:
    plain = [*arguments.args[: len(arguments.args)]]
    missing = [None] * (len(plain) - len(arguments.defaults))
    for argument, default in [
        *zip(plain, [*missing, *arguments.defaults]),
        *zip(arguments.kwonlyargs, arguments.kw_defaults),
    ]:
        if argument.arg not in HIDDEN:
            yield Parameter(
                argument.arg, _annotation(argument.annotation), REQUIRED if default is None else _value(default)
            )


def _annotation(node: ast.expr | None) -> Any:
    words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} if node is not None else set()
    if node is None or not words <= set(_TYPES):
        return Any
    return eval(compile(ast.Expression(node), "<foolbox>", "eval"), {"__builtins__": {}}, dict(_TYPES))


def _value(node: ast.expr) -> Any:
    """A default: a literal, or a quotient of two."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return ast.literal_eval(node.left) / ast.literal_eval(node.right)
    return ast.literal_eval(node)


@cache
def _folder() -> Path:
    spec = importlib.util.find_spec("foolbox")
    if spec is None or spec.origin is None:
        raise MissingExtra("foolbox", "a foolbox attack")
    return Path(spec.origin).parent / "attacks"

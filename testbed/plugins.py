"""Plug-ins: one way from a name in a grid to a thing that runs, for built-ins and user files alike.

A reference is one of
    pgd                        a name from the entry-point group of its kind (built-ins are found this way too)
    foolbox:LinfDeepFoolAttack a name inside an adapter entry point (a class whose `adapter` is True)
    ./my_attack.py:shrink      a function or class in a file; the path is relative to the grid
    pkg.mod:Shrink             a function or class in an installed module

A plug-in is a frozen dataclass (its fields are the parameters, its other class attributes are facts) or a plain
function (its keyword-only parameters are the parameters). `read` learns both without executing user code: files and
modules, entry points of other distributions too, are parsed with `ast`; our own entry points are imported, and import
no torch at module level. (A class of another distribution that inherits, or that is an adapter, tells nothing to `ast`:
it is imported.) `Plugin.build` executes, and belongs in a job. Workers rebuild a plug-in from its recipe and the
sources kept in the store (`from_recipe`), because a module on the driver's disk does not travel.

What each kind is called with, p standing for its parameters:
    attack      f(model, x, y, *, p..., rng) -> x_adv, or a dataclass with __call__(model, x, y, *, rng) -> x_adv
    shift       f(images, *, p..., severity, rng) -> images, or a dataclass with a field `severity` and
                __call__(images, *, rng)
    calibrator  dataclass: fit(logits, labels, *, features=None, unlabelled=None), probs(logits, *, features=None),
                state(), restore(state)
    detector    dataclass: fit(outputs), score(outputs), state(), restore(state)
    dataset     dataclass: sizes(), spec(), load(split)
    model       f(spec, *, p...) -> torch module, or a dataclass with build(spec), or one of `testbed.makers`
    metric      dataclass: __call__(...) by what it `needs`
`rng` is a `testbed.seeding.Rng`. An attack that asks for `generator` (a torch one) instead is batch-coupled.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, Final

from testbed import loading, makers
from testbed.digest import digest_bytes
from testbed.errors import MissingExtra, UsageError, nearest
from testbed.files import read_regular
from testbed.imports import OWN_DISTRIBUTION, Code, follow
from testbed.literals import annotation, assigned, literal, stated
from testbed.parameters import fraction_aware

KINDS: Final = ("attack", "shift", "calibrator", "detector", "dataset", "model", "metric")
REQUIRED: Final = inspect.Parameter.empty

LARGEST_SOURCE: Final = 10_000_000  # bytes of a plug-in's file that are read
#: Arguments the runner supplies; never parameters of a plug-in.
SUPPLIED: Final = frozenset({"self", "rng", "generator", "model", "x", "y", "images", "spec"})

#: Facts a plug-in may state as class attributes, with what holds where it states nothing.
#: `version` is in the digest alone: raise it when what the plug-in computes changes. `draws` is the key of its random
#: draws and is not in the digest: where it changes, so must `version`.
FACTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "attack": {
        "version": 1, "draws": 1, "kinds": ("image", "tabular", "series"), "norms": ("linf", "l2", "l1", "l0"),
        "objective": "label", "white_box": True, "batch_coupled": False, "minimal": False,
        "adapter": False, "reference": None,
    },
    "shift": {"version": 1, "draws": 1, "kinds": ("image",), "level": "example", "reference": None},
    "calibrator": {
        "version": 1, "inputs": "logits", "argmax_preserving": False, "differentiable": False, "needs": (),
        "online": False, "reference": None,
    },
    "detector": {"version": 1, "consumes": ("logits",), "fitted_on": None, "packages": (), "reference": None},
    "dataset": {"version": 1, "draws": 1, "paths": (), "reference": None},
    "model": {
        "version": 1, "kinds": ("image",), "gradients": True, "external": False, "weights_from": "anywhere",
        "packages": (), "adapter": False, "reference": None,
    },
    "metric": {"version": 1, "needs": "probs", "higher_is_better": False, "reference": None},
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One parameter of a plug-in; `default` is REQUIRED where there is none."""

    name: str
    annotation: Any = Any
    default: Any = REQUIRED


@dataclass(frozen=True)
class Plugin:
    """What is known of a plug-in without running it.

    source        the text of a user's file or of another distribution's module, None for built-ins
    code          what that text rests on; None where it came from a recipe, which says it
    distribution  name and version of another distribution whose class was imported to be read
    """

    kind: str
    ref: str
    name: str
    parameters: tuple[Parameter, ...]
    facts: Mapping[str, Any]
    source: str | None = None
    loader: Callable[[], Any] = field(default=lambda: None, repr=False, compare=False)
    code: Code | None = field(default=None, repr=False, compare=False)
    distribution: str | None = None

    @property
    def source_digest(self) -> str | None:
        """Digest of the user's source text, None for installed code."""
        return None if self.source is None else digest_bytes(self.source.encode())

    @property
    def foreign(self) -> bool:
        """Whether it is not one of ours: a job with it runs in a process of its own, and nothing of it in a plan."""
        return self.source is not None or self.distribution is not None

    @property
    def sources(self) -> dict[str, str]:
        """Texts by digest that a worker needs: its own, and those of the modules it imports."""
        own = {} if self.source is None or self.source_digest is None else {self.source_digest: self.source}
        modules = {} if self.code is None else self.code.modules
        return own | {one.digest: one.text for one in modules.values() if one.text is not None}

    def identity(self, params: Mapping[str, Any] = types.MappingProxyType({})) -> dict[str, Any]:
        """The recipe's word for this code: name and version, and for a user's file all that it rests on.

        params  they may name what the plug-in declares to read
        """
        if self.source is None:
            plain = {"use": self.ref, "version": self.facts["version"]}
            packages = {name: installed_version(name) for name in self.facts.get("packages", ())}
            plain |= {"packages": packages} if packages else {}
            return {**plain, "distribution": self.distribution} if self.distribution else plain
        own = {"use": f"{self.ref.rpartition(':')[2]}", "source": self.source_digest, "version": self.facts["version"]}
        return {**own, **(self.code.identity(params) if self.code is not None else {})}

    def validate(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Typed parameters with all defaults filled in; raises pydantic.ValidationError on any that does not fit."""
        found = schema(self).model_validate(dict(params))
        return {p.name: getattr(found, f"parameter{i}") for i, p in enumerate(self.parameters)}

    def build(self, **params: Any) -> Any:
        """Execute: import the code and bind its parameters. A dataclass gives an instance, a function a partial."""
        target = self.loader()
        plain = isinstance(target, type) and not makers.is_module(target)
        return target(**params) if plain else partial(target, **params)


def installed_version(package: str) -> str:
    """The version of an installed distribution, "none" where it is not installed.

    >>> installed_version("no-such-package")
    'none'
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def schema(plugin: Plugin) -> Any:
    """The pydantic model of a plug-in's parameters; unknown keys are refused, `8/255` is a float, NaN is none.

    Fields go by number, parameters are their aliases: a parameter may have a name that pydantic keeps for itself.
    """
    from pydantic import ConfigDict, Field, create_model

    fields: dict[str, Any] = {
        f"parameter{i}": (
            fraction_aware(p.annotation),
            Field(... if p.default is REQUIRED else p.default, alias=p.name),
        )
        for i, p in enumerate(plugin.parameters)
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    return create_model(f"{plugin.kind}_{plugin.name}", __config__=config, **fields)


def group(kind: str) -> str:
    """The entry-point group of a kind.

    >>> group("attack")
    'testbed.attacks'
    """
    return f"testbed.{kind}s"


@cache
def installed(kind: str) -> Mapping[str, EntryPoint]:
    """Entry points of a kind by name. Two packages with one name are an error that names both."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group(kind)):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise UsageError(
                f"two installed plug-ins are called {point.name!r}: {other.value} and {point.value}; uninstall one"
            )
    return dict(sorted(found.items()))


def read(kind: str, ref: str, base: Path | None = None) -> Plugin:
    """What the plug-in `ref` is and takes. `base` is the folder that a path is relative to.

    >>> from testbed.plugins import read
    >>> [p.name for p in read("calibrator", "temperature").parameters]
    []
    """
    head, _, attribute = ref.rpartition(":")
    if head.endswith(".py"):
        return _from_file(kind, ref, (base or Path()) / head, attribute)
    name = (head or ref).replace("-", "_")
    if name in installed(kind):
        return _from_entry_point(kind, ref, installed(kind)[name], attribute if head else "")
    if head:
        return _from_module(kind, ref, head, attribute)
    raise UsageError(f"unknown {kind} {ref!r}; {nearest(ref, installed(kind))}")


def from_recipe(kind: str, identity: Mapping[str, Any], source_of: Callable[[str], str]) -> Plugin:
    """The plug-in that `identity` (see `Plugin.identity`) names, on a worker; `source_of` reads the store."""
    if "source" not in identity:
        return read(kind, identity["use"])
    use = identity["use"]
    plugin = _from_text(kind, use, use, source_of(identity["source"]), f"<{use} from the store>")
    return dataclasses.replace(plugin, loader=lambda: getattr(loading.load(identity, source_of), plugin.name))


def _from_entry_point(kind: str, ref: str, point: EntryPoint, inner: str) -> Plugin:
    """Ours are imported; what another distribution brings is read as a module is, unless only running it tells."""
    if point.dist is None or point.dist.name == OWN_DISTRIBUTION:
        return _imported(kind, ref, point, inner)
    if not inner and (plugin := _read_point(kind, point)) is not None:
        return plugin
    imported = _imported(kind, ref, point, inner)
    return dataclasses.replace(imported, distribution=f"{point.dist.name} {installed_version(point.dist.name)}")


def _read_point(kind: str, point: EntryPoint) -> Plugin | None:
    """Another distribution's plug-in, read from its module's text; None where the text does not tell."""
    try:
        plugin = _from_module(kind, point.value, point.module, point.attr)
    except UsageError:
        return None
    assert plugin.source is not None and plugin.code is not None and point.dist is not None
    named = [n for n in ast.parse(plugin.source).body if getattr(n, "name", "") == point.attr]
    if getattr(named[0], "bases", None) or "adapter" in dict(assigned(named[0])):
        return None
    packages = {**plugin.code.packages, point.dist.name: installed_version(point.dist.name)}
    code = dataclasses.replace(plugin.code, packages=dict(sorted(packages.items())))
    return dataclasses.replace(plugin, name=point.name, code=code)


@cache
def _imported(kind: str, ref: str, point: EntryPoint, inner: str) -> Plugin:
    try:
        target = point.load()
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "?", f"{kind} {ref!r}") from error
    except AttributeError:
        package = "its package" if point.dist is None else f"package {point.dist.name!r}"
        raise UsageError(
            f"{kind} {ref!r}: its entry point names {point.value}, which is not there; {package} has changed since it "
            "was installed: install it again (pip install -e . in a checkout)"
        ) from None
    facts = {name: getattr(target, name, default) for name, default in FACTS[kind].items()}
    if inner:
        if not facts.get("adapter"):
            raise UsageError(f"{kind} {ref!r}: {point.name!r} is not an adapter, so nothing can follow its colon")
        return typing.cast(Plugin, target.plugin(ref, inner))
    return Plugin(kind, point.name, point.name, parameters(target), facts, None, lambda: target)


def parameters(target: Any) -> tuple[Parameter, ...]:
    """The parameters of a dataclass (its fields) or a function (what is keyword-only and not supplied)."""
    hints = typing.get_type_hints(target if isinstance(target, type) else inspect.unwrap(target), include_extras=True)
    if dataclasses.is_dataclass(target):
        return tuple(Parameter(f.name, hints[f.name], _field_default(f)) for f in dataclasses.fields(target) if f.init)
    asked = [p for p in inspect.signature(target).parameters.values() if p.name not in SUPPLIED]
    by_place = makers.is_module(target)
    keyword = [p for p in asked if p.kind is p.KEYWORD_ONLY or (by_place and p.kind is p.POSITIONAL_OR_KEYWORD)]
    return tuple(Parameter(p.name, hints.get(p.name, Any), p.default) for p in keyword)


def _field_default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return REQUIRED if f.default is dataclasses.MISSING else f.default


def _from_file(kind: str, ref: str, path: Path, attribute: str, module: str = "") -> Plugin:
    try:
        text = read_regular(path, LARGEST_SOURCE).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{kind} {ref!r}: cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{kind} {ref!r}: {path} is not UTF-8 text (byte {error.start})") from None
    plugin = _from_text(kind, ref, attribute, text, str(path))
    code = follow(text, path, module, attribute)
    plugin = dataclasses.replace(plugin, code=code)
    return dataclasses.replace(plugin, loader=lambda: getattr(_loaded(plugin), attribute))


def _loaded(plugin: Plugin) -> types.ModuleType:
    """The module of a plug-in that was read from this disk."""
    assert plugin.code is not None and plugin.source_digest is not None
    if plugin.code.module:
        return importlib.import_module(plugin.code.module)
    loading.places.update(plugin.code.places(plugin.source_digest))
    modules = {key: one.digest for key, one in plugin.code.modules.items()}
    return loading.load({"source": plugin.source_digest, "modules": modules}, plugin.sources.__getitem__)


def _from_module(kind: str, ref: str, module: str, attribute: str) -> Plugin:
    """Find the module's file without importing any of its parents, and read it as a file."""
    root, *rest = module.split(".")
    spec = importlib.util.find_spec(root)
    places = [] if spec is None else [*filter(None, [spec.origin]), *(spec.submodule_search_locations or ())]
    if not places:
        raise UsageError(f"{kind} {ref!r}: no module {root!r} is installed; {nearest(ref, installed(kind))}")
    path = Path(places[0]) if Path(places[0]).is_file() else Path(places[0], "__init__.py")
    for part in rest:
        below = path.parent / part
        path = below / "__init__.py" if below.is_dir() else below.with_suffix(".py")
    return _from_file(kind, ref, path, attribute, module)


def _from_text(kind: str, ref: str, attribute: str, text: str, file: str) -> Plugin:
    try:
        tree = ast.parse(text, file)
    except SyntaxError as error:
        raise UsageError(f"{kind} {ref!r}: {file}:{error.lineno or 1}:{error.offset or 1}  {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL byte, or too deep
        raise UsageError(f"{kind} {ref!r}: {file}:1:1  not Python: {error or type(error).__name__}") from None
    named = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    if attribute not in named:
        raise UsageError(f"{kind} {ref!r}: {file} has no function or class {attribute!r}; {nearest(attribute, named)}")
    node = named[attribute]
    try:
        parameters = _read(kind, node, named)
        facts = stated(node, FACTS[kind])
    except UsageError as error:
        raise UsageError(f"{kind} {ref!r}: {file}:{error}") from None
    if isinstance(node, ast.FunctionDef) and "generator" in {a.arg for a in node.args.kwonlyargs}:
        facts["batch_coupled"] = True
    return Plugin(kind, ref, attribute, parameters, facts, text, lambda: getattr(loading.execute(text), attribute))


def _read(kind: str, node: ast.FunctionDef | ast.ClassDef, named: Mapping[str, Any]) -> tuple[Parameter, ...]:
    if kind == "model" and (maker := makers.maker(node, named)) is not None:
        return tuple(Parameter(a.arg, annotation(a.annotation), _default(a.arg, d)) for a, d in makers.arguments(maker))
    return _read_class(node) if isinstance(node, ast.ClassDef) else _read_function(node)


def _read_function(node: ast.FunctionDef) -> tuple[Parameter, ...]:
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return tuple(
        Parameter(a.arg, annotation(a.annotation), _default(a.arg, d)) for a, d in pairs if a.arg not in SUPPLIED
    )


def _read_class(node: ast.ClassDef) -> tuple[Parameter, ...]:
    fields = [s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
    fields = [s for s in fields if "ClassVar" not in ast.unparse(s.annotation)]
    return tuple(
        Parameter(s.target.id, annotation(s.annotation), _default(s.target.id, s.value))
        for s in fields
        if isinstance(s.target, ast.Name)
    )


def _default(name: str, node: ast.expr | None) -> Any:
    return REQUIRED if node is None else literal(name, node)


def names(kind: str) -> Iterable[str]:
    """All installed names of a kind."""
    return tuple(installed(kind))

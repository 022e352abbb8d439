"""The handle of a shift: what stands between a set and a shift plug-in, and trusts neither.

    handle = Shift(plugins.read("shift", "fog"), {"severity": 3, "params": "cifar32"})
    shifted = handle(images, ids=ids, seed=0)

What it does, for every shift, built-in or a user's:
1. checks the parameters: unknown names, a severity outside [0, 5], an unknown parameter set -> `UsageError` with the
   nearest names;
2. checks the input: images are uint8 `[n h w c]` with n, h, w, c >= 1, ids are n integers -> `DataError`;
3. severity 0 gives the input back, whatever the plug-in would do;
4. cuts the set into chunks of about a mebibyte of float32, so that memory does not grow with n and the work stays in
   cache. Draws are keyed by (plug-in name, version, seed, example id), so the cut cannot be seen in the result;
5. checks what came back: same shape, same dtype, finite -> `PluginViolation`.

Accepted trade-off: a chunk is copied before the plug-in sees it (a user's shift may write in place).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from testbed.errors import DataError, PluginViolation, UsageError, nearest
from testbed.parameters import misfit
from testbed.plugins import Plugin
from testbed.seeding import Rng
from testbed.types import Array, Examples, Ints, Spec

#: Values a chunk holds: a mebibyte of float32.
CHUNK = 2**18

#: Ids of the frames of example `id` of a sequence start at `id * SLOTS`.
SLOTS = 64

#: Severities run from 0 (identity) to 5 (the strongest published level).
STRONGEST = 5.0


class Shift:
    """A shift with its parameters bound; `severity` is None for a plug-in that has none.

    `facts["level"]` says what it works on: "example" (each example alone), "set" (which examples are in the set),
    "replace" (another set in its place) or "frames" (each example becomes a sequence).
    """

    def __init__(self, plugin: Plugin, params: Mapping[str, Any] | None = None) -> None:
        self.plugin = plugin
        self.params = checked(plugin, params or {})
        self.severity: float | None = self.params.get("severity")
        self._built: Any = None

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.params.items())
        return f"Shift({self.plugin.name!r}, {given})"

    @property
    def built(self) -> Any:
        """The plug-in itself, executed on first use."""
        if self._built is None:
            self._built = self.plugin.build(**self.params)
        return self._built

    def __call__(self, x: Array, *, ids: ArrayLike, seed: int = 0, spec: Spec | None = None) -> Array:
        """The shifted examples: same shape and dtype as `x`.

        x     images uint8 `[n h w c]`; for tabular and series shifts float32 `[n f]`, `[n t c]`
        ids   int64 `[n]`: the example ids that key the draws
        spec  what the columns are; shifts of tables and series need it (bounds, categorical columns)
        """
        self._needs_level("example")
        keys = self._checked_input(x, ids)
        if spec is None and _required(self.built, "spec"):
            series = self.plugin.facts["kinds"] == ("series",)
            shape, like = tuple(x.shape[1:]), ("series", "tc") if series else ("tabular", "f")
            example = f'spec=testbed.types.Spec("{like[0]}", {shape}, classes, "float32", "{like[1]}", ((low, high),))'
            raise UsageError(
                f"shift {self.plugin.name!r} is relative to the range of each feature, which the values do not tell; "
                f"give {example}, or call .on(examples)"
            )
        if self.severity == 0:
            return x.copy()
        extra = {"spec": spec} if _accepts(self.built, "spec") else {}
        out = np.empty_like(x)
        for rows in chunks(x.shape):
            part = np.ascontiguousarray(x[rows]).copy()
            out[rows] = self._checked_output(part, self.built(part, rng=self._rng(keys[rows], seed), **extra), x[rows])
        return out

    def on(self, examples: Examples, *, seed: int = 0) -> Examples:
        """The shifted set: other pixels for a shift of examples, other members for a shift of the set."""
        from dataclasses import replace

        if self.plugin.facts["level"] == "frames":
            return self._filmed(examples, seed)
        if self.plugin.facts["level"] == "example":
            return replace(examples, x=self(examples.x, ids=examples.ids, seed=seed, spec=examples.spec))
        if self.severity == 0:
            return examples
        if self.plugin.facts["level"] == "replace":
            return self._replaced(examples, seed)
        rows = np.sort(np.asarray(self.built(examples, rng=self._rng(examples.ids, seed))))
        whole = rows.ndim == 1 and len(rows) > 0 and len(np.unique(rows)) == len(rows)
        if not whole or rows[0] < 0 or rows[-1] >= len(examples):
            got = f"{rows.dtype} {list(rows.shape)}"
            wanted = f"positions of at least one of {len(examples)} examples, each at most once"
            raise PluginViolation(f"shift {self.plugin.name!r} must return {wanted}; got {got}")
        return examples.take(rows)

    def _filmed(self, examples: Examples, seed: int) -> Examples:
        """All frames of all examples as examples of their own, with ids `id * SLOTS + frame`."""
        ids = self._checked_input(examples.x, examples.ids)
        films = [
            self._checked_films(self.built(examples.x[rows].copy(), rng=self._rng(ids[rows], seed)), examples.x[rows])
            for rows in chunks((len(ids), SLOTS, *examples.x.shape[1:]))
        ]
        count = films[0].shape[1]
        x = np.concatenate(films).reshape(-1, *examples.x.shape[1:])
        groups = None if examples.groups is None else np.repeat(examples.groups, count)
        numbered = (ids[:, None] * SLOTS + np.arange(count)).reshape(-1)
        return Examples(x, np.repeat(examples.y, count), numbered, examples.spec, groups, examples.group_names)

    def _checked_films(self, films: Any, original: Array) -> Array:
        sound = isinstance(films, np.ndarray) and films.ndim == 5 and films.dtype == np.uint8
        if not sound or (films.shape[0], *films.shape[2:]) != original.shape or not 2 <= films.shape[1] <= SLOTS:
            got = f"{films.dtype} {list(films.shape)}" if isinstance(films, np.ndarray) else type(films).__name__
            n, *rest = original.shape
            wanted = f"uint8 [{n}, 2 to {SLOTS} frames, {', '.join(map(str, rest))}]"
            raise PluginViolation(f"shift {self.plugin.name!r} must return {wanted}; got {got}")
        checked: Array = films
        return checked

    def _replaced(self, examples: Examples, seed: int) -> Examples:
        """Another set in place of the given one, checked and in id order."""
        found: Any = self.built(examples, rng=self._rng(examples.ids, seed))
        sound = isinstance(found, Examples) and found.spec == examples.spec and len(found) > 0
        if not sound or found.x.shape[1:] != examples.spec.shape or found.x.dtype != examples.spec.dtype:
            got = f"{found.x.dtype} {list(found.x.shape)}" if isinstance(found, Examples) else type(found).__name__
            wanted = f"examples as the first set's, {examples.spec.dtype} {list(examples.spec.shape)}"
            raise PluginViolation(f"shift {self.plugin.name!r} must return {wanted}; got {got}")
        ordered: Examples = found.take(np.argsort(found.ids, kind="stable"))
        return ordered

    def sample(self, shape: tuple[int, ...], *, ids: ArrayLike, seed: int = 0) -> dict[str, Array]:
        """The draws of these examples (`shape` is one example's), one row each, to keep and to give to `apply`."""
        self._splits()
        drawn: dict[str, Array] = self.built.sample(shape, self._rng(np.asarray(ids), seed))
        return drawn

    def apply(self, images: Array, draws: Mapping[str, Array]) -> Array:
        """The shift with these draws: `apply(x, sample(x.shape[1:], ids=ids))` is `self(x, ids=ids)`."""
        self._splits()
        for name, values in draws.items():
            if len(values) != len(images):
                got = f"{len(values)} rows for {len(images)} images"
                raise DataError(
                    f"shift {self.plugin.name!r}: the draws {name!r} hold {got}; take the same rows of both"
                )
        self._checked_input(images, np.arange(len(images)))
        if self.severity == 0:
            return images.copy()
        out = np.empty_like(images)
        for rows in chunks(images.shape):
            part = images[rows].copy()
            out[rows] = self._checked_output(
                part, self.built.apply(part, {k: v[rows] for k, v in draws.items()}), images[rows]
            )
        return out

    def taken(self, shape: tuple[int, ...]) -> str:
        """Which parameter set is in force for examples of this shape; "" where the shift has none.

        `params="auto"` answers with the set it chose, or with the two it interpolates between.
        """
        return str(self.built.taken(shape)) if hasattr(self.built, "taken") else ""

    def _rng(self, ids: Array, seed: int) -> Rng:
        return Rng(self.plugin.name, self.plugin.facts["draws"], seed, ids)

    def _needs_level(self, level: str) -> None:
        if self.plugin.facts["level"] != level:
            raise UsageError(
                f"shift {self.plugin.name!r} works on a whole set, not on single examples; call .on(examples, seed=...)"
            )

    def _splits(self) -> None:
        if not hasattr(self.built, "sample"):
            needs = "sample(shape, rng) and apply(images, draws)"
            raise UsageError(f"shift {self.plugin.name!r} has no separate draws; a plug-in offers them with {needs}")

    def _checked_input(self, x: Array, ids: ArrayLike) -> Ints:
        name, kinds = self.plugin.name, self.plugin.facts["kinds"]
        got = f"got {getattr(x, 'dtype', type(x).__name__)} {list(getattr(x, 'shape', ()))}"
        images = isinstance(x, np.ndarray) and x.ndim == 4 and x.dtype == np.uint8
        others = isinstance(x, np.ndarray) and x.dtype == np.float32 and x.ndim == (2 if kinds == ("tabular",) else 3)
        if "image" in kinds and not images:
            advice = "for floats in [0, 1] pass (x * 255).round().astype('uint8')"
            raise DataError(f"shift {name!r} takes uint8 images [n h w c] in 0..255; {got}; {advice}")
        if "image" not in kinds and not others:
            wanted = "[n features]" if kinds == ("tabular",) else "[n time channels]"
            raise DataError(f"shift {name!r} takes float32 {wanted}; {got}")
        if min(x.shape) < 1:
            raise DataError(f"shift {name!r} needs at least one example and no empty axis; {got}")
        keys = np.asarray(ids)
        if keys.shape != (len(x),) or keys.dtype.kind not in "iu":
            wanted = f"one integer id an example, shape [{len(x)}]"
            raise DataError(f"shift {name!r} needs {wanted}; got {keys.dtype} {list(keys.shape)}")
        return keys.astype(np.int64)

    def _checked_output(self, part: Array, result: Any, original: Array) -> Array:
        if not isinstance(result, np.ndarray) or result.shape != original.shape or result.dtype != original.dtype:
            got = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else type(result).__name__
            raise PluginViolation(
                f"shift {self.plugin.name!r} returned {got}; expected {original.dtype} {list(original.shape)}"
            )
        if result.dtype.kind == "f" and "tabular" not in self.plugin.facts["kinds"] and not np.isfinite(result).all():
            raise PluginViolation(f"shift {self.plugin.name!r} returned values that are not finite")
        return result


def checked(plugin: Plugin, params: Mapping[str, Any]) -> dict[str, Any]:
    """Typed parameters of a shift with all defaults filled in; any that does not fit is a `UsageError`."""
    from pydantic import ValidationError

    known = [p.name for p in plugin.parameters]
    for name in params:
        if name not in known:
            raise UsageError(f"shift {plugin.name!r} has no parameter {name!r}; {nearest(name, known)}")
    sets = next(
        (p.annotation.__args__ for p in plugin.parameters if p.name == "params" and hasattr(p.annotation, "__args__")),
        None,
    )
    if sets and "params" in params and params["params"] not in sets:
        raise UsageError(
            f"shift {plugin.name!r}: unknown parameter set {params['params']!r}; {nearest(str(params['params']), sets)}"
        )
    try:
        typed = plugin.validate(params)
    except ValidationError as error:
        declared: dict[str | int, Any] = {p.name: p.annotation for p in plugin.parameters}
        wrong = [
            f"{e['loc'][0]}: {misfit(declared.get(e['loc'][0], Any), e['input']) or e['msg']}" for e in error.errors()
        ]
        raise UsageError(f"shift {plugin.name!r}: {'; '.join(wrong)}") from None
    severity = typed.get("severity", 0)
    if isinstance(severity, (int, float)) and not (math.isfinite(severity) and 0 <= severity <= STRONGEST):
        raise UsageError(f"shift {plugin.name!r}: severity must lie in [0, 5] (0 is the identity), got {severity}")
    return typed


def chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis that hold about `CHUNK` values each, never less than one example.

    >>> list(chunks((5, 512, 512, 1)))[:2]
    [slice(0, 1, None), slice(1, 2, None)]
    """
    step = max(1, CHUNK // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def _accepts(target: Any, name: str) -> bool:
    return name in inspect.signature(target).parameters


def _required(target: Any, name: str) -> bool:
    """Whether it has a parameter of this name that has no default."""
    found = inspect.signature(target).parameters.get(name)
    return found is not None and found.default is found.empty

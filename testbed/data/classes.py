"""Some classes or one part of a data set: kept classes as the in-distribution set, held-out ones as an OOD set.

    data: [{use: only-classes, of: mnist5k, classes: [0, 1, 2, 3, 4, 5, 6, 7]}]
    ood:  [{use: held-out, of: mnist5k, classes: [8, 9], group: near}]

Ids stay those of the whole set. `of` is the name of an installed data set, or a mapping `{use: NAME, ...}` with its
parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from testbed import plugins
from testbed.data.base import check_part, fingerprint
from testbed.errors import UsageError
from testbed.parameters import Checked, CountOrNone
from testbed.types import Examples, Spec


@dataclass(frozen=True)
class OnlyClasses(Checked):
    """The examples of `classes`, relabelled 0, 1, ... in the order given."""

    of: str | dict[str, Any]
    classes: tuple[CountOrNone, ...]

    version: ClassVar[int] = 1

    @cached_property
    def whole(self) -> Any:
        """The data set that classes are taken from."""
        return build(self.of)

    @property
    def grouped(self) -> bool:
        """Whether the examples have groups."""
        return bool(getattr(self.whole, "grouped", False))

    def sizes(self) -> dict[str, int]:
        return {part: int(np.isin(self.whole.load(part).y, self.classes).sum()) for part in self.whole.sizes()}

    def spec(self) -> Spec:
        whole: Spec = self.whole.spec()
        if bad := [c for c in self.classes if not 0 <= c < whole.classes]:
            raise UsageError(f"classes: {bad} are not among the {whole.classes} classes of {self.of!r}")
        if len(set(self.classes)) < len(self.classes):
            raise UsageError(f"classes: {list(self.classes)} names a class twice")
        names = tuple(whole.class_names[c] for c in self.classes) if whole.class_names else ()
        return replace(whole, classes=len(self.classes), class_names=names)

    def files(self) -> tuple[Path, ...]:
        return tuple(self.whole.files())

    def identity(self) -> dict[str, Any]:
        return {key: value for key, value in fingerprint(self.whole).items() if key != "files"}

    def load(self, part: str) -> Examples:
        spec = self.spec()
        whole: Examples = self.whole.load(part)
        kept = whole.take(np.isin(whole.y, self.classes))
        place = np.full(self.whole.spec().classes, -1, dtype=np.int64)
        place[list(self.classes)] = np.arange(len(self.classes))
        return replace(kept, y=place[kept.y], spec=spec)


@dataclass(frozen=True)
class HeldOut(OnlyClasses):
    """The examples of `classes` as an OOD set: no labels."""

    def load(self, part: str) -> Examples:
        kept = super().load(part)
        return replace(kept, y=np.full(len(kept), -1, dtype=np.int64))


@dataclass(frozen=True)
class OnlyPart(Checked):
    """One part of a data set as a set of its own, so that all splits are drawn from it.

    For networks that have seen the whole training set: `{use: only-part, of: cifar10, part: test, calibration: 400}`.

    >>> OnlyPart("digits", "all").sizes()
    {'all': 1797}
    """

    of: str | dict[str, Any]
    part: str

    version: ClassVar[int] = 1

    @cached_property
    def whole(self) -> Any:
        """The data set that the part is taken from."""
        return build(self.of)

    @property
    def grouped(self) -> bool:
        """Whether the examples have groups."""
        return bool(getattr(self.whole, "grouped", False))

    def sizes(self) -> dict[str, int]:
        sizes = dict(self.whole.sizes())
        check_part(self.part, sizes, str(self.of))
        return {self.part: sizes[self.part]}

    def spec(self) -> Spec:
        spec: Spec = self.whole.spec()
        return spec

    def files(self) -> tuple[Path, ...]:
        return tuple(self.whole.files())

    def identity(self) -> dict[str, Any]:
        return {key: value for key, value in fingerprint(self.whole).items() if key != "files"}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), str(self.of))
        examples: Examples = self.whole.load(part)
        return examples


def build(of: str | dict[str, Any]) -> Any:
    """The data set that a name, or a mapping `{use: NAME, ...}`, stands for."""
    params = dict(of) if isinstance(of, dict) else {"use": of}
    if "use" not in params:
        raise UsageError(f"of: expected the name of a data set, or a mapping with `use`, got {of!r}")
    plugin = plugins.read("dataset", params.pop("use"))
    return plugin.build(**plugin.validate(params))

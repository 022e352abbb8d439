"""Some classes of a data set: the kept ones as the in-distribution set, the held-out ones as an OOD set.

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
from testbed.data.base import fingerprint
from testbed.errors import UsageError
from testbed.types import Examples, Spec


@dataclass(frozen=True)
class OnlyClasses:
    """The examples of `classes`, relabelled 0, 1, ... in the order given."""

    of: str | dict[str, Any]
    classes: tuple[int, ...]

    version: ClassVar[int] = 1

    @cached_property
    def whole(self) -> Any:
        """The data set that classes are taken from."""
        params = dict(self.of) if isinstance(self.of, dict) else {"use": self.of}
        plugin = plugins.read("dataset", params.pop("use"))
        return plugin.build(**plugin.validate(params))

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

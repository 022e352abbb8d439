"""A second data set with the same labels as a shift: CIFAR-10.1 for CIFAR-10, ImageNet-R for ImageNet, a re-coded copy.

    conditions: [{shift: {use: second-set, of: cifar10-jpeg}, name: jpeg copy}]

The examples are the second set's own, brought to the size and channels of the first. Its labels become those of the
first by class name where both have names, else by `classes`, else they must be as many. A set with a part of the
classes keeps all outputs of the model; `subset_accuracy` takes the decision among the classes that are there, as
ImageNet-R and -A do, and `accuracy` among all, as ImageNet-V2 and CIFAR-10.1 do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from testbed.data.adapt import adapt
from testbed.data.base import fingerprint
from testbed.data.classes import build
from testbed.data.splits import materialise, whole
from testbed.errors import DataError, UsageError
from testbed.parameters import Checked, Count, CountOrNone
from testbed.seeding import Rng
from testbed.types import Examples, Ints, Paper, Spec


@dataclass(frozen=True)
class SecondSet(Checked):
    """Another data set in place of the given one.

    of       name of a data set, or a mapping `{use: NAME, ...}` with its parameters; its test part is taken
    classes  for each class of the second set the class of the first; needed where names do not tell
    same     only the examples whose ids are in the given set: for a copy of the same images, so that both are paired
    limit    at most this many examples, at random by the grid's seed
    """

    of: str | dict[str, Any]
    classes: tuple[CountOrNone, ...] = ()
    same: bool = False
    limit: Count | None = None

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image", "tabular", "series")
    level: ClassVar[str] = "replace"
    reference: ClassVar[Paper] = Paper(
        "Do ImageNet Classifiers Generalize to ImageNet?",
        "Recht, B., Roelofs, R., Schmidt, L. and Shankar, V.",
        2019,
        "ICML",
        "1902.10811",
    )

    @cached_property
    def whole(self) -> Any:
        """The second data set."""
        return build(self.of)

    def files(self) -> tuple[Path, ...]:
        return tuple(self.whole.files())

    def identity(self) -> dict[str, Any]:
        return {key: value for key, value in fingerprint(self.whole).items() if key != "files"}

    def mapping(self, first: Spec) -> Ints:
        """For each class of the second set the class of the first, int64 `[k]`. Raises UsageError where none is known.

        >>> digits = Spec("image", (28, 28, 1), 3, class_names=("0", "1", "2"))
        >>> SecondSet("digits", classes=tuple([0, 1, 2] + [0] * 7)).mapping(digits)[:4].tolist()
        [0, 1, 2, 0]
        """
        second: Spec = self.whole.spec()
        if second.kind != first.kind:
            raise UsageError(f"second_set: {self.of!r} holds {second.kind} data, the first set {first.kind} data")
        if first.kind != "image" and second.shape != first.shape:
            raise UsageError(f"second_set: {self.of!r} has shape {list(second.shape)}, not {list(first.shape)}")
        if self.classes:
            if len(self.classes) != second.classes or not all(0 <= c < first.classes for c in self.classes):
                wanted = f"{second.classes} of them, each in 0..{first.classes - 1}"
                raise UsageError(f"second_set: classes: expected {wanted}; got {list(self.classes)}")
            return np.array(self.classes, np.int64)
        if second.class_names and first.class_names:
            unknown = [name for name in second.class_names if name not in first.class_names]
            if unknown:
                raise UsageError(f"second_set: the first set has no class {unknown[0]!r}; give `classes`")
            return np.array([first.class_names.index(name) for name in second.class_names], np.int64)
        if second.classes != first.classes:
            raise UsageError(
                f"second_set: {self.of!r} has {second.classes} classes, the first set {first.classes}; give `classes`"
            )
        return np.arange(first.classes, dtype=np.int64)

    def __call__(self, examples: Examples, *, rng: Rng) -> Examples:
        """The second set, in id order."""
        to = self.mapping(examples.spec)
        dataset = self.whole
        drawn = materialise(dataset, whole(dataset.sizes(), None if self.same else self.limit), rng.seed)
        if self.same:
            drawn = drawn.take(np.isin(drawn.ids, examples.ids))
            drawn = drawn if self.limit is None else drawn.take(slice(self.limit))
        if not len(drawn):
            raise DataError(f"second_set: {self.of!r} shares no example id with the first set; leave `same` out")
        if (drawn.y < 0).any():
            raise DataError(f"second_set: {int((drawn.y < 0).sum())} examples of {self.of!r} have no label")
        image = examples.spec.kind == "image" and drawn.spec.shape != examples.spec.shape
        x = adapt(drawn.x, drawn.spec, examples.spec) if image else drawn.x
        return replace(drawn, x=x, y=to[drawn.y], spec=examples.spec)

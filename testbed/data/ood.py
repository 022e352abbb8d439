"""Out-of-distribution sets beside an in-distribution one: generated, made from it, or any other data set.

Whatever it is made from, an OOD set comes out with the shape, layout and dtype of the in-distribution set and with
labels -1, by a rule that `rule` puts into words for the recipe and the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.data import splits
from testbed.data.adapt import adapt
from testbed.data.adapt import rule as adapt_rule
from testbed.errors import UsageError
from testbed.seeding import Rng
from testbed.types import Examples, Ints, Spec


def source(dataset: Any) -> str:
    """What an OOD set is made from: "spec" (random numbers), "id" (the in-distribution test examples) or "own" data."""
    return str(getattr(dataset, "source", "own"))


def rule(dataset: Any, like: Spec) -> str:
    """In words, how the set gets the shape of `like`.

    >>> from testbed.data.packaged import Digits, Mnist5k
    >>> rule(Digits(), Mnist5k().spec())
    '8x8 to 28x28 by antialiased bilinear'
    """
    kind = source(dataset)
    if kind == "spec":
        return f"drawn as {'x'.join(map(str, like.shape))}"
    if kind == "id":
        return "made from the in-distribution test examples"
    spec = dataset.spec()
    if like.kind == "image":
        return adapt_rule(spec, like)
    if (spec.kind, spec.shape) != (like.kind, like.shape):
        raise UsageError(
            f"an OOD set of {spec.kind} {list(spec.shape)} cannot stand beside {like.kind} {list(like.shape)}"
        )
    return "as is"


def stream(
    dataset: Any, *, like: Spec, seed: int, size: int, limit: int | None = None, given: Iterable[Examples] | None = None
) -> Iterator[Examples]:
    """The OOD set for an in-distribution set of spec `like`, in id order, at most `limit` examples, `size` at a time.

    Of a set's own data the `limit` are drawn at random. `given` are the shards of the in-distribution test set, needed
    where `source(dataset)` is "id". What comes does not depend on `size`, nor on how `given` is cut.
    """
    kind, name, draws = source(dataset), type(dataset).__name__, getattr(dataset, "draws", 1)
    if kind == "id":
        if given is None:
            raise UsageError(f"{name} is made from the in-distribution examples, and none were given")
        for part in _front(given, limit):
            x = dataset.derive(part, Rng(name, draws, seed, part.ids))
            yield replace(part, x=x, y=unlabelled(len(part)))
    elif kind == "spec":
        count = dataset.n if limit is None else min(dataset.n, limit)
        for start in range(0, count, size):
            ids = np.arange(start, min(start + size, count), dtype=np.int64)
            yield Examples(dataset.draw(like, Rng(name, draws, seed, ids)), unlabelled(len(ids)), ids, like)
    else:
        resized = like.kind == "image" and rule(dataset, like) != "as is"
        for part in splits.stream(dataset, splits.whole(dataset.sizes(), limit), seed, size):
            x = adapt(part.x, part.spec, like) if resized else part.x
            yield replace(part, x=x, y=unlabelled(len(part)), spec=like)


def unlabelled(n: int) -> Ints:
    """`n` labels that say there is none."""
    return np.full(n, -1, dtype=np.int64)


def _front(parts: Iterable[Examples], limit: int | None) -> Iterator[Examples]:
    """The first `limit` examples of a set in parts."""
    left = limit
    for part in parts:
        part = part if left is None else part.take(slice(left))
        if len(part):
            yield part
        left = None if left is None else left - len(part)
        if left == 0:
            return

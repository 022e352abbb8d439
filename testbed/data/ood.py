"""Out-of-distribution sets beside an in-distribution one: generated, made from it, or any other data set.

Whatever it is made from, an OOD set comes out with the shape, layout and dtype of the in-distribution set and with
labels -1, by a rule that `rule` puts into words for the recipe and the report.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from testbed.data.adapt import adapt
from testbed.data.adapt import rule as adapt_rule
from testbed.data.splits import materialise, whole
from testbed.errors import UsageError
from testbed.seeding import Rng
from testbed.types import Examples, Spec


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


def examples(
    dataset: Any, *, like: Spec, seed: int, limit: int | None = None, given: Examples | None = None
) -> Examples:
    """The OOD set for an in-distribution set of spec `like`, in id order, at most `limit` examples at random.

    `given` are the in-distribution test examples, needed where `source(dataset)` is "id".
    """
    kind, name = source(dataset), type(dataset).__name__
    if kind == "id":
        if given is None:
            raise UsageError(f"{name} is made from the in-distribution examples, and none were given")
        rng = Rng(name, dataset.version, seed, given.ids)
        made = replace(given, x=dataset.derive(given, rng), y=np.full(len(given), -1, dtype=np.int64))
        return made if limit is None else made.take(slice(limit))
    if kind == "spec":
        count = dataset.n if limit is None else min(dataset.n, limit)
        ids = np.arange(count, dtype=np.int64)
        x = dataset.draw(like, Rng(name, dataset.version, seed, ids))
        return Examples(x, np.full(count, -1, dtype=np.int64), ids, like)
    drawn = materialise(dataset, whole(dataset.sizes(), limit), seed)
    x = adapt(drawn.x, drawn.spec, like) if like.kind == "image" and rule(dataset, like) != "as is" else drawn.x
    return Examples(x, np.full(len(drawn), -1, dtype=np.int64), drawn.ids, like, drawn.groups, drawn.group_names)

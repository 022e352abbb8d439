"""A random subset of a bank that depends on the example ids and the seed, not on the order of the rows."""

from __future__ import annotations

import numpy as np

from testbed.seeding import Rng
from testbed.types import Ints, Outputs


def random_rows(operation: str, seed: int, outputs: Outputs, count: int) -> Ints:
    """`count` positions, ascending by id: the examples with the smallest keyed draws (no ids: positions).

    >>> random_rows("example", 0, Outputs(logits=np.zeros((5, 2))), 2).tolist()
    [1, 4]
    """
    ids = np.arange(len(outputs)) if outputs.ids is None else np.asarray(outputs.ids)
    draws = Rng(operation, 1, seed, ids).uniform(name="bank")
    chosen = np.lexsort((ids, draws))[:count]
    return np.asarray(chosen[np.argsort(ids[chosen], kind="stable")], dtype=np.int64)

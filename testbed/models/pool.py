"""The training examples of a set that lies in pieces, as one set of which only the rows of a batch are read.

The pieces are the shards of a split in the store. On a local store they are memory maps, so the pixels of a set are
read from disk when a batch asks for them, and a set larger than memory can be trained on. Labels are kept in memory:
eight bytes an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from testbed.types import Array, Examples


class Pool:
    """The examples of `pieces`, one behind the other.

    spec  of the first piece; all pieces have it
    y     int64 `[n]`

    >>> from testbed.data.packaged import Digits
    >>> whole = Digits().load("all")
    >>> pool = Pool([whole.take(slice(100)), whole.take(slice(100, 300))])
    >>> bool((pool.x([7, 250, 99]) == whole.x[[7, 250, 99]]).all()), len(pool)
    (True, 300)
    """

    def __init__(self, pieces: Sequence[Examples]) -> None:
        self.spec = pieces[0].spec
        self.y = np.concatenate([piece.y for piece in pieces])
        self._x = [piece.x for piece in pieces]
        self._ends = np.cumsum([len(x) for x in self._x])

    def __len__(self) -> int:
        return len(self.y)

    def x(self, rows: Array | Sequence[int]) -> Array:
        """The examples at these positions, in this order, as a new array `[len(rows) ...]`."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(self._x) == 1:
            return np.asarray(self._x[0][rows])
        piece = np.searchsorted(self._ends, rows, side="right")
        found = np.empty((len(rows), *self._x[0].shape[1:]), dtype=self._x[0].dtype)
        for number in np.unique(piece):
            here, x = piece == number, self._x[number]
            found[here] = x[rows[here] - (self._ends[number] - len(x))]
        return found

    def content(self) -> Iterator[memoryview]:
        """The bytes of all examples, then of all labels, for a digest."""
        for array in (*self._x, self.y):
            yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data

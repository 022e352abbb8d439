"""One pass over bank-query similarities on the unit sphere, shared by every detector that needs them.

A pass goes through the query in blocks of rows. Each block makes one float32 product with the whole bank, and hands it
to all collectors (`testbed.detection.collect`): k nearest, guided mean, relation sum, coverage. A float32 product of
unit vectors of width d is off by at most `slack(d)`, so whatever a collector decides within that of a threshold it
decides again in float64: the results are those of a float64 search of everything.

`answers` runs the passes that a list of needs asks for, one a pair of (bank, query), and remembers the results by
content. So detectors that were announced together (`share`) find theirs when they score; one that was not runs its
own pass. The memory is a small per-process cache of results `[n]` or `[n, k]`, never of similarities.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from blake3 import blake3

from testbed.detection.numeric import unit_rows
from testbed.types import Array, Float64, Ints

#: Bytes of similarities in a block of query rows (of which there are at most 256), and of results that are remembered.
BLOCK_BYTES: Final = 64 * 2**20
REMEMBERED: Final = 64 * 2**20

_ANSWERS: OrderedDict[str, Array] = OrderedDict()


class Side(NamedTuple):
    """Unit rows of a bank or a query: float64, the same in float32, and the positions of rows that are zero."""

    wide: Float64
    narrow: Array
    empty: Ints


class Collector(Protocol):
    """Takes the similarities block by block and ends with one array, a row an example."""

    def key(self) -> str:
        """What decides the result besides bank and query; arrays by their `fingerprint`."""

    def take(self, rows: slice, similarity: Array, bank: Side, query: Float64) -> Array:
        """The results `[m ...]` of a block: float32 similarities `[m N]`, float64 unit rows of the query `[m d]`."""


class Need(NamedTuple):
    """What a detector wants to know: raw features of bank `[N d]` and query `[n d]`, and what to collect."""

    bank: Array
    query: Array
    collector: Collector


class Searching(Protocol):
    """A fitted detector that can announce its need."""

    def need(self, outputs: Any) -> Need:
        """What scoring these outputs will ask for."""


def slack(width: int) -> float:
    """A bound on |float32 product - exact product| of two unit vectors of this width.

    Rounding both vectors to float32 costs 2 u, the sum of `width` products at most width u (u = 2^-24).
    """
    return (width + 4.0) * 2.0**-24


def side(features: Array) -> Side:
    """Unit rows of raw features; rows of zeros stay zero."""
    wide = unit_rows(features)
    return Side(wide, wide.astype(np.float32), np.flatnonzero(~wide.any(axis=1)).astype(np.int64))


def answers(needs: Sequence[Need]) -> list[Array]:
    """The results of the needs, in order; needs of one bank and query share a pass."""
    named = [(fingerprint(n.bank), fingerprint(n.query), n.collector.key()) for n in needs]
    keys = ["/".join(name) for name in named]
    found = {key: _ANSWERS[key] for key in keys if key in _ANSWERS}
    missing: dict[tuple[str, str], dict[str, Need]] = {}
    for need, name, key in zip(needs, named, keys, strict=True):
        if key not in found:
            missing.setdefault(name[:2], {})[key] = need
    for group in missing.values():
        first = next(iter(group.values()))
        results = run_pass(first.bank, first.query, [n.collector for n in group.values()])
        for key, result in zip(group, results, strict=True):
            found[key] = _remember(key, result)
    return [found[key] for key in keys]


def share(detectors: Sequence[object], outputs: Any) -> None:
    """Run the passes of all these fitted detectors at once, so that each finds its result when it scores."""
    answers([d.need(outputs) for d in detectors if hasattr(d, "need")])


def forget() -> None:
    """Drop all remembered results."""
    _ANSWERS.clear()


def run_pass(bank: Array, query: Array, collectors: Sequence[Collector]) -> list[Array]:
    """One sweep over the query; the result of each collector."""
    known, asked = side(bank), side(query)
    parts: list[list[Array]] = [[] for _ in collectors]
    size = max(1, min(256, BLOCK_BYTES // (4 * len(known.wide))))
    columns = np.ascontiguousarray(known.narrow.T)
    product = np.empty((min(size, len(asked.wide)), len(known.wide)), dtype=np.float32)
    for start in range(0, len(asked.wide), size):
        rows = slice(start, min(start + size, len(asked.wide)))
        similarity = np.matmul(asked.narrow[rows], columns, out=product[: rows.stop - start])
        for part, collector in zip(parts, collectors, strict=True):
            part.append(collector.take(rows, similarity, known, asked.wide[rows]))
    return [np.concatenate(part) for part in parts]


def fingerprint(array: Array) -> str:
    """A digest of an array's dtype, shape and values, made without a copy where it is contiguous.

    >>> fingerprint(np.zeros(2)) == fingerprint(np.zeros((2, 1)))
    False
    """
    flat = np.ascontiguousarray(array)
    digest = blake3(f"{flat.dtype.str}{flat.shape}".encode())
    digest.update(flat.reshape(-1).view(np.uint8).data)
    return digest.hexdigest(16)


def _remember(key: str, result: Array) -> Array:
    result.setflags(write=False)
    _ANSWERS[key] = result
    while sum(a.nbytes for a in _ANSWERS.values()) > REMEMBERED and len(_ANSWERS) > 1:
        _ANSWERS.popitem(last=False)
    return result

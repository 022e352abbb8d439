"""Random numbers keyed per example, so that no result depends on batch, shard, order or worker.

Every draw is a function of (operation, its `draws`, seed, example id, draw name) and of nothing else: not of eps,
severity, batch, shard or job digest. So the points of a curve share their draws, a subset has the draws it has in the
whole, and a job cut into shards gives the bits of the uncut one. Nor of the version, which is in the digest alone:
a version can rise and leave the numbers as they are.

Each (key, example) seeds a Philox-4x64 counter generator (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3") with a 128-bit BLAKE3 key. Cost is about 10 us an example and a draw, plus numpy's rate a value; so draw one
block an example (a row per step) rather than one number a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from blake3 import blake3
from numpy.typing import ArrayLike, NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


class Rng:
    """Draws for the examples `ids`, one row an example.

    `draws` is the operation's: another number gives other draws. `name` tells the draws of one operation apart. Without
    one, they are numbered in the order they are made on this object; name them wherever the number of draws may differ
    between examples.

    >>> rng = Rng("fog", 1, seed=0, ids=[7, 8, 9])
    >>> whole = rng.normal((2,), name="haze")
    >>> part = rng.take([2]).normal((2,), name="haze")
    >>> bool((whole[2] == part[0]).all()), whole.shape, whole.dtype.name
    (True, (3, 2), 'float32')
    """

    def __init__(self, operation: str, draws: int, seed: int, ids: ArrayLike) -> None:
        self.operation, self.draws, self.seed = operation, int(draws), int(seed)
        self.ids: NDArray[np.int64] = np.asarray(ids, dtype=np.int64).reshape(-1)
        self._unnamed = 0

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: ArrayLike) -> Rng:
        """The generator of a subset: `rows` are positions (or a boolean mask), with the same unnamed-draw count."""
        rng = Rng(self.operation, self.draws, self.seed, self.ids[np.asarray(rows)])
        rng._unnamed = self._unnamed
        return rng

    def uniform(
        self, shape: Sequence[int] | int = (), low: float = 0.0, high: float = 1.0, *, name: str | None = None
    ) -> NDArray[np.float32]:
        """float32 `[n, *shape]`, uniform on [low, high)."""
        values = self._fill(shape, name, np.float32, lambda g, out: g.random(out=out, dtype=np.float32))
        return (
            values
            if (low, high) == (0.0, 1.0)
            else (values * np.float32(high - low) + np.float32(low)).astype(np.float32)
        )

    def normal(self, shape: Sequence[int] | int = (), *, name: str | None = None) -> NDArray[np.float32]:
        """float32 `[n, *shape]`, standard normal."""
        return self._fill(shape, name, np.float32, lambda g, out: g.standard_normal(out=out, dtype=np.float32))

    def integers(
        self, low: int, high: int, shape: Sequence[int] | int = (), *, name: str | None = None
    ) -> NDArray[np.int64]:
        """int64 `[n, *shape]`, uniform on low..high-1."""

        def fill(generator: np.random.Generator, out: NDArray[Any]) -> None:
            out[...] = generator.integers(low, high, size=out.shape)

        return self._fill(shape, name, np.int64, fill)

    def generators(self, *, name: str | None = None) -> list[np.random.Generator]:
        """One numpy generator an example, for draws of another law (Poisson, permutations).

        >>> [int(g.poisson(60)) for g in Rng("shot", 1, seed=0, ids=[0, 1]).generators(name="count")]
        [63, 66]
        """
        return [np.random.Generator(np.random.Philox(key=key)) for key in self._keys(self._name(name))]

    def _name(self, name: str | None) -> str:
        if name is not None:
            return name
        self._unnamed += 1
        return f"#{self._unnamed}"

    def _keys(self, name: str) -> NDArray[np.uint64]:
        """uint64 `[n, 2]`: one 128-bit Philox key an example."""
        prefix = blake3(f"{self.operation}\0{self.draws}\0{self.seed}\0{name}\0".encode())
        raw = bytearray()
        for row in self.ids.tolist():
            one = prefix.copy()
            one.update(row.to_bytes(8, "little", signed=True))
            raw += one.digest(16)
        return np.frombuffer(bytes(raw), dtype="<u8").reshape(-1, 2)

    def _fill(
        self,
        shape: Sequence[int] | int,
        name: str | None,
        dtype: type[Scalar],
        fill: Callable[[np.random.Generator, NDArray[Any]], Any],
    ) -> NDArray[Scalar]:
        dims = (shape,) if isinstance(shape, int) else tuple(shape)
        out = np.empty((len(self.ids), *dims), dtype=dtype)
        flat = out.reshape(len(self.ids), -1)
        bits = np.random.Philox(key=[0, 0])
        generator = np.random.Generator(bits)
        fresh: Any = {
            "bit_generator": "Philox",
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        counter = np.zeros(4, np.uint64)
        for row, key in zip(flat, self._keys(self._name(name)), strict=True):
            bits.state = fresh | {"state": {"counter": counter, "key": key}}
            fill(generator, row)
        return out


def shard_seed(operation: str, draws: int | str, seed: int, ids: ArrayLike) -> int:
    """The 63-bit seed of a batch-coupled plug-in on one fixed shard: a function of the shard's example ids."""
    key = blake3(f"{operation}\0{draws}\0{seed}\0shard\0".encode())
    key.update(np.ascontiguousarray(np.asarray(ids, dtype="<i8")).tobytes())
    return int.from_bytes(key.digest(8), "little") >> 1

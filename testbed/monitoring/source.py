"""Which example each step of a stream shows.

The examples of a set are dealt in random order, each once, then all of them again in another order. Conditions with
the same examples are dealt from one deck, so that nothing comes twice before everything came once, whatever condition
it is under. Only the order of one pass is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from testbed.seeding import shard_seed
from testbed.types import Array, Ints, Outputs


class Source(Protocol):
    """The outputs of one model under one condition, read row by row."""

    ids: Ints

    def take(self, rows: Ints, features: bool) -> Outputs:
        """The outputs at these positions."""


class Deck:
    """The order in which the examples `ids` are shown, pass after pass.

    >>> deck = Deck(np.arange(4), seed=0)
    >>> sorted(deck.deal(4).tolist()), deck.deal(2).shape, deck.passes
    ([0, 1, 2, 3], (2,), 2)
    """

    def __init__(self, ids: Ints, seed: int) -> None:
        self.ids, self.seed, self.passes, self._at = ids, seed, 0, len(ids)
        self._order: Ints = np.empty(0, np.int64)

    def deal(self, count: int) -> Ints:
        """Positions of the next `count` examples, int64 `[count]`."""
        dealt: list[Array] = []
        while count:
            if self._at == len(self.ids):
                key = shard_seed(f"deck {self.passes}", 1, self.seed, self.ids)
                self._order = np.random.Generator(np.random.Philox(key=key)).permutation(len(self.ids))
                self._at, self.passes = 0, self.passes + 1
            part = self._order[self._at : self._at + count]
            dealt.append(part)
            self._at, count = self._at + len(part), count - len(part)
        return np.concatenate(dealt) if dealt else np.empty(0, np.int64)


class Dealer:
    """The outputs of each step of a stream over several sources."""

    def __init__(self, sources: Sequence[Source], seed: int, features: bool) -> None:
        self.sources, self.features = sources, features
        decks: dict[bytes, Deck] = {}
        self._decks = [decks.setdefault(np.asarray(s.ids).tobytes(), Deck(np.asarray(s.ids), seed)) for s in sources]

    @property
    def passes(self) -> int:
        """How often the deck used most was begun: above 1, examples have come again."""
        return max(deck.passes for deck in self._decks)

    def take(self, condition: Ints) -> Outputs:
        """The outputs of the next steps, whose conditions are `condition` `[n]`."""
        rows = np.empty(len(condition), np.int64)
        decks = {id(deck): deck for deck in self._decks}
        of = np.array([id(deck) for deck in self._decks], dtype=np.int64)[condition]
        for key, deck in decks.items():
            mine = of == key
            rows[mine] = deck.deal(int(mine.sum()))
        parts: dict[int, Outputs] = {}
        for one in np.unique(condition).tolist():
            mine = rows[condition == one]
            parts[one] = replace(self.sources[one].take(mine, self.features), ids=self.sources[one].ids[mine])
        return merged(parts, condition)


def merged(parts: dict[int, Outputs], condition: Ints) -> Outputs:
    """Outputs by condition as one, in the order of the steps."""

    def column(read: Callable[[Outputs], Any]) -> Any:
        found = {one: read(part) for one, part in parts.items()}
        first = next(iter(found.values()))
        if first is None:
            return None
        out = np.empty((len(condition), *first.shape[1:]), first.dtype)
        for one, values in found.items():
            out[condition == one] = values
        return out

    return Outputs(
        column(lambda o: o.logits), column(lambda o: o.features), column(lambda o: o.labels), column(lambda o: o.ids)
    )

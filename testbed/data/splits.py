"""Splits: which examples train, which calibrate, which test. They never overlap, by construction.

Each part of a data set has one random order, a function of (seed, part, size). A split is a stretch of that order:
test from the front, calibration from the back, training in between. So
- two splits of one part cannot share an example;
- `limit` keeps the front of the test stretch: smaller limits are subsets of larger ones, and the training and
  calibration examples stay what they were;
- another number of test examples leaves the calibration examples what they were, and the other way round.

Which part a split is drawn from: test from "test", else "validation", else the only part; calibration from
"calibration" or "validation" where free, else from the part of train; train from "train", else the only part.
Numbers: a split that has a part to itself takes all of it. Where splits share, train (or test, where train has another
part) takes the rest and each other one a fifth, at most 5,000, where no number is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from blake3 import blake3

from testbed.errors import DataError, UsageError
from testbed.types import Examples, Ints

VERSION: Final = 1
SPLITS: Final = ("train", "calibration", "test")
_VALIDATION: Final = ("validation", "val")
_SHARE, _MOST = 5, 5000


@dataclass(frozen=True)
class Draw:
    """`count` examples from `start` on in the random order of a part of `size` examples."""

    part: str
    size: int
    start: int
    count: int


def split_plan(
    sizes: Mapping[str, int],
    *,
    train: int | None = None,
    calibration: int | None = None,
    test: int | None = None,
    limit: int | None = None,
    parts: Mapping[str, str] | None = None,
) -> dict[str, Draw]:
    """The draws of the three splits; `parts` overrides which part a split comes from, `limit` caps the test split.

    Raises UsageError where the numbers asked for are not there.

    >>> {name: (d.start, d.count) for name, d in split_plan({"all": 5000}, calibration=1000, test=1000).items()}
    {'train': (1000, 3000), 'calibration': (4000, 1000), 'test': (0, 1000)}
    >>> split_plan({"train": 60000, "test": 10000}, limit=500)["test"]
    Draw(part='test', size=10000, start=0, count=500)
    """
    wanted = {"train": train, "calibration": calibration, "test": test}
    home = _homes(sizes, parts or {})
    for name, value in {**wanted, "limit": limit}.items():
        if value is not None and value < 0:
            raise UsageError(f"{name}: expected a number of examples >= 0, got {value}")
    counts: dict[str, int] = {}
    for part in sorted(set(home.values())):
        members = [split for split in SPLITS if home[split] == part]
        counts |= _counts(part, sizes[part], {split: wanted[split] for split in members})
    draws = {}
    for split in SPLITS:
        size, count = sizes[home[split]], counts[split]
        before = counts["test"] if split == "train" and home["test"] == home["train"] else 0
        start = size - count if split == "calibration" else before
        draws[split] = Draw(home[split], size, start, count)
    if limit is not None:
        draws["test"] = replace(draws["test"], count=min(limit, draws["test"].count))
    return draws


def whole(sizes: Mapping[str, int], limit: int | None = None) -> Draw:
    """All of a set's test part (or of its only part), or `limit` of it at random: how an OOD set is drawn.

    >>> whole({"all": 200}, limit=50)
    Draw(part='all', size=200, start=0, count=50)
    """
    part = _homes(sizes, {})["test"]
    return Draw(part, sizes[part], 0, sizes[part] if limit is None else min(limit, sizes[part]))


def order(part: str, size: int, seed: int) -> Ints:
    """The random order of a part: int64 `[size]`, the same on every machine and numpy version."""
    key = np.frombuffer(blake3(f"split\0{VERSION}\0{seed}\0{part}\0{size}".encode()).digest(16), dtype="<u8")
    return np.argsort(np.random.Philox(key=key).random_raw(size), kind="stable").astype(np.int64)


def rows(draw: Draw, seed: int) -> Ints:
    """Positions in the part that a draw takes, ascending: int64 `[count]`.

    >>> rows(Draw("all", 10, 0, 3), seed=0).tolist()
    [5, 7, 8]
    """
    if draw.count == draw.size:
        return np.arange(draw.size, dtype=np.int64)
    return np.sort(order(draw.part, draw.size, seed)[draw.start : draw.start + draw.count])


def materialise(dataset: Any, draw: Draw, seed: int) -> Examples:
    """The examples of a draw, in id order. Raises DataError where the part has not the size it had in the plan."""
    chosen = rows(draw, seed)
    if hasattr(dataset, "load_rows"):
        found = dataset.sizes().get(draw.part)
        examples: Examples = dataset.load_rows(draw.part, chosen)
    else:
        everything: Examples = dataset.load(draw.part)
        found, examples = len(everything), everything.take(chosen) if len(everything) == draw.size else everything
    _check_size(draw, found)
    if len(np.unique(examples.ids)) != len(examples):
        raise DataError(f"part {draw.part!r}: example ids are not unique")
    return examples.take(np.argsort(examples.ids, kind="stable"))


def stream(dataset: Any, draw: Draw, seed: int, size: int) -> Iterator[Examples]:
    """The examples of a draw in id order, at most `size` at a time.

    A set that offers `load_rows` is never in memory as a whole; its ids must then ascend with the positions. Any other
    set is loaded at once and cut. Raises DataError as `materialise` does.
    """
    if not hasattr(dataset, "load_rows"):
        whole_draw = materialise(dataset, draw, seed)
        yield from (whole_draw.take(slice(start, start + size)) for start in range(0, len(whole_draw), size))
        return
    chosen = rows(draw, seed)
    _check_size(draw, dataset.sizes().get(draw.part))
    last, first = np.empty(0, dtype=np.int64), None
    for start in range(0, len(chosen), size):
        part: Examples = dataset.load_rows(draw.part, chosen[start : start + size])
        if (np.diff(np.concatenate([last, part.ids])) <= 0).any():
            raise DataError(f"part {draw.part!r}: ids must be unique and ascend with the positions of load_rows")
        first = first or part
        part = _alike(part, first, draw.part)
        last = part.ids[-1:]
        yield part


def _alike(part: Examples, first: Examples, name: str) -> Examples:
    """A shard in the shape of the first one: grey images among RGB ones are repeated, all else is an error."""
    from testbed.data.adapt import to_channels

    if part.x.shape[1:] == first.x.shape[1:]:
        return replace(part, spec=first.spec)
    if part.x.shape[1:3] == first.x.shape[1:3] and part.x.shape[3:] == (1,) and first.spec.kind == "image":
        return replace(part, x=to_channels(part.x, first.x.shape[3]), spec=first.spec)
    raise DataError(
        f"part {name!r}: the examples from id {part.ids[0]} have the shape {list(part.x.shape[1:])}, the first ones "
        f"{list(first.x.shape[1:])}; set `size` where sizes differ"
    )


def _check_size(draw: Draw, found: int | None) -> None:
    if found != draw.size:
        raise DataError(f"part {draw.part!r} had {draw.size} examples when the plan was made and has {found} now")


def _homes(sizes: Mapping[str, int], override: Mapping[str, str]) -> dict[str, str]:
    """Which part each split is drawn from."""
    if not sizes:
        raise UsageError("the data set names no parts, so no splits can be drawn")
    for split, part in override.items():
        if split not in SPLITS or part not in sizes:
            raise UsageError(
                f"parts: {split}: {part}: expected one of {', '.join(SPLITS)} and one of {', '.join(sizes)}"
            )
    if len(sizes) == 1:
        return dict.fromkeys(SPLITS, next(iter(sizes)))
    held = [p for p in ("calibration", *_VALIDATION) if p in sizes]
    test = override.get("test") or next((p for p in ("test", *_VALIDATION) if p in sizes), "")
    train = override.get("train") or ("train" if "train" in sizes else "")
    if not test or not train:
        raise UsageError(
            f"the set has the parts {', '.join(sizes)}; "
            "say which are train and test with `parts: {train: ..., test: ...}`"
        )
    calibration = override.get("calibration") or next((p for p in held if p != test), train)
    return {"train": train, "calibration": calibration, "test": test}


def _counts(part: str, size: int, wanted: Mapping[str, int | None]) -> dict[str, int]:
    """How many examples each split that shares `part` gets."""
    rest = next((name for name in ("train", "test") if name in wanted), next(iter(wanted)))
    default = min(_MOST, size // _SHARE)
    counts = {name: default if value is None else value for name, value in wanted.items() if name != rest}
    given, left = wanted[rest], size - sum(counts.values())
    counts[rest] = max(left, 0) if given is None else given
    if sum(counts.values()) > size:
        asked = " + ".join(f"{counts[name]} {name}" for name in SPLITS if name in counts)
        raise UsageError(f"the part {part!r} has {size} examples, but {asked} = {sum(counts.values())} are asked of it")
    return counts

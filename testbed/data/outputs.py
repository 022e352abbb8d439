"""Outputs without a model: what a system gave, as files, for those who have its answers and not the system.

A file holds one system's outputs, one row per example; a folder of files holds several systems on the same examples,
each called by its file's name and paired by id. The layout (docs/data.md has it with examples):

    .npz             .parquet, .csv
    logits [n k]     logits_0 ... or logits_CAT ...  scores before softmax; `given: probs` reads probs instead
    labels [n]       label      whole numbers from 0, or names of classes; -1, an empty name or absent: not known
    ids [n]          id         whole numbers, unique in the file; needed where there are several systems
    split [n]        split      train, calibration, test, or a name of your own; without it all are test examples
    groups [n]       group      whole numbers from 0, or names
    features [n d]   features_0 ...
    classes [k]                 names of the classes; in a table they are the ends of the names of its columns
    head_weight [k d], head_bias [k]     the last linear layer, where detectors read it

    data: [{use: outputs, name: triage, path: exports, given: probs}]
    models: [{use: outputs, system: vendor_a}, {use: outputs, system: vendor_b}]
    ood: [{use: outputs, name: other ward, path: exports_ood, given: probs}]

An example at rest is a row of numbers: logits and features of the first system, of the second, and so on. A model takes
its columns, bit for bit, and all that follows is as after a forward pass. Probabilities are read as log p, p floored at
1e-38. Files are read whole and checked when the plan is made; their bytes are in the digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, Literal, NamedTuple

import numpy as np

from testbed.data.base import check_part, local_path
from testbed.errors import DataError, UsageError, nearest
from testbed.parameters import Checked
from testbed.types import Array, Examples, Floats, Ints, Spec

SUFFIXES: Final = (".csv", ".npz", ".parquet")
SPLITS: Final = ("train", "calibration", "validation", "val", "test")
_FLOOR: Final = 1e-38
_SUM_TOLERANCE: Final = 1e-2
_COLUMNS: Final = {"label": "labels", "id": "ids", "split": "split", "group": "groups"}


class Columns(NamedTuple):
    """Where a system's numbers stand in an example: logits from `start` on, `classes` of them, then its features."""

    start: int
    classes: int
    features: int


@dataclass(frozen=True)
class System:
    """One file, checked: float32 logits `[n k]`, and what stands beside them; rows as in the file."""

    path: Path
    logits: Floats
    labels: Ints
    ids: Ints
    split: tuple[str, ...]
    groups: Ints | None
    group_names: tuple[str, ...]
    features: Floats | None
    class_names: tuple[str, ...]
    head: tuple[Floats, Floats] | None


@dataclass(frozen=True)
class RecordedOutputs(Checked):
    """A file of outputs, or a folder with one a system.

    part   only this part of it: how an OOD set that stands beside the test set in one file is named
    given  what the scores are: "logits", or "probs": probabilities
    """

    path: str
    part: str = ""
    given: Literal["logits", "probs"] = "logits"

    version: ClassVar[int] = 1
    paths: ClassVar[tuple[str, ...]] = ("path",)

    @property
    def grouped(self) -> bool:
        """Whether the examples have groups."""
        return self._first.groups is not None

    def sizes(self) -> dict[str, int]:
        split = self._first.split
        found = {name: split.count(name) for name in dict.fromkeys(split)}
        if self.part:
            check_part(self.part, found, "outputs")
            return {self.part: found[self.part]}
        return found if len(found) == 1 and not set(found) & set(SPLITS) else {"train": 0, **found}

    def spec(self) -> Spec:
        classes = self._first.logits.shape[1]
        names = self._first.class_names
        return Spec("tabular", (self._width,), classes, dtype="float32", layout="f", class_names=names)

    def files(self) -> tuple[Path, ...]:
        path = local_path(self.path, "data set 'outputs'")
        found = [path] if path.is_file() else sorted(one for one in path.iterdir() if one.suffix in SUFFIXES)
        if not found or found[0].suffix not in SUFFIXES:
            raise UsageError(
                f"data set 'outputs': expected {', '.join(SUFFIXES)} or a folder of such files, got {path}"
            )
        return tuple(found)

    def identity(self) -> dict[str, list[str]]:
        """The systems: which one a file is of stands in its name only, and so does how it is read."""
        return {"systems": [path.name for path in self.files()]}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "outputs")
        rows = np.array([name == part for name in self._first.split])
        first, blocks = self._first, []
        for system in self._systems.values():
            blocks += [system.logits[rows]] + ([] if system.features is None else [system.features[rows]])
        groups = None if first.groups is None else first.groups[rows]
        x = np.concatenate(blocks, axis=1)
        return Examples(x, first.labels[rows], first.ids[rows], self.spec(), groups, first.group_names)

    def columns(self) -> dict[str, Columns]:
        """System -> where its numbers stand in an example."""
        found, start = {}, 0
        for name, system in self._systems.items():
            width = 0 if system.features is None else system.features.shape[1]
            found[name] = Columns(start, system.logits.shape[1], width)
            start += sum(found[name][1:])
        return found

    def heads(self) -> dict[str, tuple[Floats, Floats]]:
        """System -> float32 weight `[k d]` and bias `[k]` of its last layer, of those that give them."""
        return {name: one.head for name, one in self._systems.items() if one.head is not None}

    def unlabelled(self) -> str:
        """The first of its splits with an example whose label is not known; "" where there is none."""
        first = self._first
        named = set(first.split) & set(SPLITS) or set(first.split)
        return next((s for s, y in zip(first.split, first.labels, strict=True) if s in named and y < 0), "")

    @property
    def _first(self) -> System:
        return next(iter(self._systems.values()))

    @property
    def _width(self) -> int:
        return sum(sum(one[1:]) for one in self.columns().values())

    @cached_property
    def _systems(self) -> dict[str, System]:
        paths = self.files()
        names = [path.stem for path in paths]
        if len(set(names)) != len(names):
            raise UsageError(f"data set 'outputs': two files in {paths[0].parent} have one name; a name is one system")
        found = {path.stem: read(path, self.given, named=len(paths) > 1) for path in paths}
        first = next(iter(found.values()))
        return {name: paired(first, system) for name, system in found.items()}


def paired(first: System, other: System) -> System:
    """`other` with its rows in the order of `first`; DataError where ids, labels, splits or groups are not the same."""
    if not np.array_equal(np.sort(first.ids), np.sort(other.ids)):
        odd = np.setxor1d(first.ids, other.ids)
        raise DataError(
            f"{other.path}: its ids are not those of {first.path}: {len(odd)} are in one of them only, such as "
            f"{odd[0]}; systems are compared on the same examples: write the same ids to both"
        )
    rows = np.argsort(other.ids)[np.argsort(np.argsort(first.ids))]
    pairs: tuple[tuple[str, Array | None, Array | None], ...] = (
        ("labels", first.labels, other.labels[rows]),
        ("split", np.array(first.split), np.array(other.split)[rows]),
        ("groups", first.groups, None if other.groups is None else other.groups[rows]),
    )
    for name, mine, theirs in pairs:
        same = mine is theirs if mine is None or theirs is None else np.array_equal(mine, theirs)
        if not same:
            raise DataError(f"{other.path}: its {name} are not those of {first.path}; write the same to both")
    names = (first.class_names, first.group_names) == (other.class_names, other.group_names)
    if first.logits.shape != other.logits.shape or not names:
        raise DataError(f"{other.path}: its classes or names are not those of {first.path}; write the same to both")
    features = None if other.features is None else other.features[rows]
    split = tuple(other.split[row] for row in rows)
    return System(
        other.path, other.logits[rows], first.labels, first.ids, split, first.groups, first.group_names,
        features, other.class_names, other.head,
    )  # fmt: skip


def read(path: Path, given: str, named: bool = False) -> System:
    """One file, checked; `named`: it must have ids. DataError says what is wrong and what to write."""
    found = _arrays(path, given) if path.suffix == ".npz" else _table(path, given)
    scores = _numbers(found, given, path)
    if scores is None:
        raise DataError(f"{path}: it holds no {given!r}; {_advice(found, given)}")
    n, k = scores.shape
    if not n or k < 2:
        raise DataError(f"{path}: {given}: expected rows of at least 2 classes, got {n} x {k}")
    unknown = [name for name, values in found.items() if name not in ("classes", "head_weight", "head_bias") and
               len(values) != n]  # fmt: skip
    if unknown:
        raise DataError(f"{path}: {unknown[0]}: expected {n} rows as in {given}, got {len(found[unknown[0]])}")
    if named and "ids" not in found:
        raise DataError(f"{path}: it has no ids, by which the systems of a folder are paired; write `ids` (`id`)")
    classes = tuple(map(str, found["classes"])) if "classes" in found else ()
    if classes and (len(classes) != k or len(set(classes)) != k):
        raise DataError(f"{path}: classes: expected {k} different names, got {len(classes)}")
    groups, group_names = _groups(found, path)
    split = tuple(map(str, found["split"])) if "split" in found else ("test",) * n
    features = _numbers(found, "features", path)
    logits = (scores if given == "logits" else _log(scores, path)).astype(np.float32)
    head = _head(found, k, features, path)
    kept = None if features is None else features.astype(np.float32)
    return System(path, logits, _labels(found, n, k, classes, path), _ids(found, n, path), split, groups, group_names,
                  kept, classes, head)  # fmt: skip


def _advice(found: dict[str, Array], given: str) -> str:
    other = "probs" if given == "logits" else "logits"
    if other in found:
        return f"it holds {other!r}: say `given: {other}`"
    return f"{nearest(given, found)}; write an array {given!r} [n k], or columns {given}_0, {given}_1 ... of a table"


def _arrays(path: Path, given: str) -> dict[str, Array]:
    from testbed.data.arrays import arrays, shapes

    known = shapes(path)
    taken = {"logits", "probs", "labels", "ids", "split", "groups", "features", "classes", "head_weight", "head_bias"}
    if odd := sorted(set(known) - taken):
        raise DataError(f"{path}: unknown array {odd[0]!r}; {nearest(odd[0], taken)}")
    flat = [n for n in known if n in ("labels", "ids", "split", "groups", "classes") and len(known[n]) != 1]
    if flat:
        raise DataError(f"{path}: {flat[0]}: expected one axis, got {list(known[flat[0]])}")
    return dict(zip(known, map(np.asarray, arrays(path, *known)), strict=True))


def _table(path: Path, given: str) -> dict[str, Array]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a {path.suffix[1:]} file that can be read ({error})") from None
    found: dict[str, Array] = {}
    wide: dict[str, list[tuple[str, Array]]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        head, _, tail = name.partition("_")
        if name not in _COLUMNS and (head not in ("logits", "probs", "features") or not tail):
            known = [*_COLUMNS, f"{given}_0", "features_0"]
            raise DataError(f"{path}: unknown column {name!r}; {nearest(name, known)}")
        if column.null_count:
            raise DataError(f"{path}: {name}: {column.null_count} cells are empty; every row needs a value")
        if name in _COLUMNS:
            found[_COLUMNS[name]] = column.to_numpy()
        else:
            wide.setdefault(head, []).append((tail, column.to_numpy()))
    for head, columns in wide.items():
        tails = [tail for tail, _ in columns]
        if all(re.fullmatch(r"\d+", tail) for tail in tails):
            if sorted(map(int, tails)) != list(range(len(tails))):
                raise DataError(f"{path}: expected the columns {head}_0 to {head}_{len(tails) - 1}, one of each")
            columns = sorted(columns, key=lambda one: int(one[0]))
        elif head == given:
            found["classes"] = np.array(tails)
        found[head] = np.stack([values for _, values in columns], axis=1)
    return found


def _numbers(found: dict[str, Array], name: str, path: Path) -> Array | None:
    """float64 `[n d]`, finite; None where the file has none."""
    if name not in found:
        return None
    values = found[name]
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name}: expected numbers [n k], got {values.dtype} {list(values.shape)}")
    bad = np.asarray(~np.isfinite(values).all(axis=1))
    if bad.any():
        raise DataError(
            f"{path}: {name}: {int(bad.sum())} of {len(bad)} rows are not finite, first row {int(bad.argmax())}; "
            "leave out examples that the system gave no answer to"
        )
    return values.astype(np.float64)


def _log(p: Array, path: Path) -> Array:
    sums = p.sum(axis=1)
    wrong = (p < 0).any(axis=1) | (np.abs(sums - 1) > _SUM_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: probs: {int(wrong.sum())} of {len(p)} rows are no probabilities; row {row} sums to "
            f"{sums[row]:.4g}, its smallest value is {p[row].min():.4g}; "
            "write rows of at least 0 that sum to 1, or `given: logits`"
        )
    floored: Array = np.log(np.maximum(p, _FLOOR))
    return floored


def _labels(found: dict[str, Array], n: int, k: int, classes: tuple[str, ...], path: Path) -> Ints:
    if "labels" not in found:
        return np.full(n, -1, dtype=np.int64)
    labels = found["labels"]
    if labels.dtype.kind in "iu" and (not len(labels) or (labels.min() >= -1 and labels.max() < k)):
        return labels.astype(np.int64)
    if labels.dtype.kind in "iufb":
        raise DataError(
            f"{path}: labels: expected whole numbers 0..{k - 1} (-1 where there is none), got {labels.dtype} from "
            f"{labels.min()} to {labels.max()}"
        )
    names = list(map(str, labels))
    odd = sorted(set(names) - set(classes) - {""})
    if odd:
        what = nearest(odd[0], classes) if classes else "name the classes: columns such as probs_cat, or `classes` [k]"
        raise DataError(f"{path}: labels: no class {odd[0]!r}; {what}")
    return np.array([classes.index(name) if name else -1 for name in names], dtype=np.int64)


def _ids(found: dict[str, Array], n: int, path: Path) -> Ints:
    if "ids" not in found:
        return np.arange(n, dtype=np.int64)
    ids = found["ids"]
    if ids.dtype.kind not in "iu" or (n and (ids.min() < 0 or ids.max() >= 2**63)):
        raise DataError(f"{path}: ids: expected whole numbers of at least 0, got {ids.dtype}; number the examples")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != n:
        twice = values[counts.argmax()]
        raise DataError(
            f"{path}: ids: {twice} stands in {counts.max()} rows; one row per example, and no example in two splits"
        )
    return ids.astype(np.int64)


def _groups(found: dict[str, Array], path: Path) -> tuple[Ints | None, tuple[str, ...]]:
    if "groups" not in found:
        return None, ()
    groups = found["groups"]
    if groups.dtype.kind in "iu" and (not len(groups) or groups.min() >= 0):
        return groups.astype(np.int64), ()
    if groups.dtype.kind in "OU":
        names, codes = np.unique(groups.astype(str), return_inverse=True)
        return codes.astype(np.int64), tuple(names.tolist())
    raise DataError(f"{path}: groups: expected names or whole numbers of at least 0, got {groups.dtype}")


def _head(found: dict[str, Array], k: int, features: Array | None, path: Path) -> tuple[Floats, Floats] | None:
    if "head_weight" not in found and "head_bias" not in found:
        return None
    d = None if features is None else features.shape[1]
    weight, bias = found.get("head_weight"), found.get("head_bias", np.zeros(k))
    if weight is None or weight.shape != (k, d) or bias.shape != (k,):
        got = "none" if weight is None else str(list(weight.shape))
        raise DataError(f"{path}: head_weight: expected [{k} {d}], classes by features, and head_bias [{k}]; got {got}")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise DataError(f"{path}: head_weight, head_bias: not finite")
    return weight.astype(np.float32), bias.astype(np.float32)

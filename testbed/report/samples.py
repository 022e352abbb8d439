"""samples.parquet by set, read in one pass: the rows of one (data set, model, seeds, condition) as arrays.

Each row group is looked at once, and its examples are read only if it holds a wanted set: a file that the runner wrote
is one set, and its statistics say which. So the cost is that of the table, whatever the number of sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from testbed.types import Array, Ints


class Key(NamedTuple):
    """What names one set in samples.parquet; `condition` as the column says that is asked for."""

    dataset: str
    model: str
    train_seed: int | None
    seed: int
    condition: str


@dataclass(frozen=True)
class SampleSet:
    """One set by column, rows as they lie in the file; an array is masked where an example has no value.

    right       bool `[n]` by calibrator: whether the calibrated decision is the label
    confidence  float32 `[n]` by calibrator
    score       float64 `[n]` by detector, larger = more out-of-distribution
    """

    ids: Ints
    right: Mapping[str, Array] = field(default_factory=dict)
    confidence: Mapping[str, Array] = field(default_factory=dict)
    score: Mapping[str, Array] = field(default_factory=dict)


def sample_sets(
    folder: Path, wanted: Mapping[Key, Collection[str]], condition: Literal["condition_id", "condition"]
) -> dict[Key, SampleSet]:
    """Those of the wanted sets that samples.parquet of a run folder holds.

    wanted     key -> which of "right", "confidence", "score" to read
    condition  the column that holds what keys call the condition
    """
    found: dict[Key, list[SampleSet]] = defaultdict(list)
    names = (*Key._fields[:-1], condition)
    for table in _tables(folder / "samples.parquet", wanted, names):
        for key, rows in _split(table, names):
            if key in wanted:
                found[key].append(_set(table if rows is None else table.take(rows), wanted[key]))
    return {key: _joined(parts) for key, parts in found.items()}


def _tables(path: Path, wanted: Mapping[Key, Collection[str]], names: Sequence[str]) -> Iterator[Any]:
    """The row groups that may hold a wanted set, as pyarrow tables of the columns that are needed."""
    import pyarrow.parquet as pq

    asked = {name for columns in wanted.values() for name in columns}
    nested = {"decision": "right", "confidence": "confidence", "score": "score"}
    columns = [*names, "id", "label", *(name for name, as_name in nested.items() if as_name in asked)]
    for one in sorted(path.rglob("*.parquet")) if path.is_dir() else [path] if path.exists() else []:
        with pq.ParquetFile(one, memory_map=True) as file:
            have = [name for name in columns if name in file.schema_arrow.names]
            for number in range(file.num_row_groups):
                key = _only_key(file.metadata.row_group(number), names)
                if key is None or key in wanted:
                    yield file.read_row_group(number, columns=have, use_threads=False)


def _only_key(group: Any, names: Sequence[str]) -> Key | None:
    """The key of a row group that holds one set, by its statistics; None where they do not say so."""
    places = {group.column(i).path_in_schema: i for i in range(group.num_columns)}
    values: list[Any] = []
    for name in names:
        statistics = group.column(places[name]).statistics if name in places else None
        if statistics is None or statistics.null_count not in (0, group.num_rows):
            return None
        if statistics.null_count:
            values.append(None)
        elif statistics.has_min_max and statistics.min == statistics.max:
            values.append(statistics.min)
        else:
            return None
    return Key(*values)


def _split(table: Any, keys: Sequence[str]) -> Iterator[tuple[Key, Ints | None]]:
    """The sets in a table and their rows; None where it is one set."""
    codes, names = np.zeros(table.num_rows, np.int64), []
    for column in keys:
        encoded = table.column(column).combine_chunks().dictionary_encode(null_encoding="encode")
        if hasattr(encoded, "chunks"):
            (encoded,) = encoded.chunks
        names.append(encoded.dictionary.to_pylist())
        codes = codes * max(1, len(names[-1])) + encoded.indices.to_numpy(zero_copy_only=False)
    distinct, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    for number, row in enumerate(first.tolist()):
        key = Key(*(table.column(column)[row].as_py() for column in keys))
        yield key, None if len(distinct) == 1 else np.flatnonzero(inverse == number)


def _set(table: Any, columns: Collection[str]) -> SampleSet:
    labels = np.asarray(table.column("label"))
    nested = {
        name: _by_name(table.column(name))
        for name, as_name in {"decision": "right", "confidence": "confidence", "score": "score"}.items()
        if as_name in columns and name in table.column_names
    }
    right = {name: decided == labels for name, decided in nested.get("decision", {}).items()}
    return SampleSet(np.asarray(table.column("id")), right, nested.get("confidence", {}), nested.get("score", {}))


def _by_name(column: Any) -> dict[str, Array]:
    """A column of maps as one masked array a name."""
    import pyarrow as pa

    if not pa.types.is_map(column.type):
        return {}
    maps = pa.concat_arrays(column.chunks)
    ends = maps.offsets.to_numpy()
    entries = slice(int(ends[0]), int(ends[-1]))
    names = maps.keys[entries].dictionary_encode()
    values = np.asarray(maps.items[entries].fill_null(0))
    there = np.asarray(maps.items[entries].is_valid())
    codes, rows = np.asarray(names.indices), np.repeat(np.arange(len(maps)), np.diff(ends))
    found: dict[str, Array] = {}
    for code, name in enumerate(names.dictionary.to_pylist()):
        mine = np.flatnonzero((codes == code) & there)
        data, mask = np.zeros(len(maps), values.dtype), np.ones(len(maps), bool)
        data[rows[mine]], mask[rows[mine]] = values[mine], False
        found[name] = np.ma.MaskedArray(data, mask)
    return found


def _joined(parts: list[SampleSet]) -> SampleSet:
    """The parts of a set one behind the other; what one of them lacks is masked there."""
    if len(parts) == 1:
        return parts[0]

    def column(name: str) -> dict[str, Array]:
        maps = [getattr(part, name) for part in parts]
        return {one: _stacked(one, maps, parts) for one in dict.fromkeys(one for values in maps for one in values)}

    ids = np.concatenate([part.ids for part in parts])
    return SampleSet(ids, column("right"), column("confidence"), column("score"))


def _stacked(name: str, maps: Sequence[Mapping[str, Array]], parts: Sequence[SampleSet]) -> Array:
    dtype = next(values[name].dtype for values in maps if name in values)
    empty = [np.ma.MaskedArray(np.zeros(len(part.ids), dtype), True) for part in parts]
    pieces = [values.get(name, none) for values, none in zip(maps, empty, strict=True)]
    data, mask = (np.concatenate([of(piece) for piece in pieces]) for of in (np.ma.getdata, np.ma.getmaskarray))
    return np.ma.MaskedArray(data, mask)

"""Hugging Face data sets: any on the hub by name and revision, and any kept with `save_to_disk`.

A revision is turned into its commit first, by the hub or, where it cannot be reached, by what the cache notes of it;
the commit pins the content. The data of a commit is downloaded once, into the cache of `datasets` (HF_HOME), and read
from there afterwards. `datasets` itself falls back to the newest cached commit when the hub is away, whatever revision
was asked for; that never happens here. With HF_HUB_OFFLINE=1 the hub is not asked.
Images are decoded when they are read, a chosen few at a time, so a set larger than memory can be sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from testbed.data import hub_cache
from testbed.data.base import as_labels, check_part, ids_of, local_path, parts_of
from testbed.data.tables import decode, stack
from testbed.errors import DataError, EnvironmentProblem, MissingExtra, UsageError, nearest
from testbed.parameters import Checked, Count
from testbed.types import Array, Examples, Spec


@dataclass(frozen=True)
class HubDataset(Checked):
    """A data set of the hub (or a local folder of parquet, CSV or image files that `load_dataset` understands).

    path, config, revision  as in `datasets.load_dataset(path, config, revision=...)`: a branch, tag or commit
    split         only this split, in the syntax of `datasets` ("train", "train[:10%]"); by default all, as parts
    image, label  column names
    classes       number of classes, where the label column does not know it
    size          side in pixels that every image is cropped and resized to; needed where sizes differ
    """

    path: str
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    image: str = "image"
    label: str = "label"
    classes: Count | None = None
    size: Count | None = None

    version: ClassVar[int] = 2

    def sizes(self) -> dict[str, int]:
        return {part: len(table) for part, table in self._tables.items()}

    def spec(self) -> Spec:
        part, table = next(iter(self._tables.items()))
        shape = self._decode(table, part, np.arange(1))[0].shape
        return Spec("image", shape, self._classes, class_names=tuple(getattr(table.features[self.label], "names", ())))

    def files(self) -> tuple[Path, ...]:
        return ()

    def identity(self) -> dict[str, Any]:
        """The commit; of a local folder the fingerprint of each part that `datasets` computes."""
        if self._commit is not None:
            return {"commit": self._commit}
        return {"fingerprint": {part: table._fingerprint for part, table in self._tables.items()}}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), self.path)
        return self.load_rows(part, np.arange(self.sizes()[part]))

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Decode only these positions."""
        table = self._tables[part]
        x = stack(self._decode(table, part, rows), rows, f"{self._where}, part {part!r}")
        y = as_labels(self._labels[part][rows], len(rows), self._classes, f"{self._where}, column {self.label!r}")
        return Examples(x, y, ids_of(part, rows, list(self._tables)), self.spec())

    def _open(self) -> Any:
        datasets, commit = _datasets(self._where), self._commit
        try:
            builder = None if commit is None else hub_cache.prepared(self.path, self.config, commit)
            if builder is None:
                builder = datasets.load_dataset_builder(self.path, self.config, revision=commit)
                if commit is not None and hub_cache.is_substitute(builder, commit):
                    raise EnvironmentProblem(hub_cache.absent(self.path, commit))
                builder.download_and_prepare()
            return builder.as_dataset(split=self.split)
        except (datasets.exceptions.DatasetsError, *hub_cache.unreachable()) as error:
            reason = hub_cache.first_line(error.__cause__ or error)
            raise EnvironmentProblem(f"{self._where} cannot be had from the hub or its cache: {reason}") from None
        except ValueError as error:
            raise UsageError(f"{self._where}: {hub_cache.first_line(error)}") from None

    @cached_property
    def _commit(self) -> str | None:
        """The commit of the revision; None of a local folder."""
        _datasets(self._where)
        return None if Path(self.path).expanduser().is_dir() else hub_cache.commit_of(self.path, self.revision)

    @property
    def _where(self) -> str:
        return f"data set {self.path!r}"

    @cached_property
    def _tables(self) -> dict[str, Any]:
        opened = self._open()
        tables = dict(opened) if isinstance(opened, dict) else {(self.split or "all").split("[")[0]: opened}
        for part, table in tables.items():
            for column in (self.image, self.label):
                if column not in table.column_names:
                    raise UsageError(
                        f"{self._where}, part {part!r}, has no column {column!r}; {nearest(column, table.column_names)}"
                    )
        return tables

    @cached_property
    def _labels(self) -> dict[str, Array]:
        """The label column of each part, a whole number an example."""
        labels = {}
        for part, table in self._tables.items():
            column = np.asarray(table.with_format("numpy")[self.label][:])
            if len(column) and not np.issubdtype(column.dtype, np.integer):
                raise DataError(
                    f"{self._where}, part {part!r}: the column {self.label!r} holds {column.dtype.name} values, "
                    "expected class labels or whole numbers, none missing"
                )
            labels[part] = column.astype(np.int64)
        return labels

    @cached_property
    def _classes(self) -> int:
        feature = next(iter(self._tables.values())).features[self.label]
        known: int | None = getattr(feature, "num_classes", None)
        if known is not None and self.classes not in (None, known):
            raise DataError(f"{self._where}: column {self.label!r} has {known} classes, the grid says {self.classes}")
        if known is not None or self.classes is not None:
            return int(known or self.classes or 0)
        return 1 + max(int(labels.max(initial=0)) for labels in self._labels.values())

    def _decode(self, table: Any, part: str, rows: Array) -> list[Array]:
        cells = table.with_format(None).select(rows)[self.image]
        return [decode(cell, self.size) for cell in cells]


@dataclass(frozen=True)
class Saved(HubDataset):
    """A folder written by `datasets`' `save_to_disk`: `path`."""

    paths: ClassVar[tuple[str, ...]] = ("path",)

    def files(self) -> tuple[Path, ...]:
        folder = local_path(self.path, "data set 'saved'")
        kept = (".arrow", ".json")  # the rows, and what says which file is of which part, in which order
        return tuple(sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix in kept))

    def identity(self) -> dict[str, Any]:
        """The parts: which one a file is of is said by the folder that it lies in."""
        root = local_path(self.path, "data set 'saved'")
        folders: dict[str, list[Path]] = {}
        for file in self.files():
            folders.setdefault(file.parent.relative_to(root).as_posix(), []).append(file)
        return parts_of({"all" if list(folders) == ["."] else name: files for name, files in folders.items()})

    def _open(self) -> Any:
        folder = local_path(self.path, "data set 'saved'")
        try:
            opened = _datasets(self._where).load_from_disk(str(folder))
        except FileNotFoundError:
            raise UsageError(f"data set 'saved': {folder} was not written by save_to_disk") from None
        if isinstance(opened, dict) and self.split:
            check_part(self.split, {part: len(table) for part, table in opened.items()}, self.path)
            return opened[self.split]
        return opened


def _datasets(needed_for: str) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra("datasets", needed_for) from error
    return datasets

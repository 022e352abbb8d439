"""Hugging Face data sets: any on the hub by name and revision, and any kept with `save_to_disk`.

The content is pinned by the fingerprints that `datasets` computes, and by the commit of the revision where the hub
tells it. Data is downloaded once, into the cache of `datasets` (HF_HOME); HF_HUB_OFFLINE=1 uses only that cache.
Images are decoded when they are read, a chosen few at a time, so a set larger than memory can be sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from testbed.data.base import as_labels, check_part, ids_of, local_path
from testbed.data.tables import decode, stack
from testbed.errors import DataError, EnvironmentProblem, MissingExtra, UsageError, nearest
from testbed.types import Array, Examples, Spec


@dataclass(frozen=True)
class HubDataset:
    """A data set of the hub (or a local folder of parquet, CSV or image files that `load_dataset` understands).

    path, config, revision  as in `datasets.load_dataset(path, config, revision=...)`
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
    classes: int | None = None
    size: int | None = None

    version: ClassVar[int] = 1

    def sizes(self) -> dict[str, int]:
        return {part: len(table) for part, table in self._tables.items()}

    def spec(self) -> Spec:
        part, table = next(iter(self._tables.items()))
        shape = self._decode(table, part, np.arange(1))[0].shape
        return Spec("image", shape, self._classes, class_names=tuple(getattr(table.features[self.label], "names", ())))

    def files(self) -> tuple[Path, ...]:
        return ()

    def identity(self) -> dict[str, Any]:
        """Fingerprint of each part, and the download checksums of the whole where `datasets` knows them."""
        sums: dict[str, Any] = {}
        for table in self._tables.values():
            sums |= {
                Path(url).name: info.get("checksum") for url, info in (table.info.download_checksums or {}).items()
            }
        return {"fingerprint": {part: table._fingerprint for part, table in self._tables.items()}, "checksums": sums}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), self.path)
        return self.load_rows(part, np.arange(self.sizes()[part]))

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Decode only these positions."""
        table = self._tables[part]
        x = stack(self._decode(table, part, rows), rows, f"data set {self.path!r}, part {part!r}")
        labels = np.asarray(table.with_format(None)[self.label])[rows] if len(rows) else np.empty(0, np.int64)
        y = as_labels(labels, len(rows), self._classes, f"data set {self.path!r}, column {self.label!r}")
        return Examples(x, y, ids_of(part, rows, list(self._tables)), self.spec())

    def _open(self) -> Any:
        datasets = _datasets(f"data set {self.path!r}")
        try:
            return datasets.load_dataset(self.path, self.config, revision=self.revision, split=self.split)
        except (FileNotFoundError, ConnectionError, OSError) as error:
            raise EnvironmentProblem(
                f"data set {self.path!r} cannot be had from the hub or its cache: {_first_line(error)}"
            ) from None
        except ValueError as error:
            raise UsageError(f"data set {self.path!r}: {_first_line(error)}") from None

    @cached_property
    def _tables(self) -> dict[str, Any]:
        opened = self._open()
        tables = dict(opened) if isinstance(opened, dict) else {(self.split or "all").split("[")[0]: opened}
        for part, table in tables.items():
            for column in (self.image, self.label):
                if column not in table.column_names:
                    raise UsageError(
                        f"data set {self.path!r}, part {part!r}, has no column {column!r}; "
                        f"{nearest(column, table.column_names)}"
                    )
        return tables

    @cached_property
    def _classes(self) -> int:
        feature = next(iter(self._tables.values())).features[self.label]
        known: int | None = getattr(feature, "num_classes", None)
        if known is not None and self.classes not in (None, known):
            raise DataError(
                f"data set {self.path!r}: column {self.label!r} has {known} classes, the grid says {self.classes}"
            )
        if known is not None or self.classes is not None:
            return int(known or self.classes or 0)
        return 1 + max(int(max(table[self.label])) for table in self._tables.values())

    def _decode(self, table: Any, part: str, rows: Array) -> list[Array]:
        cells = table.with_format(None).select(rows)[self.image]
        return [decode(cell, self.size) for cell in cells]


@dataclass(frozen=True)
class Saved(HubDataset):
    """A folder written by `datasets`' `save_to_disk`: `path`."""

    paths: ClassVar[tuple[str, ...]] = ("path",)

    def files(self) -> tuple[Path, ...]:
        folder = local_path(self.path, "data set 'saved'")
        return tuple(sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix == ".arrow"))

    def identity(self) -> dict[str, Any]:
        return {}

    def _open(self) -> Any:
        folder = local_path(self.path, "data set 'saved'")
        try:
            opened = _datasets(f"data set {self.path!r}").load_from_disk(str(folder))
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


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

"""Parquet files of images, as the Hugging Face hub keeps them or as plain lists of numbers.

The image column holds encoded bytes (PNG, JPEG, ...), or a struct with a field "bytes", or a (nested or flat) list of
integers 0..255. Only the row groups that hold wanted rows are read, so a set larger than memory can be streamed.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from testbed.data.adapt import resize, to_channels
from testbed.data.base import as_labels, check_part, ids_of, local_path, parts_of
from testbed.errors import DataError, UsageError, nearest
from testbed.parameters import Checked, Count
from testbed.types import Array, Examples, Spec


@dataclass(frozen=True)
class Parquet(Checked):
    """A `.parquet` file (part "all"), or a folder of files named after their part, as in test-00000-of-00002.parquet.

    image, label  column names
    classes       number of classes; by default the largest label and one more
    size          side in pixels that every image is cropped and resized to; needed where sizes differ
    shape         of a flat list: (h, w) or (h, w, c); by default a square of one channel
    """

    path: str
    image: str = "image"
    label: str = "label"
    classes: Count | None = None
    size: Count | None = None
    shape: tuple[Count, ...] = ()

    version: ClassVar[int] = 2
    paths: ClassVar[tuple[str, ...]] = ("path",)

    def sizes(self) -> dict[str, int]:
        import pyarrow.parquet as pq

        return {
            part: sum(pq.ParquetFile(file).metadata.num_rows for file in files) for part, files in self._parts().items()
        }

    def spec(self) -> Spec:
        part = next(iter(self._parts()))
        return Spec("image", self._images(part, np.arange(1))[0].shape, self._classes())

    def files(self) -> tuple[Path, ...]:
        return tuple(file for files in self._parts().values() for file in files)

    def identity(self) -> dict[str, Any]:
        """The parts: which one a file is of stands in its name only."""
        return parts_of(self._parts())

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "parquet")
        return self.load_rows(part, np.arange(self.sizes()[part]))

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Decode only these positions, which ascend."""
        x = stack(self._images(part, rows), rows, f"data set 'parquet', part {part!r}")
        y = as_labels(self._labels(part)[rows], len(rows), self._classes(), f"{self.path}: {self.label}")
        return Examples(x, y, ids_of(part, rows, list(self._parts())), Spec("image", x.shape[1:], self._classes()))

    def _parts(self) -> dict[str, list[Path]]:
        path = local_path(self.path, "data set 'parquet'")
        if path.is_file():
            return {"all": [path]}
        parts: dict[str, list[Path]] = {}
        for file in sorted(path.glob("*.parquet")):
            parts.setdefault(file.stem.split("-")[0], []).append(file)
        if not parts:
            raise UsageError(f"data set 'parquet': the folder {path} holds no .parquet file")
        return parts

    def _groups(self, part: str, column: str) -> Iterator[tuple[int, Callable[[], Any]]]:
        """(number of rows, reader of the column) of every row group of a part; only what is called is read."""
        import pyarrow.parquet as pq

        for path in self._parts()[part]:
            file = pq.ParquetFile(path)
            if column not in file.schema_arrow.names:
                raise UsageError(f"{path} has no column {column!r}; {nearest(column, file.schema_arrow.names)}")
            for group in range(file.num_row_groups):
                read = partial(_column, file, group, column)
                yield file.metadata.row_group(group).num_rows, read

    def _labels(self, part: str) -> Array:
        return self._label_columns[part]

    @cached_property
    def _label_columns(self) -> dict[str, Array]:
        columns = {}
        for part in self._parts():
            found = [np.asarray(read().to_numpy()) for _, read in self._groups(part, self.label)]
            columns[part] = np.concatenate(found) if found else np.empty(0, dtype=np.int64)
        return columns

    def _classes(self) -> int:
        return (
            self.classes
            if self.classes is not None
            else 1 + max(int(self._labels(part).max()) for part in self._parts())
        )

    def _images(self, part: str, rows: Array) -> list[Array]:
        found, start = [], 0
        for count, read in self._groups(part, self.image):
            inside = rows[(rows >= start) & (rows < start + count)] - start
            if len(inside):
                cells = read().take(inside)
                found += [decode(cell.as_py(), self.size, self.shape) for cell in cells]
            start += count
        return found


def _column(file: Any, group: int, column: str) -> Any:
    return file.read_row_group(group, columns=[column]).column(0)


#: Most pixels of one image: a file of a few bytes can claim far more, and decoding fills memory with them.
LARGEST: Final = 2**26


def decode(value: Any, size: int | None = None, shape: tuple[int, ...] = ()) -> Array:
    """One image, uint8 `[h w c]`, from encoded bytes, a `{"bytes": ...}` struct, a Pillow image or numbers 0..255.

    Upright: what the EXIF orientation of a file says is done. Only the first frame of an animation is read.
    """
    if isinstance(value, dict) and value.get("bytes") is not None:
        value = value["bytes"]
    if isinstance(value, (bytes, bytearray)):
        from PIL import UnidentifiedImageError

        try:
            value = opened(value)
        except UnidentifiedImageError:
            raise DataError(f"an image cell holds {len(value)} bytes that no image format begins with") from None
    try:
        image = from_pillow(value) if hasattr(value, "convert") else from_numbers(value, shape)
    except OSError as error:
        raise DataError(f"an image cannot be decoded: {error}") from None
    return image if size is None or image.shape[:2] == (size, size) else resize(image, size, size)


def opened(encoded: bytes | bytearray) -> Any:
    """A Pillow image of encoded bytes, not decoded yet; DataError where it has more than `LARGEST` pixels."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound here is lower
        try:
            image = Image.open(io.BytesIO(encoded))
        except Image.DecompressionBombError:
            raise DataError(f"an image has more than the {LARGEST:,} pixels that are read; make it smaller") from None
    if image.width * image.height > LARGEST:
        raise DataError(
            f"an image is {image.height}x{image.width}, more than the {LARGEST:,} pixels that are read; make it smaller"
        )
    return image


def from_pillow(image: Any) -> Array:
    """uint8 `[h w 1]` for grey modes, `[h w 3]` for all others (a palette or alpha channel is converted to RGB)."""
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise DataError(f"an image has the mode {image.mode}, more than 8 bits a value; save it with 8 bits first")
    grey = image.mode in ("1", "L", "LA")
    pixels = np.asarray(ImageOps.exif_transpose(image).convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def from_numbers(value: Any, shape: tuple[int, ...]) -> Array:
    """uint8 `[h w c]` from a flat or nested list of whole numbers 0..255."""
    numbers = np.asarray(value)
    if numbers.dtype == object or not np.issubdtype(numbers.dtype, np.number):
        raise DataError(f"an image cell holds {type(value).__name__}, expected bytes, an image or numbers")
    if numbers.size and (numbers.min() < 0 or numbers.max() > 255 or (numbers != np.floor(numbers)).any()):
        raise DataError(f"pixels must be whole numbers 0..255, got values from {numbers.min()} to {numbers.max()}")
    if numbers.ndim == 1:
        side = math.isqrt(numbers.size)
        if not shape and side * side != numbers.size:
            raise DataError(f"a flat list of {numbers.size} pixels is not a square; say `shape: [h, w, c]`")
        numbers = numbers.reshape(shape or (side, side))
    return (numbers[..., None] if numbers.ndim == 2 else numbers).astype(np.uint8)


def stack(images: list[Array], rows: Array, where: str) -> Array:
    """uint8 `[n h w c]`; a grey image among RGB ones is repeated to RGB; other sizes are an error."""
    if not images:
        return np.empty((0, 1, 1, 1), dtype=np.uint8)
    channels = max(image.shape[2] for image in images)
    same = [image if image.shape[2] == channels else to_channels(image, channels) for image in images]
    for row, image in zip(rows, same, strict=True):
        if image.shape != same[0].shape:
            (h, w, _), (first_h, first_w, _) = image.shape, same[0].shape
            raise DataError(
                f"{where}: image {row} is {h}x{w}, the first one {first_h}x{first_w}; set `size` to resize all of them"
            )
    return np.stack(same)

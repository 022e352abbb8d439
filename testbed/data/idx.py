"""The IDX files of MNIST and its likes, plain or gzipped.

Format: two zero bytes, a type byte (8 = uint8), the number of axes, each axis as a big-endian 32-bit integer, then
the values in C order.
"""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from testbed.data.base import as_images, as_labels, check_part, data_file, ids_of, local_path
from testbed.data.packaged import DIGITS
from testbed.errors import DataError, EnvironmentProblem
from testbed.parameters import Checked, Count
from testbed.types import Array, Examples, Paper, Spec

_PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: Path) -> Array:
    """The uint8 array of an IDX file, a memory map where it is not packed.

    Raises DataError where the header and the bytes do not agree.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else _mapped(path)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from None
    shape = _header(data, path)
    start = 4 + 4 * len(shape)
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{path}: the header promises {list(shape)} = {math.prod(shape)} bytes, the file holds {len(data) - start}"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _mapped(path: Path) -> bytes | memoryview:
    return np.memmap(path, np.uint8, "r").data if path.stat().st_size else b""


def idx_shape(path: Path) -> tuple[int, ...]:
    """The shape that an IDX file's header states, without reading the rest."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return _header(file.read(4 + 4 * 8), path)


def _header(data: bytes | memoryview, path: Path) -> tuple[int, ...]:
    if len(data) < 8 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 8 or len(data) < 4 + 4 * data[3]:
        raise DataError(
            f"{path}: not an IDX file of bytes (its first four bytes are {data[:4].hex(' ')}, "
            "expected 00 00 08 and the number of axes)"
        )
    return struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])


@dataclass(frozen=True)
class Idx(Checked):
    """A folder with `{train,t10k}-images-idx3-ubyte[.gz]` and `-labels-idx1-ubyte[.gz]`: parts "train" and "test"."""

    path: str
    classes: Count = 10

    version: ClassVar[int] = 1
    paths: ClassVar[tuple[str, ...]] = ("path",)

    def sizes(self) -> dict[str, int]:
        return {part: idx_shape(self._pair(part)[0])[0] for part in self._parts()}

    def spec(self) -> Spec:
        shape = idx_shape(self._pair(self._parts()[0])[0])[1:]
        return Spec("image", (*shape, 1) if len(shape) == 2 else shape, classes=self.classes)

    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self._parts() for file in self._pair(part))

    def identity(self) -> dict[str, list[str]]:
        """The part where there is one only: it stands in the names of the files."""
        parts = self._parts()
        return {"parts": parts} if len(parts) < len(_PREFIX) else {}

    def load(self, part: str) -> Examples:
        check_part(part, dict.fromkeys(self._parts(), 0), "idx")
        return self.load_rows(part, np.arange(len(self._arrays(part)[0])))

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Only these positions; of a file that is not packed nothing else is read."""
        images, labels = self._arrays(part)
        y = as_labels(labels, len(images), self.classes, f"{self._pair(part)[1]}")
        x = as_images(images[rows], f"{self._pair(part)[0]}")
        return Examples(x, y[rows], ids_of(part, rows), self.spec())

    def _arrays(self, part: str) -> tuple[Array, Array]:
        if part not in self._kept:
            images, labels = self._pair(part)
            self._kept[part] = read_idx(images), read_idx(labels)
        return self._kept[part]

    @cached_property
    def _kept(self) -> dict[str, tuple[Array, Array]]:
        return {}

    def _folder(self) -> Path:
        return local_path(self.path, "data set 'idx'")

    def _parts(self) -> list[str]:
        found = [part for part, prefix in _PREFIX.items() if list(self._folder().glob(f"{prefix}-images-idx3-ubyte*"))]
        if not found:
            raise EnvironmentProblem(
                f"data set 'idx': {self._folder()} has no file train-images-idx3-ubyte[.gz] "
                "or t10k-images-idx3-ubyte[.gz]"
            )
        return found

    def _pair(self, part: str) -> tuple[Path, Path]:
        names = (f"{_PREFIX[part]}-images-idx3-ubyte", f"{_PREFIX[part]}-labels-idx1-ubyte")
        return _either(self._folder(), names[0]), _either(self._folder(), names[1])


def _either(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise EnvironmentProblem(f"data set 'idx': {folder} has neither {name}.gz nor {name}")


@dataclass(frozen=True)
class _Full(Checked):
    """A set of 60,000 + 10,000 images of 28x28 in the four IDX files of the local data folder."""

    version: ClassVar[int] = 1
    folder: ClassVar[str] = ""
    names: ClassVar[tuple[str, ...]] = ()

    def sizes(self) -> dict[str, int]:
        return {"train": 60_000, "test": 10_000}

    def spec(self) -> Spec:
        return Spec("image", (28, 28, 1), classes=10, class_names=self.names)

    def files(self) -> tuple[Path, ...]:
        return tuple(
            data_file(f"{self.folder}/{prefix}-{kind}-ubyte.gz", self.folder)
            for prefix in _PREFIX.values()
            for kind in ("images-idx3", "labels-idx1")
        )

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), self.folder)
        images, labels = self.files()[:2] if part == "train" else self.files()[2:]
        x = as_images(read_idx(images), f"{images}")
        return Examples(
            x, as_labels(read_idx(labels), len(x), 10, f"{labels}"), ids_of(part, range(len(x))), self.spec()
        )


@dataclass(frozen=True)
class Mnist(_Full):
    """MNIST, whole: 60,000 training and 10,000 test digits, from TESTBED_DATA/mnist."""

    folder: ClassVar[str] = "mnist"
    names: ClassVar[tuple[str, ...]] = DIGITS
    reference: ClassVar[Paper] = Paper(
        "Gradient-based learning applied to document recognition",
        "Yann LeCun, Leon Bottou, Yoshua Bengio, Patrick Haffner",
        1998,
        "Proceedings of the IEEE",
    )


@dataclass(frozen=True)
class FashionMnist(_Full):
    """Fashion-MNIST, whole: 60,000 training and 10,000 test articles, from TESTBED_DATA/fashion-mnist."""

    folder: ClassVar[str] = "fashion-mnist"
    names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    reference: ClassVar[Paper] = Paper(
        "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
        "Han Xiao, Kashif Rasul, Roland Vollgraf",
        2017,
        arxiv="1708.07747",
    )

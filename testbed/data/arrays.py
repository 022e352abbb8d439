"""NumPy archives: any `.npz` of a user's, and the sets of the local data folder that are kept as arrays.

Archives are opened with `allow_pickle=False`; an array of objects is an error. Large arrays that the archive holds
uncompressed, as `np.savez` writes them, are memory maps (without the checksum that the archive has of them), so a set
larger than memory can be sampled and trained on.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, ClassVar, Final, Literal

import numpy as np
from numpy.lib import format as npy

from testbed.data.base import as_images, as_labels, check_part, data_file, ids_of, local_path
from testbed.errors import DataError, UsageError, nearest
from testbed.parameters import Checked, Count
from testbed.types import Array, Examples, Ints, Paper, Spec

#: Bytes from which on an uncompressed array is mapped into memory.
_MAPPED: Final = 2**26
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Array name -> shape in an `.npz`, from the headers alone."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    found[name.removesuffix(".npy")] = _header(file)[0]
    except (zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{path}: not a NumPy archive ({error})") from None
    return found


def arrays(path: Path, *names: str) -> list[Array]:
    """The named arrays of an `.npz`, memory maps where they are large; an unknown name says which there are."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in names:
                if name not in archive.files:
                    raise DataError(f"{path} holds no array {name!r}; {nearest(name, archive.files)}")
            return [_array(path, archive, name) for name in names]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read without running code it holds, or is damaged ({error})") from None


def _array(path: Path, archive: Any, name: str) -> Array:
    """An array of an open archive; a memory map, to which writing changes no file, where it is large and stored."""
    info = next((one for one in archive.zip.infolist() if one.filename == f"{name}.npy"), None)
    if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size < _MAPPED:
        found: Array = archive[name]
        return found
    with archive.zip.open(info) as file:
        shape, fortran, dtype = _header(file)
        inside = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} is an array of objects")
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # a local header: 30 bytes, then a name and extra data of these lengths
        before = 30 + sum(struct.unpack("<HH", file.read(4)))
    start = info.header_offset + before + inside
    return np.memmap(path, dtype, "c", start, shape, "F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype of an `.npy` file."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(shape), fortran, dtype


@dataclass(frozen=True)
class Npz(Checked):
    """One `.npz` file of the user's.

    x, y      names of the arrays; "{part}" in them stands for the part, so the Keras layout is
              `x: "x_{part}", y: "y_{part}"`. Without it the file is one part, "all".
    classes   number of classes; by default the largest label and one more
    groups    name of an array of whole numbers that says which subpopulation each example is in; "" for none
    kind      image: uint8 `[n h w]` or `[n h w c]`; tabular: float `[n features]`; series: float `[n time channels]`
    """

    path: str
    x: str = "images"
    y: str = "labels"
    classes: Count | None = None
    groups: str = ""
    kind: Literal["image", "tabular", "series"] = "image"

    version: ClassVar[int] = 1
    paths: ClassVar[tuple[str, ...]] = ("path",)

    @property
    def grouped(self) -> bool:
        """Whether the examples have groups."""
        return bool(self.groups)

    def sizes(self) -> dict[str, int]:
        found = shapes(self.files()[0])
        return {part: found[self.x.replace("{part}", part)][0] for part in self._parts()}

    def spec(self) -> Spec:
        return self._read(next(iter(self._parts()))).spec

    def files(self) -> tuple[Path, ...]:
        return (local_path(self.path, "data set 'npz'"),)

    def load(self, part: str) -> Examples:
        check_part(part, dict.fromkeys(self._parts(), 0), "npz")
        return self._read(part)

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Only these positions; of a large uncompressed array nothing else is read."""
        if part not in self._kept:
            self._kept[part] = self.load(part)
        return self._kept[part].take(rows)

    @cached_property
    def _kept(self) -> dict[str, Examples]:
        return {}

    def _parts(self) -> list[str]:
        found = shapes(self.files()[0])
        pattern = re.escape(self.x).replace(r"\{part\}", "(.+)")
        matches = [match for name in found if (match := re.fullmatch(pattern, name))]
        if not matches:
            raise UsageError(f"data set 'npz': {self.path} holds no array {self.x!r}; {nearest(self.x, found)}")
        return sorted(match.group(1) for match in matches) if "{part}" in self.x else ["all"]

    def _classes(self) -> int:
        if self.classes is not None:
            return self.classes
        labels = arrays(self.files()[0], *(self.y.replace("{part}", part) for part in self._parts()))
        return int(max(y.max() for y in labels)) + 1

    def _read(self, part: str) -> Examples:
        path, classes = self.files()[0], self._classes()
        x, y = arrays(path, self.x.replace("{part}", part), self.y.replace("{part}", part))
        if self.kind == "image":
            x = as_images(x, f"{path}: {self.x}")
            spec = Spec("image", x.shape[1:], classes)
        else:
            spec = numeric_spec(x, classes, self.kind, f"{path}: {self.x}")
            x = x.astype(np.float32)
        labels = as_labels(y, len(x), classes, f"{path}: {self.y}")
        return Examples(x, labels, ids_of(part, range(len(x)), self._parts()), spec, self._groups(part, len(x)))

    def _groups(self, part: str, n: int) -> Ints | None:
        if not self.groups:
            return None
        path = self.files()[0]
        (groups,) = arrays(path, self.groups.replace("{part}", part))
        if groups.shape != (n,) or groups.dtype.kind not in "iub" or groups.min(initial=0) < 0:
            got = f"{groups.dtype} {list(groups.shape)}"
            raise DataError(
                f"{path}: {self.groups}: expected {n} whole numbers of at least 0, one an example; got {got}"
            )
        return groups.astype(np.int64)


def numeric_spec(x: Array, classes: int, kind: Literal["tabular", "series"], where: str) -> Spec:
    """The spec of a float set: bounds are each feature's smallest and largest value in it."""
    axes = 2 if kind == "tabular" else 3
    if x.ndim != axes or not np.issubdtype(x.dtype, np.number):
        raise DataError(f"{where}: a {kind} set has {axes} axes of numbers, got {x.dtype} {list(x.shape)}")
    if not np.isfinite(x).all():
        raise DataError(f"{where}: {int((~np.isfinite(x)).sum())} values are not finite")
    flat = x.reshape(-1, x.shape[-1]).astype(np.float32)
    bounds = tuple(zip(flat.min(0).tolist(), flat.max(0).tolist(), strict=True))
    return Spec(kind, x.shape[1:], classes, dtype="float32", layout="f" if kind == "tabular" else "tc", bounds=bounds)


@dataclass(frozen=True)
class Cifar10(Checked):
    """CIFAR-10 with exact pixels, the part of it at hand: the first 1,017 test and 8,068 training images.

    Ids are positions in the full test and training sets. Networks trained on all 50,000 training images have seen the
    training part: draw their calibration examples from the test part (`parts: {calibration: test}`).
    """

    version: ClassVar[int] = 1
    reference: ClassVar[Paper] = Paper("Learning Multiple Layers of Features from Tiny Images", "Alex Krizhevsky", 2009)

    def sizes(self) -> dict[str, int]:
        return {"train": 8068, "test": 1017}

    def spec(self) -> Spec:
        return Spec("image", (32, 32, 3), classes=10, class_names=CIFAR10_NAMES)

    def files(self) -> tuple[Path, ...]:
        return tuple(
            data_file(f"cifar10/{name}.npz", "cifar10") for name in ("cifar10_train_subset", "cifar10_test_first1017")
        )

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "cifar10")
        if part == "train":
            x, y, positions = arrays(self.files()[0], "images", "labels", "index")
        else:
            x, y = arrays(self.files()[1], "images", "labels")
            positions = np.arange(len(x))
        return Examples(x, as_labels(y, len(x), 10, "cifar10"), ids_of(part, positions), self.spec())


@dataclass(frozen=True)
class Cifar10Jpeg(Checked):
    """All of CIFAR-10 after JPEG compression (quality 75, 4:2:0): 50,000 + 10,000 images in the original order.

    Not the original pixels: the mean absolute difference is 5.8 of 255. A real, mild shift for networks trained on
    the originals. Decoded with Pillow, whose version is part of the identity.
    """

    version: ClassVar[int] = 1
    reference: ClassVar[Paper] = Cifar10.reference

    def sizes(self) -> dict[str, int]:
        return {"train": 50_000, "test": 10_000}

    def spec(self) -> Spec:
        return Cifar10().spec()

    def files(self) -> tuple[Path, ...]:
        return tuple(data_file(f"cifar10/cifar10_{part}_jpeg.npz", "cifar10_jpeg") for part in ("train", "test"))

    def identity(self) -> dict[str, str]:
        from PIL import features

        return {"libjpeg": str(features.version("libjpeg_turbo") or features.version("jpg"))}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "cifar10_jpeg")
        return self.load_rows(part, np.arange(self.sizes()[part]))

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Decode only these positions."""
        from PIL import Image

        path = self.files()[0 if part == "train" else 1]
        data, offsets, y = arrays(path, "jpeg", "offsets", "labels")
        x = np.empty((len(rows), 32, 32, 3), dtype=np.uint8)
        for out, row in zip(x, rows, strict=True):
            out[...] = np.asarray(Image.open(io.BytesIO(data[offsets[row] : offsets[row + 1]].tobytes())))
        return Examples(x, as_labels(y[rows], len(rows), 10, str(path)), ids_of(part, rows), self.spec())


@dataclass(frozen=True)
class Gtsrb32(Checked):
    """German traffic signs: every third of the 12,630 test images, resized to 32x32 by their source; 43 classes."""

    version: ClassVar[int] = 1
    reference: ClassVar[Paper] = Paper(
        "The German Traffic Sign Recognition Benchmark: A multi-class classification competition",
        "Johannes Stallkamp, Marc Schlipsing, Jan Salmen, Christian Igel",
        2011,
        "IJCNN",
    )

    def sizes(self) -> dict[str, int]:
        return {"test": 4210}

    def spec(self) -> Spec:
        return Spec("image", (32, 32, 3), classes=43)

    def files(self) -> tuple[Path, ...]:
        return (data_file("gtsrb32/gtsrb32_test_every3rd.npz", "gtsrb32"),)

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "gtsrb32")
        x, y = arrays(self.files()[0], "images", "labels")
        return Examples(x, as_labels(y, len(x), 43, "gtsrb32"), ids_of(part, range(len(x))), self.spec())


@dataclass(frozen=True)
class Omniglot28(Checked):
    """Omniglot, the two small background sets: 242 characters of 8 alphabets x 20, white on black, 28x28.

    Derived: inverted and box-resized from 105x105. The class is the character, numbered through the alphabets.
    """

    version: ClassVar[int] = 1
    reference: ClassVar[Paper] = Paper(
        "Human-level concept learning through probabilistic program induction",
        "Brenden M. Lake, Ruslan Salakhutdinov, Joshua B. Tenenbaum",
        2015,
        "Science",
    )

    def sizes(self) -> dict[str, int]:
        return {"all": 4840}

    def spec(self) -> Spec:
        return Spec("image", (28, 28, 1), classes=242)

    def files(self) -> tuple[Path, ...]:
        return (data_file("omniglot28/omniglot_small_28x28.npz", "omniglot28"),)

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "omniglot28")
        x, alphabet, character = arrays(self.files()[0], "images", "alphabet", "character")
        _, y = np.unique(alphabet.astype(np.int64) * 1000 + character, return_inverse=True)
        return Examples(
            as_images(x, "omniglot28"),
            as_labels(y, len(x), 242, "omniglot28"),
            ids_of(part, range(len(x))),
            self.spec(),
        )

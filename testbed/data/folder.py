"""A folder of image files, one folder a class: `PATH/train/cat/1.png`, or `PATH/cat/1.png` (then one part, "all").

A first level made of nothing but known part names (train, test, val, validation, calibration) is read as parts.
Classes are the folder names in alphabetical order, and must be the same in every part; files are taken in alphabetical
order of their path.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from testbed.data.base import PART_START, check_part, ids_of, local_path, parts_of
from testbed.data.tables import decode, stack
from testbed.errors import DataError, UsageError
from testbed.parameters import Checked, Count
from testbed.types import Array, Examples, Spec

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True)
class ImageFolder(Checked):
    """Image files by class folder.

    size      side in pixels that every image is cropped and resized to; needed where sizes differ
    channels  1 or 3; by default what the first image has
    """

    path: str
    size: Count | None = None
    channels: Count | None = None

    version: ClassVar[int] = 2
    paths: ClassVar[tuple[str, ...]] = ("path",)

    def sizes(self) -> dict[str, int]:
        return {part: len(files) for part, files in self._parts.items()}

    def spec(self) -> Spec:
        first = self._image(next(iter(self._parts.values()))[0])
        channels = self.channels or first.shape[2]
        return Spec("image", (*first.shape[:2], channels), len(self._classes), class_names=self._classes)

    def files(self) -> tuple[Path, ...]:
        return tuple(file for files in self._parts.values() for file in files)

    def identity(self) -> dict[str, Any]:
        """Labels and parts: file contents alone do not say in which class folder of which part they lie."""
        return {"classes": [file.parent.name for file in self.files()], **parts_of(self._parts)}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "imagefolder")
        return self.load_rows(part, np.arange(self.sizes()[part]))

    def load_rows(self, part: str, rows: Array) -> Examples:
        """Decode only these positions."""
        files, spec = self._parts[part], self.spec()
        images = [self._image(files[row]) for row in rows]
        if images:
            from testbed.data.adapt import to_channels

            images = [to_channels(image, spec.shape[2]) for image in images]
        x = (
            stack(images, rows, f"data set 'imagefolder', part {part!r}")
            if images
            else np.empty((0, *spec.shape), np.uint8)
        )
        y = np.array([self._classes.index(files[row].parent.name) for row in rows], dtype=np.int64)
        return Examples(x, y, ids_of(part, rows, list(self._parts)), spec)

    @cached_property
    def _root(self) -> Path:
        return local_path(self.path, "data set 'imagefolder'")

    @cached_property
    def _parts(self) -> dict[str, list[Path]]:
        below = sorted(p for p in self._root.iterdir() if p.is_dir())
        split = below and all(p.name in PART_START and p.name != "all" for p in below)
        parts = {p.name: _images(p) for p in below} if split else {"all": _images(self._root)}
        if not any(parts.values()):
            raise UsageError(
                f"data set 'imagefolder': {self._root} holds no image files in class folders "
                f"({', '.join(sorted(SUFFIXES))})"
            )
        return parts

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        by_part = {part: sorted({f.parent.name for f in files}) for part, files in self._parts.items()}
        names = next(iter(by_part.values()))
        for part, found in by_part.items():
            if found != names:
                raise DataError(
                    f"data set 'imagefolder': part {part!r} has the classes {found}, another part has {names}"
                )
        return tuple(names)

    def _image(self, file: Path) -> Array:
        try:
            return decode(file.read_bytes(), self.size)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None


def _images(folder: Path) -> list[Path]:
    return sorted(f for f in folder.glob("*/*") if f.suffix.lower() in SUFFIXES)

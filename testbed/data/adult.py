"""UCI Adult, the census table of 48,842 people and whether they earn more than 50,000 dollars a year: mixed columns.

Stored as the files of `TESTBED_DATA/adult`: gzipped CSV with a header, 32,561 training and 16,281 test rows in the
official order. Every row becomes float32 `[14]`: numbers as they are, categories as their position in the sorted list
of spellings below, in which "?" (unknown: 7 % of the rows have one) is a category of its own. Bounds are constants
that cover both parts, so no row decides another one's scale.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np

from testbed.data.base import check_part, data_file, ids_of
from testbed.errors import DataError
from testbed.parameters import Checked
from testbed.types import Array, Examples, Ints, Paper, Spec

#: Column -> (low, high) of a number, or the categories in the order of their codes.
COLUMNS: Final[dict[str, tuple[float, float] | tuple[str, ...]]] = {
    "age": (17.0, 90.0),
    "workclass": (
        "?", "Federal-gov", "Local-gov", "Never-worked", "Private", "Self-emp-inc", "Self-emp-not-inc", "State-gov",
        "Without-pay",
    ),
    "fnlwgt": (12285.0, 1490400.0),
    "education": (
        "10th", "11th", "12th", "1st-4th", "5th-6th", "7th-8th", "9th", "Assoc-acdm", "Assoc-voc", "Bachelors",
        "Doctorate", "HS-grad", "Masters", "Preschool", "Prof-school", "Some-college",
    ),
    "education_num": (1.0, 16.0),
    "marital_status": (
        "Divorced", "Married-AF-spouse", "Married-civ-spouse", "Married-spouse-absent", "Never-married", "Separated",
        "Widowed",
    ),
    "occupation": (
        "?", "Adm-clerical", "Armed-Forces", "Craft-repair", "Exec-managerial", "Farming-fishing",
        "Handlers-cleaners", "Machine-op-inspct", "Other-service", "Priv-house-serv", "Prof-specialty",
        "Protective-serv", "Sales", "Tech-support", "Transport-moving",
    ),
    "relationship": ("Husband", "Not-in-family", "Other-relative", "Own-child", "Unmarried", "Wife"),
    "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
    "sex": ("Female", "Male"),
    "capital_gain": (0.0, 99999.0),
    "capital_loss": (0.0, 4356.0),
    "hours_per_week": (1.0, 99.0),
    "native_country": (
        "?", "Cambodia", "Canada", "China", "Columbia", "Cuba", "Dominican-Republic", "Ecuador", "El-Salvador",
        "England", "France", "Germany", "Greece", "Guatemala", "Haiti", "Holand-Netherlands", "Honduras", "Hong",
        "Hungary", "India", "Iran", "Ireland", "Italy", "Jamaica", "Japan", "Laos", "Mexico", "Nicaragua",
        "Outlying-US(Guam-USVI-etc)", "Peru", "Philippines", "Poland", "Portugal", "Puerto-Rico", "Scotland", "South",
        "Taiwan", "Thailand", "Trinadad&Tobago", "United-States", "Vietnam", "Yugoslavia",
    ),
}  # fmt: skip

INCOME: Final = ("<=50K", ">50K")


@dataclass(frozen=True)
class Adult(Checked):
    """UCI Adult; class 1 earns more than 50,000 dollars.

    groups  the subpopulations: of sex, of race, or of both together (10 groups, some with few members)

    >>> Adult().spec().shape, Adult().spec().categorical
    ((14,), (1, 3, 5, 6, 7, 8, 9, 13))
    """

    groups: Literal["sex", "race", "sex_and_race"] = "sex"

    version: ClassVar[int] = 1
    grouped: ClassVar[bool] = True
    reference: ClassVar[Paper] = Paper(
        "Scaling Up the Accuracy of Naive-Bayes Classifiers: a Decision-Tree Hybrid", "Ron Kohavi", 1996, "KDD"
    )

    def sizes(self) -> dict[str, int]:
        return {"train": 32_561, "test": 16_281}

    def spec(self) -> Spec:
        bounds = tuple(_bounds(kind) for kind in COLUMNS.values())
        categorical = tuple(i for i, kind in enumerate(COLUMNS.values()) if isinstance(kind[0], str))
        return Spec("tabular", (len(COLUMNS),), 2, "float32", "f", bounds, categorical, INCOME)

    def files(self) -> tuple[Path, ...]:
        return tuple(data_file(f"adult/adult_{part}.csv.gz", "adult") for part in ("train", "test"))

    def load(self, part: str) -> Examples:
        check_part(part, self.sizes(), "adult")
        path = self.files()[0 if part == "train" else 1]
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if header != [*COLUMNS, "income"] or len(rows) != self.sizes()[part]:
            wanted = f"{self.sizes()[part]} rows of {', '.join(COLUMNS)}, income"
            raise DataError(f"{path}: expected {wanted}; got {len(rows)} rows of {', '.join(header)}")
        cells = dict(zip(header, zip(*rows, strict=True), strict=True))
        x = np.stack([_coded(cells[name], kind, path, name) for name, kind in COLUMNS.items()], axis=1)
        y = _coded(cells["income"], INCOME, path, "income").astype(np.int64)
        groups, names = self._groups(x)
        return Examples(x, y, ids_of(part, range(len(x))), self.spec(), groups, names)

    def _groups(self, x: Array) -> tuple[Ints, tuple[str, ...]]:
        """The group of each row, and the names of the groups."""
        order = list(COLUMNS)
        sex, race = (x[:, order.index(name)].astype(np.int64) for name in ("sex", "race"))
        sexes, races = (tuple(map(str, COLUMNS[name])) for name in ("sex", "race"))
        if self.groups == "sex":
            return sex, sexes
        if self.groups == "race":
            return race, races
        return sex * len(races) + race, tuple(f"{one}, {other}" for one in sexes for other in races)


def _bounds(kind: tuple[float, float] | tuple[str, ...]) -> tuple[float, float]:
    low, high = kind[0], kind[1]
    return (0.0, len(kind) - 1.0) if isinstance(low, str) or isinstance(high, str) else (low, high)


def _coded(
    cells: tuple[str, ...], kind: tuple[float, float] | tuple[str, ...], path: Path, name: str
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """One column as float32: numbers as they are, categories as their codes."""
    codes = {spelling: float(i) for i, spelling in enumerate(kind) if isinstance(spelling, str)}
    try:
        return np.array([codes[cell] for cell in cells] if codes else [float(cell) for cell in cells], np.float32)
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: column {name!r} holds {str(error)!r}, which it should not") from None

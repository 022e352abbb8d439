"""Reading a table's folder: which figures were published, where ours come from, and what is allowed between them.

Columns of published.csv
    row, figure  the place in the paper's table
    published    the printed number; empty where there is none
    tolerance    largest difference that passes, stated before the run; empty: reported, not judged
    unit         percent (100 x ours), error (100 x (1 - ours)), number
    ours         `rows: CONDITION`, SQL over results.parquet that meets one row
                 `stored: NAME WORD...`, a function of `testbed.papers.stored` on the probabilities behind the rows
                 `order: MODEL METRIC CALIBRATOR=PRINTED ...`, the strict orders that ours reverses significantly
                 `compute: NAME ARGUMENT...`, a function of `testbed.papers.compute` or `package.module:function`,
                 called with the words behind it, which gives (value, low, high, n)
                 `not attempted: REASON`
                 The first three read the run of grid.yaml; `rows@NAME:` and so on that of NAME.yaml, a grid of users
                 who have its data and weights: where they are not there, its figures are not attempted
    source       where the printed number stands
    verified     yes where we read it there; a number without yes is not printed and not judged against
    quick        yes where the row belongs to the quick run, shown where it does and is not judged there

Tables are looked for in experiments/papers below the working folder, then in the packages that the entry-point group
`testbed.papers` names: one folder a table. The built-in ones are such a package, so they are in the wheel too.
"""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Literal

from testbed.errors import EnvironmentProblem, UsageError, nearest
from testbed.papers.needs import Needs, read_needs

COLUMNS: Final = ("row", "figure", "published", "tolerance", "unit", "ours", "source", "verified", "quick")
Unit = Literal["percent", "error", "number"]
FROM_RUNS: Final = ("rows", "stored", "order")
KINDS: Final = (*FROM_RUNS, "compute", "not attempted")


@dataclass(frozen=True)
class Figure:
    """One figure of a published table, and how ours is had."""

    row: str
    figure: str
    published: float | None
    tolerance: float | None
    unit: Unit
    ours: str
    source: str
    verified: bool
    quick: bool
    judged_quick: bool = True

    @property
    def kind(self) -> str:
        """Where ours comes from: rows, stored, order, compute or not attempted."""
        return self.ours.partition(":")[0].partition("@")[0]

    @property
    def run(self) -> str | None:
        """The name of the grid whose run ours is read from, "" for grid.yaml; None where it needs no run.

        >>> figure = Figure("", "", None, None, "number", "rows@full: model = 'a'", "", True, True)
        >>> figure.kind, figure.run, figure.words
        ('rows', 'full', "model = 'a'")
        """
        return self.ours.partition(":")[0].partition("@")[2] if self.kind in FROM_RUNS else None

    @property
    def words(self) -> str:
        """What stands behind the first colon."""
        return self.ours.partition(":")[2].strip()


@dataclass(frozen=True)
class Table:
    """A published table: its folder's name, its figures, the overrides of the quick run, its notes, what it needs."""

    key: str
    folder: Path
    figures: tuple[Figure, ...]
    quick: tuple[str, ...]
    title: str
    notes: str
    needs: Needs

    def runs(self, quick: bool) -> tuple[str, ...]:
        """The names of the grids that its figures need, in quick mode those of its quick figures."""
        wanted = [figure.run for figure in self.figures if figure.run is not None and (figure.quick or not quick)]
        return tuple(dict.fromkeys(wanted))

    def grid(self, run: str = "") -> Path:
        """The grid of this name; "" is grid.yaml."""
        return self.folder / f"{run or 'grid'}.yaml"


def shelves() -> tuple[Path, ...]:
    """The folders whose sub-folders are tables."""
    found = [Path.cwd() / "experiments" / "papers"]
    for point in sorted(entry_points(group="testbed.papers"), key=lambda p: p.name):
        spec = importlib.util.find_spec(point.value)
        if spec is None or not spec.submodule_search_locations:
            raise EnvironmentProblem(
                f"the entry point {point.name!r} of testbed.papers names {point.value!r}, which is no installed package"
            )
        found += [Path(place) for place in spec.submodule_search_locations]
    return tuple(dict.fromkeys(place.resolve() for place in found))


def keys() -> list[str]:
    """The names of all tables at hand."""
    return sorted({found.parent.name for shelf in shelves() for found in shelf.glob("*/published.csv")})


def open_table(key: str) -> Table:
    """The table of this name, or in this folder."""
    for folder in (*(shelf / key for shelf in shelves()), Path(key)):
        if (folder / "published.csv").is_file():
            return _read(folder)
    raise UsageError(f"no published table {key!r}; {nearest(key, keys())}")


def _read(folder: Path) -> Table:
    path = folder / "published.csv"
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UsageError(
                f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(reader.fieldnames or ())}"
            )
        figures = tuple(_figure(record, f"{path}:{line}") for line, record in enumerate(reader, start=2))
    title, _, notes = _text(folder / "README.md").partition("\n")
    overrides = tuple(line for line in _text(folder / "quick.txt").splitlines() if line.strip())
    table = Table(
        folder.resolve().name,
        folder,
        figures,
        overrides,
        title.lstrip("# ") or folder.name,
        notes.strip(),
        read_needs(folder / "needs.yaml"),
    )
    for run in table.runs(quick=False):
        if not table.grid(run).is_file():
            raise UsageError(f"{path}: a figure is read from the run of {table.grid(run).name}, which is not there")
    return table


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _figure(record: dict[str, str], where: str) -> Figure:
    kind = record["ours"].partition(":")[0].partition("@")[0]
    if record["unit"] not in ("percent", "error", "number") or kind not in KINDS:
        raise UsageError(f"{where}: unit {record['unit']!r} or source of ours {kind!r} is not known")
    try:
        published, tolerance = (float(record[name]) if record[name] else None for name in ("published", "tolerance"))
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    if published is not None and record["verified"] not in ("yes", "no"):
        raise UsageError(f"{where}: verified: expected yes or no beside a published figure, got {record['verified']!r}")
    unit: Unit = record["unit"]  # type: ignore[assignment]
    published = published if record["verified"] == "yes" else None
    return Figure(
        record["row"],
        record["figure"],
        published,
        tolerance,
        unit,
        record["ours"],
        record["source"],
        record["verified"] == "yes",
        record["quick"] in ("yes", "shown"),
        record["quick"] != "shown",
    )

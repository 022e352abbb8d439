"""A tiny real grid (scikit-learn's digits, one small net trained for one epoch) and ways to run it."""

import copy
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from testbed.grid.planner import plan
from testbed.runner.run import Settings, run_plan

TINY = {
    "name": "tiny",
    "data": [{"use": "digits", "train": 600, "calibration": 200, "test": 100}],
    "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 2}}],
    "conditions": ["clean", {"attack": "fgsm", "norm": "linf", "eps": 0.1}],
    "calibrators": ["none", "temperature"],
    "metrics": ["accuracy", "ece"],
    "intervals": {"replicates": 50},
}


@pytest.fixture
def tiny():
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory):
    """One store for all tests that do not look into it: the net is trained once."""
    return tmp_path_factory.mktemp("store")


class Runs:
    """Runs grids in one folder against one store."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store, self.count = folder, store, 0

    def __call__(self, grid, **settings):
        self.count += 1
        planned = plan(self.write(grid))
        given = {"executor": "serial", "page": False, "store": str(self.store), **settings}
        return run_plan(planned, Settings(**{"out": self.folder / f"run{self.count}", **given}))

    def write(self, grid):
        path = self.folder / "grid.yaml"
        yaml = YAML(typ="safe", pure=True)
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(grid, file)
        return path


@pytest.fixture
def runs(tmp_path, shared_store):
    return Runs(tmp_path, shared_store)


@pytest.fixture
def runs_alone(tmp_path):
    """Runs against a store of their own."""
    return Runs(tmp_path, tmp_path / "store")


def rows_of(finished, **where):
    """The rows of a run whose columns have these values."""
    return [row for row in finished.table.to_pylist() if all(row[key] == value for key, value in where.items())]


def started(finished):
    """Kinds of the jobs that a run started."""
    lines = (finished.folder / "events.jsonl").read_text().splitlines()
    return [e["kind"] for e in map(json.loads, lines) if e["event"] == "started"]


@pytest.fixture
def look():
    """`look.rows(finished, ...)` and `look.started(finished)`."""

    class Look:
        rows = staticmethod(rows_of)
        started = staticmethod(started)

    return Look

"""Streams end to end in one process: shared artifacts, reruns, the table, the summary on a terminal."""

import copy

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from testbed.cli import app, guarded
from testbed.grid.stream import plan_stream
from testbed.runner.monitor import run_stream
from testbed.runner.run import Settings
from testbed.types import STREAM, STREAM_VERSION

DEPLOYED = {
    "name": "deployed",
    "data": {"use": "digits", "train": 600, "calibration": 200, "test": 100},
    "model": {"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 2}},
    "stream": [
        {"steps": 200},
        {"condition": {"attack": "fgsm", "norm": "linf", "eps": 0.1}, "steps": 200},
        {"steps": 100, "wrong_labels": 0.5},
    ],
    "label_delay": 30,
    "batch": 25,
    "calibrators": ["none", "temperature", "windowed_temperature"],
    "drift": {"window": 50, "reference": 100, "level": 0.02, "permutations": 60},
    "rolling": {"window": 100, "every": 50, "replicates": 50},
    "rollback": {"window": 50},
}


@pytest.fixture
def deployed():
    return copy.deepcopy(DEPLOYED)


@pytest.fixture
def write(tmp_path):
    def written(value):
        path = tmp_path / "stream.yaml"
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(value, file)
        return path

    return written


@pytest.fixture
def monitored(tmp_path, shared_store, write):
    """Replay a stream into a folder; the kinds of the jobs that were started, too."""

    def go(value, folder="out"):
        kinds = []

        def listen(event):
            kinds.extend([event.job.kind] if event.name == "started" else [])

        settings = Settings(out=tmp_path / folder, store=str(shared_store), executor="serial", page=False)
        return run_stream(plan_stream(write(value)), settings, listen), kinds

    return go


def test_a_stream_reuses_a_grid_and_a_rerun_runs_nothing(deployed, tiny, runs, monitored):
    runs(tiny)
    first, kinds = monitored(deployed)
    assert first.outcome.ok
    assert set(kinds) == {"calibrate", "replay"}
    again, kinds = monitored(deployed, "again")
    assert kinds == []
    one, other = (done.folder / "stream.parquet" for done in (first, again))
    assert one.read_bytes() == other.read_bytes()


def test_the_table_has_its_schema_and_every_scope(deployed, monitored):
    done, _ = monitored(deployed)
    table = pq.read_table(done.folder / "stream.parquet")
    rows = table.to_pylist()
    assert list(table.column_names) == list(STREAM)
    assert table.schema.metadata[b"testbed_schema_version"] == str(STREAM_VERSION).encode()
    assert {r["scope"] for r in rows} == {"rolling", "drift", "episode", "update", "segment", "stream", "detector"}
    assert {r["run"] for r in rows} == {"deployed"} and {r["model"] for r in rows} == {"net"}
    assert [r["step"] for r in rows] == sorted(r["step"] for r in rows)
    titles = dict.fromkeys(r["condition"] for r in rows if r["scope"] == "segment")
    assert list(titles) == ["clean", "fgsm linf 0.1", "clean, 50% wrong labels"]
    assert done.passes == 5


def test_accuracy_of_a_segment_is_that_of_the_grid(deployed, tiny, runs, monitored, look):
    """Two passes over the test split of 100: every example twice."""
    grid = runs(tiny)
    done, _ = monitored(deployed)
    rows = pq.read_table(done.folder / "stream.parquet").to_pylist()
    for segment, condition in enumerate(("clean", "fgsm")):
        theirs = look.rows(grid, condition=condition, calibrator="none", metric="accuracy")[0]["value"]
        (mine,) = [
            r
            for r in rows
            if (r["scope"], r["segment"], r["calibrator"], r["metric"]) == ("segment", segment, "none", "accuracy")
        ]
        assert mine["value"] == pytest.approx(theirs)


def test_the_command_prints_a_summary(deployed, write, tmp_path, shared_store, capsys):
    path = write(deployed)
    given = ["monitor", str(path), "--store", str(shared_store), "--executor", "serial", "--out", str(tmp_path / "o")]
    code = guarded(lambda: app(args=given, prog_name="testbed"))
    printed = capsys.readouterr().out
    assert code == 0
    assert (tmp_path / "o" / "monitor.html").stat().st_size > 100_000
    for words in ("whole stream", "windowed_temperature", "Drift detectors", "updates rolled back", "came round"):
        assert words in printed


def test_check_runs_nothing(deployed, write, tmp_path, capsys):
    given = ["monitor", str(write(deployed)), "--store", str(tmp_path / "empty"), "--check"]
    code = guarded(lambda: app(args=given, prog_name="testbed"))
    assert code == 0
    assert "jobs" in capsys.readouterr().out
    assert not (tmp_path / "empty" / "manifests").exists()


def test_a_mistake_is_a_place_and_exit_code_2(deployed, write, capsys):
    deployed["stream"][0]["stpes"] = 1
    code = guarded(lambda: app(args=["monitor", str(write(deployed))], prog_name="testbed"))
    assert code == 2
    assert "stream[0].stpes: unknown key; did you mean 'steps'?" in capsys.readouterr().err

"""`testbed run` with the options that change what is run."""

import json
from pathlib import Path

import pytest

from testbed.cli import monitor, run
from testbed.runner import progress

GRID = """\
name: small
data: [{use: digits, train: 200, calibration: 100, test: 50}]
models: [{use: small-cnn, train: {epochs: 1}}]
calibrators: [none]
metrics: [accuracy]
intervals: {replicates: 20}
"""


def test_redo_makes_one_artifact_again_and_refuses_a_digest_of_no_job(tmp_path, testbed_command) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    grid, store = tmp_path / "grid.yaml", ["--store", tmp_path / "store", "--out", tmp_path / "run", "--no-report"]
    first = testbed_command("run", grid, "--executor", "serial", "--json", *store)
    assert first.code == 0
    score = next(e for e in map(json.loads, first.out.splitlines()) if e["event"] == "started" and e["kind"] == "score")

    again = testbed_command("run", grid, "--executor", "serial", "--json", *store, "--redo", score["digest"])
    unknown = testbed_command("run", grid, *store, "--redo", "nonsense")

    started = [e["digest"] for e in map(json.loads, again.out.splitlines()) if e["event"] == "started"]
    assert (again.code, started) == (0, [score["digest"]])
    assert unknown.code == 2 and "no such job" in unknown.err and "--jobs" in unknown.err


class Asked(Exception):
    """Raised where a command would begin to show progress."""


@pytest.mark.parametrize("command", ["run", "monitor"])
def test_planned_costs_reach_the_time_left(command, tmp_path, monkeypatch) -> None:
    def asked(style, jobs, stream=None):
        raise Asked(sum(sum(job.cost.values()) for job in jobs))

    monkeypatch.setattr(progress, "progress", asked)
    (tmp_path / "grid.yaml").write_text(GRID)
    stream = Path(__file__).resolve().parents[2] / "experiments" / "stream.yaml"
    with pytest.raises(Asked) as caught:
        run.run(tmp_path / "grid.yaml") if command == "run" else monitor.monitor(stream)
    assert caught.value.args[0] > 0

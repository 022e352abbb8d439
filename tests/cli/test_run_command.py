"""`testbed run` with the options that change what is run."""

import json

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

"""kill -9 of the driver of a real grid at 20 random points: a rerun gives the same bytes and starts nothing twice."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 20


def drive(grid: Path, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "testbed", "run", str(grid), "--executor", "serial", "--no-report", "--json"]
    command += ["--out", str(folder / "run"), "--store", str(folder / "store")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err


def published(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "store" / "manifests").rglob("*.json")}


def started(folder: Path) -> set[str]:
    lines = (folder / "run" / "events.jsonl").read_text().splitlines()
    return {event["digest"] for event in map(json.loads, lines) if event["event"] == "started"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_driver_killed_at_twenty_random_points(tiny, runs, tmp_path):
    grid = runs.write(tiny)
    whole = tmp_path / "undisturbed"
    begin = time.monotonic()
    finish(drive(grid, whole))
    length = time.monotonic() - begin
    expected = (whole / "run" / "results.parquet").read_bytes()
    rng = random.Random(0)
    for kill in range(KILLS):
        folder = tmp_path / f"kill{kill}"
        process = drive(grid, folder)
        time.sleep(rng.uniform(0.1, 1.0) * length)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = published(folder)
        finish(drive(grid, folder))
        assert (folder / "run" / "results.parquet").read_bytes() == expected, f"kill {kill}"
        assert not before & started(folder), f"kill {kill}: a finished job was started again"

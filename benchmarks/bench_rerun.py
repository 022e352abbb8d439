"""What a rerun costs that has nothing to do: the whole process `testbed run GRID` on a finished grid.

    python benchmarks/bench_rerun.py [--severities 2] [--against PYTHON]

A grid on scikit-learn's digits (two nets, eight shifts at so many severities, two attacks, three calibrators, three
detectors, two OOD sets) is run once into a temporary store: 1,342 jobs with two severities, 6,166 with eleven. Then
`testbed run` is started again three times and the best is printed, with the parts of it, which are measured in this
process. `--against` names another Python with testbed in it (an older checkout): its rerun of the same folder is timed
in turn with ours, so that both see the same load.

Bar: 3 s for 1,000 jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHIFTS = ["gaussian_noise", "fog", "brightness", "contrast", "impulse_noise", "shot_noise", "pixelate", "gaussian_blur"]


def grid(severities: int) -> dict[str, Any]:
    """The grid; JSON is YAML."""
    levels = [1 + 4 * i / max(1, severities - 1) for i in range(severities)]
    net = {"use": "small-cnn", "train": {"recipe": "standard", "epochs": 1}}
    return {
        "name": "rerun",
        "data": [{"use": "digits", "train": 400, "calibration": 200, "test": 100}],
        "models": [{**net, "name": "one"}, {**net, "name": "two", "train": {"recipe": "standard", "epochs": 2}}],
        "conditions": [
            "clean",
            {"shift": SHIFTS, "severity": levels},
            {"attack": "fgsm", "norm": "linf", "eps": [0.05, 0.1]},
        ],
        "calibrators": ["none", "temperature", "vector"],
        "detectors": ["msp", "energy", "knn"],
        "ood": [{"use": ["blobs", "uniform"], "limit": 100, "group": "far"}],
        "metrics": ["accuracy", "ece", "auroc"],
        "intervals": {"replicates": 100},
    }


def run(python: str, folder: Path, out: str) -> tuple[float, float]:
    """Wall and CPU seconds of one `testbed run` in a process of its own."""
    command = [python, "-m", "testbed", "run", "grid.yaml", "--out", out, "--executor", "serial", "--store", "store"]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu


def best(times: Sequence[tuple[float, float]]) -> str:
    """The least wall and CPU seconds."""
    return f"{min(w for w, _ in times):6.2f} s wall {min(c for _, c in times):6.2f} s CPU"


def parts(folder: Path) -> None:
    """Where the time of a rerun goes, in this process."""
    from testbed.grid.planner import plan
    from testbed.runner import driver
    from testbed.runner.operations import reads
    from testbed.runner.run import PAGE, executor, write_folder  # noqa: F401 - what a run imports
    from testbed.runner.serial import Serial
    from testbed.runner.worker import Setting
    from testbed.store import Store

    store, times = Store(folder / "store"), {}
    begin = time.perf_counter()
    planned = plan(folder / "grid.yaml")
    times["plan"] = time.perf_counter() - begin
    begin = time.perf_counter()
    workers = Serial(Setting("testbed.runner.operations:perform", store.url))
    outcome = driver.run(planned.jobs, planned.wanted, store, workers, driver.Options(reads=reads))
    times["driver"] = time.perf_counter() - begin
    begin = time.perf_counter()
    write_folder(planned, store, folder / "ours", outcome, page=True)
    times["tables and page"] = time.perf_counter() - begin
    print("  of it " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items()), flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--severities", type=int, default=2, help="how many of each shift")
    parser.add_argument("--against", help="another Python with testbed in it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "grid.yaml").write_text(json.dumps(grid(given.severities)), encoding="utf-8")
        first = run(sys.executable, folder, "ours")
        jobs = len(json.loads((folder / "ours" / "plan.json").read_text(encoding="utf-8"))["jobs"])
        print(f"{jobs} jobs: first run {first[0]:.1f} s wall {first[1]:.1f} s CPU", flush=True)
        pythons = {"ours": sys.executable} | ({"theirs": given.against} if given.against else {})
        for out in pythons.keys() - {"ours"}:
            shutil.copytree(folder / "ours", folder / out)
        times: dict[str, list[tuple[float, float]]] = {out: [] for out in pythons}
        for _ in range(3):
            for out, python in pythons.items():
                times[out].append(run(python, folder, out))
        for out in pythons:
            print(f"rerun, {out:<6} {best(times[out])}   bar 3 s a 1,000 jobs", flush=True)
        if given.against:
            ratio = min(c for _, c in times["ours"]) / min(c for _, c in times["theirs"])
            print(f"  ours / theirs {ratio:.2f} x CPU", flush=True)
        parts(folder)


if __name__ == "__main__":
    main()

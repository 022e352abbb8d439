"""What a grid costs beside its work: planning, rerunning, start-up, and everything that is neither model nor attack.

    python benchmarks/bench_grid.py

plan       a grid of 10,000 cells, from YAML to frozen plan, in a fresh process (bar: 2 s)
rerun      a finished grid of about 1,000 jobs run again, in a fresh process (bar: 3 s)
help       `testbed --help`, in a fresh process (bar: 0.3 s)
overhead   2 models x 4 calibrators x 20 conditions, serial: whole run time against the sum of training, attack and
           forward jobs, which nothing can save (bar: 1.15 x)
Times are the smallest of a few runs on this machine; load on it only adds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONDITIONS = """\
  - clean
  - {shift: [gaussian_noise, fog, motion_blur, rotate], severity: [1, 3, 5]}
  - {attack: [fgsm, {use: pgd, steps: 40}], norm: linf, eps: [0.05, 0.1, 0.2]}
  - {attack: {use: pgd, steps: 100, restarts: 2}, norm: l2, eps: 1.0}
"""
MODELS = """\
models:
  - {use: small-cnn, name: standard, train: {recipe: standard, epochs: 8}}
  - {use: small-cnn, name: adversarial, train: {recipe: fgsm-rs, eps: 0.2, epochs: 8}}
"""
OVERHEAD = f"""\
name: overhead
data: [{{use: mnist5k, calibration: 1000, test: 1000}}]
{MODELS}conditions:
{CONDITIONS}calibrators: [none, temperature, platt, isotonic]
metrics: [accuracy, ece, nll, brier]
"""
CELLS = f"""\
name: cells
data: [{{use: mnist5k, calibration: 1000, test: 1000}}]
{MODELS}train_seeds: [0, 1]
conditions:
{CONDITIONS}calibrators: [none, temperature, platt, isotonic]
detectors: [msp, energy, knn, mahalanobis]
ood: [{{use: [gaussian, uniform, blobs], limit: 200}}]
metrics: [accuracy, ece, nll, brier, auroc, fpr95]
"""
THOUSAND = """\
name: thousand
data: [{use: digits, train: 400, calibration: 200, test: 100}]
models: [{use: small-cnn, train: {epochs: 1}}]
train_seeds: [0, 1, 2, 3]
conditions:
  - clean
  - {shift: [gaussian_noise, fog], severity: [1, 2, 3, 4, 5]}
calibrators: [none, temperature, platt, isotonic]
detectors: [msp, energy]
ood: [{use: [gaussian, uniform], limit: 50}]
metrics: [accuracy, ece, auroc]
intervals: {replicates: 20}
"""
PLAN = "import sys, testbed.grid.planner as p; x = p.plan(sys.argv[1]); print(len(x.cells), len(x.jobs))"


def clocked(command: list[str], cwd: Path, runs: int = 3) -> tuple[float, str]:
    """Smallest wall time of a command over some runs, and what it printed last."""
    best, out = float("inf"), ""
    for _ in range(runs):
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        best, out = min(best, time.perf_counter() - begin), done.stdout
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
    return best, out


def main() -> None:
    """Print the four rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["plan", "rerun", "help", "overhead"])
    only = parser.parse_args().only
    folder = Path(tempfile.mkdtemp(prefix="bench-grid-"))
    os.environ["TESTBED_STORE"] = str(folder / "store")
    for name, text in (("overhead", OVERHEAD), ("cells", CELLS), ("thousand", THOUSAND)):
        (folder / f"{name}.yaml").write_text(text)
    testbed = [sys.executable, "-m", "testbed"]
    if only in (None, "help"):
        print(f"help      {clocked([*testbed, '--help'], folder, 5)[0]:.2f} s   (bar 0.3 s)", flush=True)
    if only in (None, "plan"):
        seconds, out = clocked([sys.executable, "-c", PLAN, "cells.yaml"], folder)
        cells, jobs = out.split()
        print(f"plan      {seconds:.2f} s for {cells} cells, {jobs} jobs   (bar 2 s for 10,000 cells)", flush=True)
    if only in (None, "rerun"):
        run = [*testbed, "run", "thousand.yaml", "--executor", "serial", "--no-report", "--json"]
        clocked(run, folder, 1)
        seconds, _ = clocked(run, folder)
        jobs = clocked([sys.executable, "-c", PLAN, "thousand.yaml"], folder, 1)[1].split()[1]
        print(f"rerun     {seconds:.2f} s for {jobs} finished jobs   (bar 3 s for 1,000)", flush=True)
    if only in (None, "overhead"):
        overhead(folder, testbed)


def overhead(folder: Path, testbed: list[str]) -> None:
    """Run the 2 x 4 x 20 grid once and set its whole time against its irreducible jobs."""
    import pyarrow.parquet as pq

    run = [*testbed, "run", "overhead.yaml", "--executor", "serial", "--json", "--out", "out"]
    whole, _ = clocked(run, folder, 1)
    kinds: dict[str, float] = {}
    for row in pq.read_table(folder / "out" / "jobs.parquet", columns=["kind", "seconds"]).to_pylist():
        kinds[row["kind"]] = kinds.get(row["kind"], 0.0) + row["seconds"]
    needed = sum(kinds.get(kind, 0.0) for kind in ("train", "attack", "forward"))
    print(
        f"overhead  {whole / needed:.3f} x = {whole:.1f} s whole / {needed:.1f} s train, attack, forward   (bar 1.15 x)"
    )
    print(
        "          "
        + ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in sorted(kinds.items(), key=lambda k: -k[1]))
    )


if __name__ == "__main__":
    main()

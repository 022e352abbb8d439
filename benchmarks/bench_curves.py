"""Security curves from one sweep against one run for each budget: cost and largest difference.

    TESTBED_DATA=... python benchmarks/bench_curves.py --net cnn_a --n 200 --attacks pgd,apgd,autoattack

Eight budgets, from half to four thirds of the net's own. `cost` is the sweep over the dearest single run, in model
evaluations (a backward counts as two forwards) and in CPU seconds, one thread; `gap` the largest difference of robust
accuracy between the sweep and the run alone at a budget, in points. Foolbox, which runs a budget after the other, would
pay the sum of the single runs, which is the last column.

With `--grid` the same as two conditions of a grid, `curve: true` and not, on mnist_cnn_a_adv, in a new store: CPU
seconds of the jobs that make the attacked sets (`sets`) and of those that run the model on them too, of the curve over
the dearest budget alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from attack_subjects import DATA, NETS, load

import testbed
from testbed.perturb.curve import Curve, sweep

PARAMS: dict[str, dict[str, Any]] = {"pgd": {"steps": 40}, "apgd": {}, "autoattack": {}}


def evaluations(gradients: int, queries: int) -> int:
    """Evaluations in forward passes: every gradient is a query too, and its backward counts as two."""
    return queries + 2 * gradients


def bench(name: str, model: Any, x: Any, y: Any, largest: float, norm: str) -> None:
    """One attack: the sweep, then each budget alone, in this process."""
    levels = np.linspace(largest / 2, largest * 4 / 3, 8)
    at = lambda eps: testbed.attack(name, norm=norm, eps=float(eps), **PARAMS[name])
    began = time.process_time()
    curve: Curve = sweep(at, levels.tolist(), model, x, y)
    cpu = time.process_time() - began
    alone, costs, times = [], [], []
    for eps in levels:
        began = time.process_time()
        result = at(eps).run(model, x, y)
        times.append(time.process_time() - began)
        alone.append(result.robust_accuracy)
        costs.append(evaluations(int(result.gradients.sum()), int(result.queries.sum())))
    spent = evaluations(curve.gradients, curve.queries)
    swept, single = (np.round(100 * np.asarray(rates), 1).tolist() for rates in (curve.robust_accuracy, alone))
    gap = np.abs(np.array(swept) - np.array(single))
    print(
        f"{name:<12}{spent / max(costs):>8.2f}{cpu / max(times):>8.2f}{gap.max():>8.2f}{sum(costs) / max(costs):>9.2f}"
        f"   sweep {swept}  alone {single}",
        flush=True,
    )


def in_a_grid(name: str, n: int) -> None:
    """The attack as a curve of a grid and budget by budget, each in a new store, after a small grid to warm up."""
    levels = np.linspace(0.15, 0.4, 8).tolist()
    run_grid("fgsm", [0.1], 50, curve=False)
    (swept, scored), accuracy = run_grid(name, levels, n, curve=True)
    (alone, outputs), expected = run_grid(name, levels, n, curve=False)
    sets = sum(swept.values()) / max(alone.values())
    both = (sum(swept.values()) + sum(scored.values())) / (max(alone.values()) + max(outputs.values()))
    gap = max(abs(accuracy[eps] - expected[eps]) for eps in levels)
    print(f"{name:<12} sets {sets:.2f}  with their outputs {both:.2f}  gap {100 * gap:.2f}", flush=True)


def run_grid(name: str, levels: list[float], n: int, *, curve: bool) -> Any:
    """CPU seconds of the jobs that attack and of those that score, by their labels, and the accuracies."""
    attack = {"attack": {"use": name, **PARAMS.get(name, {})}, "norm": "linf", "eps": levels, "name": "swept"}
    grid = {
        "name": f"curve-{name}",
        "data": [{"use": "mnist", "train": 100, "calibration": 100, "test": n}],
        "models": [{"use": "small-cnn", "weights": str(DATA / "weights" / "mnist_cnn_a_adv.safetensors")}],
        "conditions": [{**attack, "curve": curve}],
        "metrics": ["accuracy"],
        "intervals": {"replicates": 20},
    }
    with tempfile.TemporaryDirectory() as folder:
        out, settings = Path(folder) / "run", {"executor": "serial", "page": False}
        table = testbed.evaluate(grid, out=out, store=str(Path(folder) / "store"), **settings).to_pylist()
        jobs = pq.read_table(out / "jobs.parquet").to_pylist()
    spent: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for job in jobs:
        if job["kind"] in ("attack", "sweep", "level", "forward"):
            where = spent[job["kind"] == "forward"]
            label = job["label"].split(" [")[0]
            where[label] = where.get(label, 0.0) + job["cpu_seconds"]
    return spent, {row["eps"]: row["value"] for row in table if row["metric"] == "accuracy"}


def main() -> None:
    """Read the options and print a line an attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="cnn_a", choices=sorted(NETS))
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--norm", default="linf", choices=["linf", "l2"])
    parser.add_argument("--attacks", default="pgd,apgd,autoattack")
    parser.add_argument("--saved", type=Path, default=None, help="folder with fgsm_rs.safetensors")
    parser.add_argument("--grid", action="store_true", help="as conditions of a grid")
    options = parser.parse_args()
    if options.grid:
        for name in options.attacks.split(","):
            in_a_grid(name, options.n)
        return
    torch.set_num_threads(1)
    model, x, y = load(options.net, options.n, options.saved)
    print(f"{options.net} {options.norm} n={len(x)}, 8 budgets")
    print(f"{'attack':<12}{'cost':>8}{'CPU':>8}{'gap':>8}{'8 runs':>9}")
    for name in options.attacks.split(","):
        bench(name, model, x, y, getattr(NETS[options.net], options.norm), options.norm)


if __name__ == "__main__":
    main()

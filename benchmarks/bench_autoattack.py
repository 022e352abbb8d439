"""AutoAttack standard: verdicts and CPU time against pyautoattack 0.2.0, both run in turn in this process.

    TESTBED_DATA=... python benchmarks/bench_autoattack.py --nets kw,resnet2b --n 100 --seeds 2

A net a block. `robust` is the share of n random test images no stage fooled; `CPU` process time, one thread; `outside`
the part of it not spent in the model's forward or backward; `forward` and `backward` are example evaluations. `ours`
ends hopeless runs (see testbed_attacks.autoattack), `exhaustive` spends the reference's budget. The last line counts
the images that two runs judge differently: ours against the reference, and each among its own seeds and batches. With
`--contested` the n images are those close to the budget, where differences are: the count then speaks for all the
images that were looked at. With `--saved` runs are kept in a folder and not repeated; ratios of runs that were not made
side by side are then less exact.

The reference is skipped where it is not importable:
    pip install --no-deps --target DIR pyautoattack==0.2.0; PYTHONPATH=DIR python benchmarks/bench_autoattack.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attack_subjects import NETS, Run, contested, kept, load, noted, ours, reference

#: Label of a run -> what makes it.
Plan = dict[str, Callable[[], Any]]


def plan(name: str, module: torch.nn.Module, x: Any, y: Any, options: argparse.Namespace) -> Plan:
    """The runs of one net, reference first."""
    ball: dict[str, Any] = {"norm": options.norm, "eps": options.eps or getattr(NETS[name], options.norm)}
    one = lambda attack, seed, **more: lambda: ours(module, x, y, attack, seed, **ball, **more)
    theirs = lambda seed, batch: lambda: reference(module, x, y, **ball, seed=seed, batch=batch)
    seeds = range(options.seeds)
    runs: Plan = {}
    if find_spec("pyautoattack") is None:
        print("pyautoattack is not installed: ours alone")
    else:
        runs |= {f"reference {seed}": theirs(seed, 250) for seed in seeds}
        runs |= {"reference b50": theirs(0, 50)} if options.seeds > 1 else {}
    runs |= {f"ours {seed}": one("autoattack", seed) for seed in seeds}
    runs |= {"exhaustive 0": one("autoattack", 0, exhaustive=True)} if options.exhaustive else {}
    runs |= {"fast 0": one("autoattack_fast", 0)} if options.norm != "l1" else {}
    return {label: run for label, run in runs.items() if label.split()[0] in options.runs.split(",")}


def bench(name: str, options: argparse.Namespace) -> None:
    """One net's block."""
    saved = Path(options.saved) if options.saved else None
    module, x, y = load(name, None if options.contested else options.n, saved)
    eps, kind = options.eps or getattr(NETS[name], options.norm), ""
    if options.contested:
        note = saved and saved / f"{name}-{options.norm}-contested-{options.n}.json"
        rows, looked = noted(note, lambda: contested(module, x, y, options.norm, eps, options.n))
        x, y, kind = x[rows], y[rows], f" contested of {looked}"
    folder = None if saved is None else saved / f"{name}-{options.norm}-{eps:.4g}-{len(x)}{kind.replace(' ', '-')}"
    heads = f"{'run':<14}{'robust':>8}{'CPU s':>9}{'ratio':>7}{'outside':>9}{'forward':>10}{'backward':>10}"
    print(f"\n{name}  {options.norm} {eps:.4g}  n={len(x)}{kind}\n{heads}")
    done: dict[str, Run] = {}
    for label, attack in plan(name, module, x, y, options).items():
        run = done[label] = kept(folder and folder / f"{label.replace(' ', '-')}.json", module, attack)
        ratio = run.cpu / next(iter(done.values())).cpu
        print(
            f"{label:<14}{run.verdicts.mean():>8.4f}{run.cpu:>9.2f}{ratio:>7.2f}{run.outside:>9.1%}"
            f"{run.forward:>10}{run.backward:>10}",
            flush=True,
        )
    print(agreement(done))


def agreement(runs: Mapping[str, Run]) -> str:
    """How many images two runs judge differently: ours against the reference, and each kind among itself.

    The p-value is that of the two kinds being one: the share of all ways to call as many runs ours in which ours and
    the reference are as far apart (mean over pairs, less the means within).
    """
    theirs, mine = ([run.verdicts for name, run in runs.items() if name.startswith(k)] for k in ("reference", "ours"))
    pool, size = np.array([*theirs, *mine]), len(theirs)
    apart = (pool[:, None] != pool[None]).sum(2)
    between, within = apart[:size, size:], [apart[i, i] for i in (slice(0, size), slice(size, None))]
    words = [("ours against reference", between.ravel())]
    words += [
        (f"{who} among itself", part[np.triu_indices(len(part), 1)]) for who, part in zip(("reference", "ours"), within)
    ]
    says = [f"{what} {v.min()} to {v.max()}, mean {v.mean():.2f}" for what, v in words if len(v)]
    if min(size, len(mine)) > 1:
        says.append(f"p = {_permuted(apart, size):.2f}")
    return "images judged differently: " + "; ".join(says)


def _permuted(apart: Any, size: int) -> float:
    def statistic(first: tuple[int, ...]) -> float:
        second = [i for i in range(len(apart)) if i not in first]
        within = [apart[np.ix_(part, part)].sum() / (len(part) * (len(part) - 1)) for part in (first, second)]
        return float(apart[np.ix_(first, second)].mean() - sum(within) / 2)

    seen = [statistic(first) for first in combinations(range(len(apart)), size)]
    return sum(value >= statistic(tuple(range(size))) - 1e-9 for value in seen) / len(seen)


def main() -> None:
    """Parse the command line and print the blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="kw,cnn_a,resnet2b,resnet4b")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--norm", choices=["linf", "l2", "l1"], default="linf")
    parser.add_argument("--eps", type=float, help="instead of the net's own")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--exhaustive", action="store_true", help="also without ending hopeless runs")
    parser.add_argument("--runs", default="reference,ours,exhaustive,fast", help="which kinds of run")
    parser.add_argument("--contested", action="store_true", help="n images whose verdict is in doubt, not any n")
    parser.add_argument("--saved", help="folder of runs already made, and of the net trained here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.nets.split(","):
        bench(name, options)


if __name__ == "__main__":
    main()

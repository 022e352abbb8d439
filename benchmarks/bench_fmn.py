"""FMN beside foolbox's: median distance, gradients an image and CPU time, in four norms.

    TESTBED_DATA=... python benchmarks/bench_fmn.py --nets kw,cnn_a --n 200

Both with 100 steps and their own default step sizes, in turn in this process. `median` is over the rightly classified
images, infinite where an attack does not fool an image; foolbox's distance is that of the image it returned, if that
image is misclassified. `paired` is the median ratio over the images that both fool.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from attack_subjects import NETS, load

import testbed

FOOLBOX = {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack", "l0": "L0FMNAttack"}

VERIFIES = [{"names": ["fmn"], "by": "measurement", "against": "foolbox 3.3.4 FMN: median distance, CPU time, 4 norms"}]


def timed(name: str, norm: str, net: Any, x: Any, y: Any) -> tuple[Any, float]:
    """A run and its CPU seconds."""
    began = time.process_time()
    out = testbed.attack(name, norm=norm).run(net, x, y)
    return out, time.process_time() - began


def row(net: Any, x: Any, y: Any, norm: str) -> str:
    """One norm."""
    ours, cpu = timed("fmn", norm, net, x, y)
    theirs, their_cpu = timed(f"foolbox:{FOOLBOX[norm]}", norm, net, x, y)
    right = ours.first_step != 0
    mine, other = (np.where(out.success, out.distance, np.inf)[right] for out in (ours, theirs))
    both = np.isfinite(mine) & np.isfinite(other)
    return (
        f"{norm:<6}{np.median(mine):>9.4f}{np.median(other):>9.4f}{np.median(mine) / np.median(other):>8.3f}"
        f"{np.median(mine[both] / other[both]):>8.3f}{np.isfinite(mine).mean():>8.3f}{np.isfinite(other).mean():>8.3f}"
        f"{ours.gradients[right].mean():>8.1f}{theirs.gradients[right].mean():>8.1f}{cpu:>7.1f}{their_cpu:>7.1f}"
    )


def main() -> None:
    """Read the options and print a line a norm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="kw,cnn_a", help="of " + ", ".join(sorted(NETS)))
    parser.add_argument("--n", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in options.nets.split(","):
        net, x, y = load(name, options.n, None)
        print(f"{name}, {options.n} images: ours, foolbox's")
        print("norm     median           ratio  paired  fooled       gradients         CPU s")
        for norm in FOOLBOX:
            print(row(net, x, y, norm), flush=True)


if __name__ == "__main__":
    main()

"""Minimum-norm attacks beside foolbox's: median distance, gradients an image and CPU time at equal steps.

    TESTBED_DATA=... python benchmarks/bench_minimum_norm.py --nets kw,cnn_a --n 100
    TESTBED_DATA=... python benchmarks/bench_minimum_norm.py --attacks cw,ead --n 20

Both in turn in this process. `fmn` has 100 steps, as has `ddn`, and each its own step sizes; the others have the
parameters of SUBJECTS. `cw+` and `ead+` end runs that make no progress, foolbox's by the sum over the batch.

`median` is over the rightly classified images, infinite where an attack does not fool an image; foolbox's distance is
that of the image it returned, if that image is misclassified, and not black, which its C&W and EAD return where they
find none. `paired` is the median ratio over the images that both fool.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from attack_subjects import NETS, load

import testbed


class Subject(NamedTuple):
    """An attack in a norm, foolbox's class and the parameters both are given."""

    name: str
    norm: str
    foolbox: str
    params: dict[str, Any]


CW = {"steps": 1000, "binary_search_steps": 5, "initial_const": 1.0}
EAD = {"steps": 500, "binary_search_steps": 5, "initial_const": 1.0}
SUBJECTS = [
    Subject("fmn", "linf", "LInfFMNAttack", {}),
    Subject("fmn", "l2", "L2FMNAttack", {}),
    Subject("fmn", "l1", "L1FMNAttack", {}),
    Subject("fmn", "l0", "L0FMNAttack", {}),
    Subject("ddn", "l2", "DDNAttack", {}),
    Subject("deepfool", "l2", "L2DeepFoolAttack", {}),
    Subject("deepfool", "linf", "LinfDeepFoolAttack", {}),
    Subject("cw", "l2", "L2CarliniWagnerAttack", {**CW, "abort_early": False}),
    Subject("cw+", "l2", "L2CarliniWagnerAttack", {**CW, "abort_early": True}),
    Subject("ead", "l1", "EADAttack", {**EAD, "abort_early": False}),
    Subject("ead+", "l1", "EADAttack", {**EAD, "abort_early": True}),
]

VERIFIES = [
    {
        "names": ["fmn", "ddn", "deepfool", "cw", "ead"],
        "by": "measurement",
        "against": "foolbox 3.3.4 of that name: median distance, CPU time, all norms",
    }
]


def timed(name: str, subject: Subject, net: Any, x: Any, y: Any) -> tuple[Any, float]:
    """A run and its CPU seconds."""
    began = time.process_time()
    out = testbed.attack(name, norm=subject.norm, **subject.params).run(net, x, y)
    return out, time.process_time() - began


def row(net: Any, x: Any, y: Any, subject: Subject) -> str:
    """One attack in one norm."""
    ours, cpu = timed(subject.name.rstrip("+"), subject, net, x, y)
    theirs, their_cpu = timed(f"foolbox:{subject.foolbox}", subject, net, x, y)
    right = ours.first_step != 0
    black = (theirs.x == 0).flatten(1).all(1).numpy()
    mine = np.where(ours.success, ours.distance, np.inf)[right]
    other = np.where(theirs.success & ~black, theirs.distance, np.inf)[right]
    both = np.isfinite(mine) & np.isfinite(other)
    return (
        f"{subject.name:<9}{subject.norm:<5}{np.median(mine):>9.4f}{np.median(other):>9.4f}"
        f"{np.median(mine) / np.median(other):>8.3f}{np.median(mine[both] / other[both]):>8.3f}"
        f"{np.isfinite(mine).mean():>8.3f}{np.isfinite(other).mean():>8.3f}"
        f"{ours.gradients[right].mean():>8.1f}{theirs.gradients[right].mean():>8.1f}"
        f"{cpu:>8.1f}{their_cpu:>8.1f}{cpu / their_cpu:>8.2f}"
    )


def main() -> None:
    """Read the options and print a line an attack and norm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default="kw,cnn_a", help="of " + ", ".join(sorted(NETS)))
    parser.add_argument("--attacks", default="fmn,ddn,deepfool,cw,ead", help="cw and ead include cw+ and ead+")
    parser.add_argument("--n", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in options.nets.split(","):
        net, x, y = load(name, options.n, None)
        print(f"{name}, {len(x)} images: ours, foolbox's")
        print("attack   norm    median           ratio  paired  fooled       gradients          CPU s            ratio")
        for subject in SUBJECTS:
            if subject.name.rstrip("+") in options.attacks.split(","):
                print(row(net, x, y, subject), flush=True)


if __name__ == "__main__":
    main()

"""What the fast tier misses: its robust accuracy less that of AutoAttack standard, on the same images of every net.

    TESTBED_DATA=... python benchmarks/gap_autoattack_fast.py --saved DIR [--nets kw,resnet2b] [--n 10000]

Images come in a fixed random order, in blocks of 250 that are kept in DIR, so that a run can be gone on with; without
--n all test images are taken. `attacks/autoattack_fast_gap.json` gets a row a net that DIR has blocks of, and keeps
those of other nets: n, both robust accuracies, the gap in points with a 95 % interval for paired proportions (Newcombe
1998, method 10), the price.

On the Wong-Kolter nets images whose verdict the dual bound proves (testbed.papers.dual_bound) are not attacked: no
attack can fool them. Their number is in the row, and the price is that of the others.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attack_subjects import NETS, images, kept, net, noted, ours

from testbed.papers.dual_bound import margins

FILE = Path(__file__).parents[1] / "attacks" / "autoattack_fast_gap.json"
BLOCK = 250
PROVABLE = ("kw", "kw_fashion", "kw_scaled")
TIERS = {"standard": "autoattack", "fast": "autoattack_fast"}

VERIFIES = [
    {
        "names": ["autoattack_fast"],
        "by": "measurement",
        "against": "autoattack standard on the same images: attacks/autoattack_fast_gap.json",
    }
]


def block(name: str, module: torch.nn.Module, x: Any, y: Any, folder: Path, number: int) -> None:
    """Attack one block by both tiers, leaving out what is proved."""
    eps = NETS[name].linf
    proved = noted(folder / f"proved-{number}.json", lambda: _proved(name, module, x, y, eps))
    rows = torch.tensor([row for row in range(len(x)) if row not in set(proved["rows"])])
    for tier, attack in TIERS.items():
        file = folder / f"{tier}-{number}.json"
        kept(file, module, lambda attack=attack: ours(module, x[rows], y[rows], attack, 0, norm="linf", eps=eps))


def _proved(name: str, module: torch.nn.Module, x: Any, y: Any, eps: float) -> dict[str, Any]:
    """Rows that no perturbation within eps can fool, by the dual bound, and what it cost."""
    if name not in PROVABLE:
        return {"rows": [], "cpu": 0.0}
    begin, found = time.process_time(), []
    for start in range(0, len(x), 20):
        low = margins(module, x[start : start + 20], y[start : start + 20], eps)
        low[torch.arange(len(low)), y[start : start + 20]] = float("inf")
        found += [start + int(row) for row in torch.nonzero(low.amin(1) > 1e-4).flatten()]
    return {"rows": found, "cpu": time.process_time() - begin}


def row(folder: Path, total: int) -> dict[str, Any]:
    """The row of a net, of all whole blocks in its folder."""
    numbers = [n for n in range(math.ceil(total / BLOCK)) if all((folder / f"{t}-{n}.json").is_file() for t in TIERS)]
    proved = [json.loads((folder / f"proved-{n}.json").read_text()) for n in numbers]
    runs = {t: [json.loads((folder / f"{t}-{n}.json").read_text()) for n in numbers] for t in TIERS}
    skipped = sum(len(p["rows"]) for p in proved)
    stands = {t: np.array([v for run in runs[t] for v in run["robust"]], dtype=bool) for t in TIERS}
    n = skipped + len(stands["fast"])
    missed, extra = (int((stands[a] & ~stands[b]).sum()) for a, b in (("fast", "standard"), ("standard", "fast")))
    both = skipped + int((stands["fast"] & stands["standard"]).sum())
    low, high = paired_interval(both, missed, extra, n)
    cpu = {t: sum(run["cpu"] for run in runs[t]) for t in TIERS}
    return {
        "n": n,
        "of": total,
        "proved": skipped,
        "standard": round(100 * (both + extra) / n, 3),
        "fast": round(100 * (both + missed) / n, 3),
        "gap": round(100 * (missed - extra) / n, 3),
        "ci_low": round(100 * low, 3),
        "ci_high": round(100 * high, 3),
        "fooled_by_standard_only": missed,
        "fooled_by_fast_only": extra,
        "price": round(cpu["fast"] / cpu["standard"], 3),
    }


def paired_interval(both: int, first: int, second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of paired proportions (Newcombe 1998, method 10).

    `both` counts the images where both hold, `first` and `second` those where only one does.

    >>> [round(bound, 3) for bound in paired_interval(36, 12, 2, 53)]
    [0.051, 0.324]
    """
    neither = n - both - first - second
    a, b = both + first, both + second
    (l1, u1), (l2, u2) = wilson(a, n), wilson(b, n)
    p1, p2 = a / n, b / n
    spread = a * b * (n - a) * (n - b)
    cross = both * neither - first * second
    phi = 0.0 if spread == 0 else (max(cross - n / 2, 0) if cross > 0 else cross) / math.sqrt(spread)
    down = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    up = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    return p1 - p2 - math.sqrt(max(down, 0.0)), p1 - p2 + math.sqrt(max(up, 0.0))


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % score interval of a proportion."""
    middle, half = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    return (middle - half) / (n + z * z), (middle + half) / (n + z * z)


def main() -> None:
    """Attack what is missing, then write the file from all that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saved", required=True, type=Path, help="folder of blocks, and of the net trained here")
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--n", type=int, help="images a net; all where absent, 0 = only write the file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.nets.split(","):
        x, y = images(NETS[name])
        order = np.random.default_rng(5).permutation(len(x))[: options.n]
        module = net(name, options.saved) if len(order) else torch.nn.Identity()
        for start in range(0, len(order), BLOCK):
            rows = order[start : start + BLOCK]
            block(name, module, x[rows], y[rows], options.saved / f"gap-{name}", start // BLOCK)
            print(name, start + len(rows), row(options.saved / f"gap-{name}", len(x)), flush=True)
    table = json.loads(FILE.read_text(encoding="utf-8"))["nets"]
    table |= {name: row(folder, len(images(NETS[name])[0])) for name, folder in _folders(options.saved)}
    note = "python benchmarks/gap_autoattack_fast.py; linf, the eps of benchmarks/attack_subjects.py; points"
    FILE.write_text(json.dumps({"made_by": note, "nets": table}, indent=1) + "\n", encoding="utf-8")


def _folders(saved: Path) -> list[tuple[str, Path]]:
    return [(name, saved / f"gap-{name}") for name in NETS if (saved / f"gap-{name}" / "fast-0.json").is_file()]


if __name__ == "__main__":
    main()

"""All detectors that need only cached outputs: a bank of 50,000 x 64, scores of 10,000 ID and 10,000 OOD examples.

Bar: at most 20 s in all (fits and scores) and 2 GB of memory above the imports, on 2 cores. Prints wall and CPU seconds
a detector and their sums, and the peak resident memory above what the imports took. The similarity pass that several
detectors share is a row of its own. Beside it, where pytorch-ood can be imported: its KNN on the same bank.

    python benchmarks/bench_detection.py [bank rows] [query rows] [width] [classes]
"""

from __future__ import annotations

import resource
import sys
import time
import warnings

import numpy as np

from testbed import plugins
from testbed.detection import similarity
from testbed.types import Outputs

EXTRA = {"weighted_energy": {"weights": (1.0,) * 10}}


def outputs(rng: np.random.Generator, n: int, d: int, k: int, spread: float) -> Outputs:
    """Outputs of a made-up classifier: rectified clusters, logits from a fixed head."""
    head = np.random.default_rng(0).normal(size=(k, d)).astype(np.float32)
    labels = rng.integers(0, k, n)
    z = np.maximum(spread * head[labels] + rng.normal(size=(n, d)), 0).astype(np.float32)
    bias = np.zeros(k, dtype=np.float32)
    return Outputs((0.2 * z @ head.T).astype(np.float32), z, labels, np.arange(n), 0.2 * head, bias)


def peak() -> int:
    """Peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(work):
    """(result, wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Fit and score everything once; print the table."""
    warnings.simplefilter("ignore")
    bank_rows, rows, d, k = [int(a) for a in sys.argv[1:]] + [50_000, 10_000, 64, 10][len(sys.argv) - 1 :]
    rng = np.random.default_rng(1)
    bank, inside, outside = (
        outputs(rng, bank_rows, d, k, 1.0),
        outputs(rng, rows, d, k, 1.0),
        outputs(rng, rows, d, k, 0.3),
    )
    EXTRA["weighted_energy"]["weights"] = (1.0,) * k
    import scipy.special  # noqa: F401 - an import, not work

    known = {name: plugins.read("detector", name) for name in plugins.installed("detector")}
    cached = {name: plugin for name, plugin in known.items() if "inputs" not in plugin.facts["consumes"]}
    cached.pop("knn_faiss", None)  # for banks of millions, and an extra
    built = {name: plugin.build(**EXTRA.get(name, {})) for name, plugin in cached.items()}
    before, table = peak(), []
    for name, detector in built.items():
        _, wall, cpu = timed(lambda d=detector: d.fit(bank))
        table.append([name, wall, cpu, 0.0, 0.0])
    searching = [d for d in built.values() if hasattr(d, "need")]
    _, wall, cpu = timed(lambda: [similarity.share(searching, o) for o in (inside, outside)])
    table.append(["(shared similarity passes)", 0.0, 0.0, wall, cpu])
    for row, detector in zip(table, built.values(), strict=False):
        _, row[3], row[4] = timed(lambda d=detector: [d.score(o) for o in (inside, outside)])
    print(f"bank {bank_rows} x {d}, {k} classes, {rows} ID + {rows} OOD, {len(built)} detectors")
    print(f"{'detector':28s} {'fit s':>8s} {'cpu':>8s} {'score s':>8s} {'cpu':>8s}")
    for name, *numbers in sorted(table, key=lambda r: -(r[1] + r[3])):
        print(f"{name:28s} " + " ".join(f"{x:8.3f}" for x in numbers))
    total = np.array([row[1:] for row in table]).sum(axis=0)
    print(f"{'all':28s} " + " ".join(f"{x:8.3f}" for x in total))
    wall, cpu = total[0] + total[2], total[1] + total[3]
    print(f"total {wall:.1f} s wall, {cpu:.1f} s CPU; bar 20 s: ratio {wall / 20:.2f}")
    memory = peak() - before
    print(f"peak memory above imports and data {memory / 1e9:.2f} GB; bar 2 GB: ratio {memory / 2e9:.2f}")
    peer(bank, inside, outside)


def peer(bank: Outputs, inside: Outputs, outside: Outputs) -> None:
    """pytorch-ood's KNN on the same bank, where it can be imported."""
    try:
        import torch

        sys.modules.setdefault("torchvision._meta_registrations", type(sys)("torchvision._meta_registrations"))
        from pytorch_ood.detector import KNN
    except ImportError as error:
        print(f"peer: pytorch-ood is not importable here ({error}); no ratio")
        return
    other = KNN(None, k=50)
    _, fit, _ = timed(lambda: other.fit_features(torch.from_numpy(bank.features), torch.from_numpy(bank.labels)))
    _, score, _ = timed(lambda: [other.predict_features(torch.from_numpy(o.features)) for o in (inside, outside)])
    similarity.forget()
    mine = plugins.read("detector", "knn").build()
    _, ours, _ = timed(lambda: [mine.fit(bank).score(o) for o in (inside, outside)])
    print(f"peer: KNN alone, pytorch-ood {fit + score:.2f} s, ours {ours:.2f} s: ratio {ours / (fit + score):.2f}")


if __name__ == "__main__":
    main()

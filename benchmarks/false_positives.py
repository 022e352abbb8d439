"""How often a paired comparison of two models of equal worth finds a difference anywhere, and how often it finds one.

    python benchmarks/false_positives.py [families]

Two noisy copies of one network of ten classes are compared in accuracy, NLL, Brier score and ECE, on the whole set and
on each class, as `testbed compare` does: Holm after Tarone over the whole sets and over the parts. Balanced classes,
and classes whose sizes fall by half each. Printed per setting: the share of families in which anything was called
better or worse (nominal .05), and how many of the tests could have rejected at all. Then the power of McNemar's test.
"""

from __future__ import annotations

import sys

import numpy as np

from testbed.calibration.inputs import softmax
from testbed.metrics.bootstrap import Draws
from testbed.metrics.calibration_error import Ece
from testbed.metrics.comparison import compare, judged
from testbed.metrics.power import mcnemar_power
from testbed.metrics.scores import Accuracy, Brier, Nll
from testbed.metrics.slices import slices

METRICS = {"accuracy": Accuracy(), "nll": Nll(), "brier": Brier(), "ece": Ece()}
SETTINGS = [(n, tail) for n in (50, 300, 2000) for tail in (False, True)]


def family(n: int, long_tail: bool, seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities `[n, 10]` of two equally good models, and labels `[n]`."""
    rng = np.random.default_rng([seed, n, long_tail])
    share = 0.5 ** np.arange(10) if long_tail else np.ones(10)
    y = rng.choice(10, size=n, p=share / share.sum())
    z = rng.normal(size=(n, 10)) + 2.5 * np.eye(10)[y]
    p, q = (softmax(2.0 * (z + noise * rng.normal(size=z.shape))) for _ in range(2))
    return p, q, y


def false_positives(n: int, long_tail: bool, families: int) -> tuple[float, float, float, float]:
    """Share of families with a finding, whole sets and parts; and share of tests that could reject, likewise."""
    found, could = np.zeros(2), np.zeros(2)
    for seed in range(families):
        p, q, y = family(n, long_tail, seed)
        draws = Draws(seed, n, 200)
        both = compare(METRICS, p, q, y, draws, slices(y))
        for i, tests in enumerate(judged([d for d in both if (d.part == "all") == whole]) for whole in (True, False)):
            found[i] += any(d.verdict in ("better", "worse") for d in tests)
            could[i] += np.mean([d.verdict != "too few to tell" for d in tests])
    return (*(found / families), *(could / families))


def main(families: int) -> None:
    """Print both tables."""
    print("| n | classes | whole sets | parts | could reject, whole | parts |\n| --- | --- | --- | --- | --- | --- |")
    for n, tail in SETTINGS:
        rates = false_positives(n, tail, families)
        named = "halving" if tail else "balanced"
        print(f"| {n} | {named} | " + " | ".join(f"{rate:.3f}" for rate in rates) + " |", flush=True)
    print(f"\n{families} families a row\n")
    print("Power, +.05 accuracy at n = 300\n\n| lost | alone | among 4 | among 40 |\n| --- | --- | --- | --- |")
    for lost in (0, 0.01, 0.03, 0.05, 0.1):
        row = (mcnemar_power(300, lost, lost + 0.05, 0.05 / size) for size in (1, 4, 40))
        print(f"| {lost:g} | " + " | ".join(f"{power:.2f}" for power in row) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)

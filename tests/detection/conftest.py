"""A small classifier's outputs, made without torch: ID clusters, a fitted linear head, OOD off the clusters."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from testbed.types import Outputs


class World(NamedTuple):
    """Outputs of one model: a labelled bank, held-out ID examples, and OOD examples."""

    train: Outputs
    test: Outputs
    ood: Outputs


def make_world(n: int = 400, d: int = 16, k: int = 5, seed: int = 0) -> World:
    """ID features: relu(class prototype + noise); the head is the least-squares fit of scaled one-hot targets.

    OOD features are weaker, lie between the prototypes and spill into directions the bank hardly uses.
    """
    rng = np.random.default_rng(seed)
    prototypes = np.zeros((k, d))
    for c in range(k):
        prototypes[c, 2 * c : 2 * c + 3] = 3.0

    def features(labels):
        return np.maximum(prototypes[labels] + rng.normal(0, 0.5, (len(labels), d)), 0).astype(np.float32)

    y_train, y_test = rng.integers(0, k, n), rng.integers(0, k, n // 2)
    z_train, z_test = features(y_train), features(y_test)
    design = np.c_[z_train, np.ones(n)].astype(np.float64)
    targets = 6.0 * np.eye(k)[y_train] - 1.0
    solution = np.linalg.solve(design.T @ design + 1e-3 * np.eye(d + 1), design.T @ targets)
    weight, bias = solution[:-1].T.astype(np.float32), solution[-1].astype(np.float32)
    mixed = 0.25 * (prototypes[rng.integers(0, k, n // 2)] + prototypes[rng.integers(0, k, n // 2)])
    spill = np.zeros((n // 2, d))
    spill[:, 12:] = rng.gamma(2.0, 0.6, (n // 2, d - 12))
    z_ood = np.maximum(mixed + spill + rng.normal(0, 0.5, (n // 2, d)), 0).astype(np.float32)

    def outputs(z, y):
        return Outputs((z @ weight.T + bias).astype(np.float32), z, y.astype(np.int64), np.arange(len(z)), weight, bias)

    return World(outputs(z_train, y_train), outputs(z_test, y_test), outputs(z_ood, np.full(n // 2, -1)))


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture
def only():
    """Outputs reduced to the named parts: what is not consumed is gone (logits become a matrix of NaN)."""

    def reduce(outputs: Outputs, parts: tuple[str, ...]) -> Outputs:
        kept = outputs
        if "features" not in parts:
            kept = replace(kept, features=None)
        if "head" not in parts:
            kept = replace(kept, head_weight=None, head_bias=None)
        if "logits" not in parts:
            kept = replace(kept, logits=np.full_like(outputs.logits, np.nan))
        return kept

    return reduce

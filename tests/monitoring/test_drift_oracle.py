"""Drift tests against alibi-detect 0.13.0: tests/golden/drift_alibi.json, by make_drift_alibi.py beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from testbed.metrics.drift import ks_drift, label_drift, mmd_drift

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "drift_alibi.json").read_text())


def outputs(n, seed, mean):
    """As in tests/golden/make_drift_alibi.py."""
    z = np.random.default_rng(seed).normal(size=(n, 3))
    z[:, 0] += mean
    e = np.exp(2 * z)
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("mean", sorted(GOLDEN))
def test_ks_is_the_largest_distance_and_bonferronis_p(mean):
    theirs = GOLDEN[mean]
    found = ks_drift(outputs(80, 0, 0.0), outputs(60, 1, float(mean)))

    assert found.statistic == pytest.approx(max(theirs["ks"]), abs=1e-7)
    assert found.p_value == pytest.approx(min(1.0, 3 * min(theirs["ks_p"])), rel=1e-5)


@pytest.mark.parametrize("mean", sorted(GOLDEN))
def test_bbsd_is_the_chi_squared_test_of_predictions(mean):
    theirs = GOLDEN[mean]
    found = label_drift(outputs(80, 0, 0.0), outputs(60, 1, float(mean)))

    assert found.statistic == pytest.approx(theirs["chi"], rel=1e-5)
    assert found.p_value == pytest.approx(theirs["chi_p"], rel=1e-5)


@pytest.mark.parametrize("mean", sorted(GOLDEN))
def test_mmd_has_the_same_statistic_and_a_p_value_within_the_permutations_spread(mean):
    theirs = GOLDEN[mean]
    found = mmd_drift(outputs(80, 0, 0.0), outputs(60, 1, float(mean)), permutations=2000)

    assert found.statistic == pytest.approx(theirs["mmd"], abs=1e-6)
    spread = np.sqrt(max(theirs["mmd_p"] * (1 - theirs["mmd_p"]), 1e-4) / 2000)
    assert found.p_value == pytest.approx(theirs["mmd_p"], abs=5 * spread)

"""Calibrators against the field's own packages, on values written by tests/golden/make_calibration_golden.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from testbed import plugins
from testbed.calibration.beta import Beta
from testbed.calibration.inputs import log_probs, softmax
from testbed.calibration.platt import log_odds, sigmoid
from testbed.calibration.venn_abers import brackets

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "calibration.json").read_text())
LOGITS, LABELS, TEST = (np.array(GOLDEN["inputs"][name]) for name in ("logits", "labels", "test"))

#: Largest difference allowed, each a little above the one found; SVS and SMS are solved in float32 there.
CASES = {
    "temperature netcal": 1e-6,
    "temperature probmetrics": 1e-6,
    "histogram netcal 10": 1e-6,
    "isotonic probmetrics": 1e-6,
    "ets probmetrics": 1e-5,
    "svs probmetrics": 5e-4,
    "sms probmetrics": 1e-3,
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_agree(case: str) -> None:
    name, _, *bins = case.split()
    plugin = plugins.read("calibrator", name)
    cal = plugin.build(**({"bins": int(bins[0])} if bins else {})).fit(LOGITS, LABELS)

    assert np.abs(cal.probs(TEST) - np.array(GOLDEN["calibrators"][case])).max() < CASES[case]


def test_beta_curve_is_betacals() -> None:
    a, b, c = Beta().fit(LOGITS, LABELS).state()["coefficients"][0]
    inside = log_probs(TEST)[:, 0]
    outside = log_odds(TEST)[:, 0] - inside

    got = sigmoid(a * inside + b * outside + c)

    assert np.abs(got - np.array(GOLDEN["calibrators"]["beta betacal"])).max() < 5e-4


def test_venn_abers_curve_is_its_packages() -> None:
    scores, lower, upper = brackets(softmax(LOGITS)[:, 0], (LABELS == 0).astype(float))
    x = softmax(TEST)[:, 0]
    place = np.searchsorted(scores, x) + np.searchsorted(scores, x, side="right")

    got = upper[place] / (1 - lower[place] + upper[place])

    assert np.abs(got - np.array(GOLDEN["calibrators"]["venn_abers package"])).max() < 1e-6

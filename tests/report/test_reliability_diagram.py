"""Reliability bins against a hand count and against the ECE that the run states."""

import math

import numpy as np
import pytest

from testbed.report.load import read_run
from testbed.report.reliability import BINS, reliability


@pytest.fixture(scope="module")
def entries(synthetic_run):
    return reliability(read_run(synthetic_run))


def test_bins_hold_every_labelled_example_once(entries) -> None:
    assert len(entries) == 13 * 3  # 14 sets, one of which failed; OOD sets have no labels
    for entry in entries:
        assert sum(one["n"] for one in entry["bins"]) == entry["n"] == 200
        assert math.isclose(sum(one["share"] for one in entry["bins"]), 1, abs_tol=1e-4)


def test_bins_against_a_count_by_hand(entries, synthetic_run) -> None:
    entry = next(
        e for e in entries if (e["model"], e["condition"], e["calibrator"]) == ("standard", "fog s3", "temperature")
    )
    sql = (
        "SELECT confidence['temperature'] AS c, correct FROM samples WHERE model = 'standard' AND condition = 'fog s3'"
    )
    rows = read_run(synthetic_run).select(sql)
    confidence, correct = np.array([r["c"] for r in rows]), np.array([r["correct"] for r in rows])
    for one in entry["bins"]:
        inside = (confidence > one["from"] + 1e-6 - 1e-6) & (confidence <= one["to"] + 1e-6)
        assert inside.sum() == one["n"]
        assert one["accuracy"] == pytest.approx(correct[inside].mean(), abs=1e-5)
        assert one["confidence"] == pytest.approx(confidence[inside].mean(), abs=1e-5)


def test_gaps_add_up_to_the_ece_of_the_run(entries, synthetic_run) -> None:
    stated = {
        (r["model"], r["condition"], r["severity"], r["eps"], r["calibrator"]): r["value"]
        for r in read_run(synthetic_run).rows
        if r["metric"] == "ece"
    }
    entry = next(
        e for e in entries if (e["model"], e["condition"], e["calibrator"]) == ("adversarial", "clean", "none")
    )
    gap = sum(one["share"] * abs(one["accuracy"] - one["confidence"]) for one in entry["bins"])
    assert gap == pytest.approx(stated["adversarial", "clean", None, None, "none"], abs=2e-3)


def test_a_calibrator_is_judged_by_its_own_decisions(tmp_path, write_run) -> None:
    """Two examples of class 1: the model says 0 and the calibrator says 1 with confidence 0.9."""
    run = read_run(write_run(tmp_path / "r", images=False))
    run.connection.execute(
        "CREATE OR REPLACE VIEW samples AS SELECT 'd' AS dataset, 'm' AS model, 0 AS train_seed, 0 AS seed, "
        "'clean' AS condition, NULL::VARCHAR AS condition_id, 1 AS label, MAP {'none': 0, 'platt': 1} AS decision, "
        "MAP {'none': 0.9, 'platt': 0.9} AS confidence FROM range(2)"
    )
    found = {entry["calibrator"]: entry["bins"][0]["accuracy"] for entry in reliability(run)}
    assert found == {"none": 0.0, "platt": 1.0}


def test_edges_belong_to_the_bin_below(tmp_path, write_run) -> None:
    """Closed on the right: a confidence of exactly 1 is in the last bin, one of 0 in the first."""
    run = read_run(write_run(tmp_path / "r", images=False))
    run.connection.execute(
        "CREATE OR REPLACE VIEW samples AS SELECT 'd' AS dataset, 'm' AS model, 0 AS train_seed, 0 AS seed, "
        "'clean' AS condition, NULL::VARCHAR AS condition_id, 1 AS label, MAP {'none': 1} AS decision, "
        "MAP {'none': v} AS confidence "
        "FROM (VALUES (0.0), (1.0), ('nan'::DOUBLE), (0.2)) t(v)"
    )
    (entry,) = reliability(run)
    assert [(one["from"], one["n"]) for one in entry["bins"]] == [
        (0.0, 1),
        (pytest.approx(2 / BINS, abs=1e-6), 1),
        (pytest.approx(14 / BINS, abs=1e-6), 1),
    ]

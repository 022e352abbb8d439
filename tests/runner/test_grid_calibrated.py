"""Attacks through a calibrator in a grid: what is shared, what is attacked anew, what the numbers mean."""

import pyarrow.parquet as pq
import pytest

from testbed.grid.planner import plan

GRID = {
    "name": "through",
    "data": [{"use": "mnist5k", "train": 500, "calibration": 500, "test": 300}],
    "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 20}}],
    "conditions": [
        "clean",
        {
            "attack": [{"use": "pgd", "steps": 10}, {"use": "calibration_attack", "steps": 20}],
            "norm": "linf", "eps": 0.05, "victim": ["model", "calibrated"],
        },
    ],
    "calibrators": ["none", "temperature", "isotonic"],
    "metrics": ["accuracy", "ece"],
    "intervals": {"replicates": 50},
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from testbed.runner.run import Settings, run_plan

    folder = tmp_path_factory.mktemp("through")
    settings = Settings(out=folder / "run", store=str(folder / "store"), executor="serial", page=False)
    done = run_plan(plan(GRID), settings)
    assert done.outcome.ok, done.outcome.errors()
    return done


def value(finished, look, condition, victim, calibrator, metric):
    where = {"condition": condition, "victim": victim, "calibrator": calibrator, "metric": metric}
    (row,) = look.rows(finished, **where)
    assert row["status"] == "ok"
    return row["value"]


def decisions(finished, condition, victim, calibrator):
    """Example id -> the class that the calibrated model gives it under a condition."""
    rows = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    through = " on calibrated" if victim == "calibrated" else ""
    label = {"clean": "clean"}.get(condition, f"{condition} linf 0.05{through}")
    given = {
        r["id"]: dict(r["decision"]) for r in rows if r["condition"] == label and calibrator in dict(r["decision"])
    }
    assert len(given) == 300
    return {number: decision[calibrator] for number, decision in given.items()}


def test_one_label_attack_serves_all_calibrators_that_keep_the_argmax():
    labels = [job.label for job in plan(GRID).jobs.values() if job.kind == "attack"]
    # the network's, which none and temperature share, and one through isotonic regression
    assert sum(label.startswith("pgd") for label in labels) == 2
    # confidence is the calibrator's to give: the network's own and one through each
    assert sum(label.startswith("calibration_attack") for label in labels) == 4


def test_a_label_attack_through_temperature_is_the_networks(finished, look):
    for calibrator in ("none", "temperature"):
        for metric in ("accuracy", "ece"):
            on = [value(finished, look, "pgd", victim, calibrator, metric) for victim in ("model", "calibrated")]
            assert on[0] == on[1]
    accuracy = [
        value(finished, look, "pgd", "calibrated", calibrator, "accuracy") for calibrator in ("none", "temperature")
    ]
    assert accuracy[0] == accuracy[1] < value(finished, look, "clean", None, "none", "accuracy") - 0.05


def test_a_label_attack_through_isotonic_regression_beats_the_networks_there(finished, look):
    # isotonic regression changes decisions, so the network's set leaves some standing that the one through it does not
    through, beside = (
        value(finished, look, "pgd", victim, "isotonic", "accuracy") for victim in ("calibrated", "model")
    )
    assert through < beside - 0.02


@pytest.mark.parametrize("calibrator", ["temperature", "isotonic"])
def test_the_pairs_calibration_suffers_most_when_the_pair_is_attacked(calibrator, finished, look):
    ece = {
        victim: value(finished, look, "calibration_attack", victim, calibrator, "ece")
        for victim in ("model", "calibrated")
    }
    assert ece["calibrated"] > ece["model"] > 3 * value(finished, look, "clean", None, calibrator, "ece")


@pytest.mark.parametrize("calibrator", ["none", "temperature", "isotonic"])
def test_no_label_of_the_pair_changes(calibrator, finished, look):
    assert decisions(finished, "calibration_attack", "calibrated", calibrator) == decisions(
        finished, "clean", None, calibrator
    )
    assert value(finished, look, "calibration_attack", "calibrated", calibrator, "accuracy") == value(
        finished, look, "clean", None, calibrator, "accuracy"
    )


def test_the_networks_set_keeps_its_labels_but_not_those_of_isotonic_regression(finished):
    assert decisions(finished, "calibration_attack", "model", "none") == decisions(finished, "clean", None, "none")
    assert decisions(finished, "calibration_attack", "model", "isotonic") != decisions(
        finished, "clean", None, "isotonic"
    )

"""Grids on series and tables, end to end: data, training, shifts, attacks, chains, calibrators, detectors."""

import os
from pathlib import Path

import pytest

HERE = (Path(os.environ.get("TESTBED_DATA", "")) / "adult" / "adult_train.csv.gz").is_file()

SERIES = {
    "name": "series",
    "data": [{"use": "mnist1d", "train": 1000, "calibration": 100, "test": 100}],
    "models": [{"use": "cnn1d", "train": {"recipe": "standard", "epochs": 20, "lr": 0.01}}],
    "conditions": [
        "clean",
        {"shift": "jitter", "severity": 5},
        {"attack": "bim", "eps": 0.05},
        {"chain": [{"shift": "jitter", "severity": 2}, {"attack": "bim", "eps": 0.05}], "name": "jitter then bim"},
        {"chain": [{"attack": "bim", "eps": 0.05}, {"shift": "jitter", "severity": 2}], "name": "bim then jitter"},
    ],
    "calibrators": ["none", "temperature"],
    "detectors": ["msp", "knn"],
    "ood": [{"use": "gaussian", "limit": 50}],
    "metrics": ["accuracy", "ece", "auroc"],
    "intervals": {"replicates": 20},
}


def accuracies(finished, look):
    rows = look.rows(finished, metric="accuracy", calibrator="none")
    return {row["condition"]: row["value"] for row in rows}


def test_a_grid_on_series_runs_end_to_end(runs, look):
    finished = runs(SERIES)

    assert finished.outcome.ok
    found = accuracies(finished, look)
    assert found["clean"] > 0.3 and found["jitter"] < found["clean"] and found["bim"] < found["clean"] / 2
    assert found["jitter then bim"] <= found["jitter"] and found["bim then jitter"] < found["clean"]
    assert look.rows(finished, metric="auroc", detector="knn", condition="clean", calibrator="none")[0]["value"] > 0.8


@pytest.mark.skipif(not HERE, reason="TESTBED_DATA names no folder with adult/")
def test_a_grid_on_a_table_runs_end_to_end(runs, look):
    grid = {
        **SERIES,
        "name": "table",
        "data": [{"use": "adult", "train": 1000, "calibration": 200, "test": 300}],
        "models": [{"use": "mlp", "train": {"recipe": "standard", "epochs": 4}}],
        "conditions": [
            "clean",
            {"shift": "missing_values", "severity": 5},
            {"shift": {"use": "missing_values", "mechanism": "mnar", "fill": "nan"}, "severity": 2},
            {"shift": {"use": "subpopulation", "ratios": [9, 1]}, "severity": 5},
            {"attack": "bim", "eps": 0.1},
        ],
    }
    finished = runs(grid)

    assert finished.outcome.ok
    found = accuracies(finished, look)
    assert found["clean"] > 0.75 and found["bim"] < found["clean"] - 0.1

"""A small complete grid on scikit-learn's digits, as a mapping and as a file, for the tests of planning."""

import copy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

GRID = {
    "name": "small",
    "data": [{"use": "digits", "train": 300, "calibration": 100, "test": 100}],
    "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}}],
    "conditions": [
        "clean",
        {"shift": "gaussian_noise", "severity": [1, 3]},
        {"attack": ["fgsm", {"use": "pgd", "steps": 3}], "norm": "linf", "eps": ["8/255", 0.1]},
    ],
    "calibrators": ["none", "temperature"],
    "detectors": ["msp", "knn"],
    "ood": [{"use": ["gaussian", "uniform"], "group": "far", "limit": 50}],
    "metrics": ["accuracy", "ece", "auroc"],
}


@pytest.fixture
def grid():
    return copy.deepcopy(GRID)


@pytest.fixture
def write_grid(tmp_path):
    def write(value, name="grid.yaml"):
        path = Path(tmp_path) / name
        yaml = YAML(typ="safe", pure=True)
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(value, file)
        return path

    return write

"""Black boxes run end to end: query attacks, shifts, calibrators and detectors, on an ONNX file and over HTTP."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from testbed.models import outside, weights
from testbed.types import Spec

MODELS = Path(__file__).parents[1] / "models"
ONNX = MODELS / "files" / "tiny_digits.onnx"
_spec = importlib.util.spec_from_file_location("endpoint_server", MODELS / "endpoint_server.py")
endpoint_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(endpoint_server)

GRID = {
    "name": "boxes",
    "data": [{"use": "digits", "calibration": 100, "test": 60}],
    "models": [{"use": "onnx", "name": "box", "weights": str(ONNX)}],
    "conditions": [
        "clean",
        {"shift": "gaussian_noise", "severity": 3},
        {"attack": [{"use": "square", "queries": 30}, {"use": "spsa", "steps": 2, "samples": 16}], "eps": 0.1},
        {
            "attack": {
                "use": "hopskipjump", "steps": 1, "initial_gradient_eval_steps": 4, "max_gradient_eval_steps": 4
            },
            "norm": "l2", "eps": 1.0,
        },
        {"attack": {"use": "boundary", "steps": 5}, "norm": "l2", "eps": 1.0},
        {"attack": {"use": "square", "queries": 10}, "eps": 0.1, "victim": "calibrated"},
    ],
    "calibrators": ["none", "temperature", "isotonic"],
    "detectors": ["msp", "energy"],
    "ood": [{"use": "uniform", "limit": 40}],
    "metrics": ["accuracy", "ece", "auroc"],
    "intervals": {"replicates": 20},
}  # fmt: skip


def test_an_onnx_file_runs_under_everything_that_asks_for_scores(runs_alone, look):
    finished = runs_alone(GRID)
    rows = look.rows(finished)

    assert {row["status"] for row in rows} == {"ok"}, {row["error"] for row in rows}
    assert {row["condition"] for row in rows} == {
        "clean", "gaussian_noise", "square", "spsa", "hopskipjump", "boundary", "worst"
    }  # fmt: skip
    (clean,) = look.rows(finished, condition="clean", metric="accuracy", calibrator="none")
    assert clean["value"] > 0.85
    attacked = look.rows(finished, condition="square", metric="accuracy", calibrator="none", victim="model")
    assert attacked[0]["value"] < clean["value"]


@pytest.fixture(scope="module")
def net():
    return weights.load(outside.Onnx().build(Spec("image", (8, 8, 1), 10)), ONNX)


def test_an_endpoint_gives_the_same_numbers_and_its_rows_are_flagged(runs_alone, look, net):
    import torch

    def predict(x):
        return net(torch.from_numpy(np.array(x))).double().numpy()

    with endpoint_server.serving(predict, [503]) as (server, url):
        remote = {"use": "http", "name": "api", "url": url, "model_version": "v1", "batch": 100}
        small = {**GRID, "conditions": GRID["conditions"][:3], "models": [*GRID["models"], remote]}
        finished = runs_alone(small)
        sent, instances = len(server.requests), sum(server.requests)
        again = runs_alone(small)

    rows = [row for row in look.rows(finished) if row["metric"] != "audit"]
    keys = ("condition", "calibrator", "detector", "metric", "convention", "eps")
    values = {m: {tuple(r[k] for k in keys): r["value"] for r in rows if r["model"] == m} for m in ("box", "api")}
    assert values["api"] == values["box"] and len(values["box"]) > 20
    assert all(("external" in row["flags"].split(";")) == (row["model"] == "api") for row in rows)
    assert sent == len(server.requests) and again.table == finished.table
    jobs = pq.read_table(finished.folder / "jobs.parquet").to_pylist()
    counted = sum(job["forwards"] for job in jobs if "api" in job["label"].split())
    lost = server.requests[0]  # the 503 was sent by a forward pass, which counts examples
    assert counted == instances - lost


def test_a_refusing_endpoint_fails_its_cells_and_no_others(runs_alone, look):
    with endpoint_server.serving(lambda x: np.zeros((len(x), 7))) as (_, url):
        remote = {"use": "http", "name": "api", "url": url, "model_version": "v1"}
        finished = runs_alone({**GRID, "conditions": ["clean"], "models": [*GRID["models"], remote]})

    assert {row["status"] for row in look.rows(finished, model="box")} == {"ok"}
    failed = look.rows(finished, model="api", metric="accuracy")
    assert all("7 classes, the data has 10" in row["error"] or row["status"] == "skipped" for row in failed)


def test_an_endpoint_that_is_down_fails_its_cells_and_no_others(runs_alone, look):
    remote = {"use": "http", "name": "api", "url": "http://127.0.0.1:9/", "model_version": "v1", "retries": 0}
    finished = runs_alone({**GRID, "conditions": ["clean"], "models": [remote, *GRID["models"]]})

    assert {row["status"] for row in look.rows(finished, model="box")} == {"ok"}
    assert {row["status"] for row in look.rows(finished, model="api")} <= {"failed", "skipped"}
    assert any("cannot be reached" in row["error"] for row in look.rows(finished, model="api"))

"""Detection in whole grids: what a cell holds is what the detector gives by hand on the same examples."""

import numpy as np
import pytest

from testbed.grid.planner import plan
from testbed.metrics.ood import auroc
from testbed.runner.operations import access
from testbed.runner.operations.attacks import picked
from testbed.runner.operations.models import classifier, tensor
from testbed.store import Store


@pytest.fixture
def detection(tiny):
    tiny["models"][0]["train"]["epochs"] = 2
    return tiny | {
        "conditions": ["clean", {"attack": ["fgsm", {"use": "pgd", "steps": 2}], "norm": "linf", "eps": 0.1}],
        "calibrators": ["none"],
        "detectors": [{"use": "odin", "eps": 0.01}],
        "ood": [{"use": "gaussian", "limit": 40, "group": "far"}],
        "metrics": ["auroc"],
    }


def by_label(planned, start):
    return next(job for job in planned.jobs.values() if job.label.startswith(start))


def test_a_network_detector_in_a_grid_is_the_detector_by_hand(detection, runs):
    from testbed.detection.odin import ODIN

    done = runs(detection)
    assert {row["status"] for row in done.table.to_pylist()} == {"ok"}
    planned, store = plan(runs.write(detection)), Store(str(runs.store))
    job = by_label(planned, "score odin on net clean")
    examples = access.whole(store, job.inputs["set"])
    model = classifier(job, store, "cpu")
    hand = ODIN(eps=0.01).score_network(model, tensor(examples), ids=examples.ids, batch=250)
    kept = store.tensors(job.digest, "scores")
    assert np.array_equal(kept["scores"], hand) and np.array_equal(kept["ids"], examples.ids)


def test_the_worst_case_takes_each_examples_score_from_the_attack_that_stands_for_it(detection, runs):
    done = runs(detection)
    planned, store = plan(runs.write(detection)), Store(str(runs.store))
    job = by_label(planned, "pick odin")
    sets = [access.outputs(store, digest) for digest in job.inputs["outputs"]]
    parts = np.stack([store.tensors(digest, "scores")["scores"] for digest in job.inputs["scores"]])
    expected = parts[picked(sets), np.arange(parts.shape[1])]
    assert np.array_equal(store.tensors(job.digest, "scores")["scores"], expected)
    outside = store.tensors(by_label(planned, "score odin on gaussian").digest, "scores")["scores"]
    (row,) = [r for r in done.table.to_pylist() if r["condition"] == "worst"]
    assert row["value"] == auroc(expected, outside)


def test_a_network_that_cannot_serve_a_detector_says_why_in_the_cell(detection, runs):
    done = runs(
        detection | {"detectors": ["mc_dropout", "msp"]},
    )
    rows = done.table.to_pylist()
    assert {r["status"] for r in rows if r["detector"] == "msp"} == {"ok"}
    failed = [r for r in rows if r["detector"] == "mc_dropout"]
    assert all("no dropout module" in r["error"] for r in failed) and failed

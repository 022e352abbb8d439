"""Curves in grids: one sweep for all budgets, monotone per example, cheap, and two numbers of the whole."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan
from testbed.store import Store

EPS = [0.02, 0.05, 0.1, 0.15, 0.2]


@pytest.fixture
def curved(tiny):
    tiny["conditions"] = ["clean", {"attack": {"use": "pgd", "steps": 10}, "eps": EPS, "curve": True}]
    return tiny | {"metrics": ["accuracy"], "calibrators": ["none"]}


def test_a_curve_is_that_of_separate_runs_for_less_and_monotone_per_example(curved, runs, look):
    curved["conditions"].append({**curved["conditions"][1], "curve": False, "name": "alone"})
    finished = runs(curved)
    assert finished.outcome.ok, finished.outcome.errors()

    def curve(name):
        rows = {r["eps"]: r["value"] for r in look.rows(finished, condition=name, metric="accuracy")}
        return np.array([rows[eps] for eps in EPS])

    assert np.abs(curve("pgd") - curve("alone")).max() <= 0.021
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    sweep = [[s for s in samples if s["condition"] == f"pgd linf {eps:.4g}"] for eps in EPS]
    fooled = np.array([[s["success"] for s in level] for level in sweep])
    assert (fooled[1:] >= fooled[:-1]).all()
    for eps, level in zip(EPS, sweep, strict=True):
        assert max(s["distance"] for s in level) <= eps + 1e-6
    alone = [sum(s["gradients"] for s in samples if s["condition"] == f"alone linf {eps:.4g}") for eps in EPS]
    assert sum(s["gradients"] for level in sweep for s in level) <= 2 * max(alone)


def test_the_area_and_the_median_distance_are_rows_by_hand(curved, runs, look):
    finished = runs(curved)
    accuracy = {r["eps"]: r["value"] for r in look.rows(finished, condition="pgd", metric="accuracy")}
    clean = look.rows(finished, condition="clean", metric="accuracy")[0]["value"]
    (area,) = look.rows(finished, metric="robust_area")
    heights = [clean, *(accuracy[eps] for eps in EPS)]
    assert area["value"] == pytest.approx(np.trapezoid(heights, [0, *EPS]) / EPS[-1])
    assert area["eps"] is None and area["ci_low"] < area["value"] < area["ci_high"]
    (median,) = look.rows(finished, metric="median_distance")
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    best = {s["id"]: 0.0 if not s["correct"] else np.inf for s in samples if s["condition"] == "clean"}
    for s in samples:
        if s["condition"].startswith("pgd") and s["success"]:
            best[s["id"]] = min(best[s["id"]], s["distance"])
    assert median["value"] == pytest.approx(sorted(best.values())[49])


def test_one_sweep_a_shard_and_its_images_are_stored_once(curved, runs_alone):
    curved |= {"runtime": {"shard": 40}, "keep": "inputs"}
    planned = plan(runs_alone.write(curved))
    kinds = [job.kind for job in planned.jobs.values()]
    assert (kinds.count("sweep"), kinds.count("level"), kinds.count("attack")) == (3, 3 * len(EPS), 0)
    assert runs_alone(curved).outcome.ok
    store, files = Store(str(runs_alone.store)), {"sweep": set(), "level": set()}
    for job in planned.jobs.values():
        if job.kind in files:
            blobs = store.require(job.digest).blobs
            paths = (runs_alone.store / "blobs" / blob.file for name, blob in blobs.items() if name.startswith("set-"))
            files[job.kind] |= {path.stat().st_ino for path in paths}
    assert files["sweep"] == files["level"] and len(files["level"]) >= 3


def test_a_minimum_norm_attack_is_run_once(curved, runs, look):
    curved["conditions"][1] = {
        "attack": {"use": "ddn", "steps": 20},
        "norm": "l2",
        "eps": [0.3, 0.6, 1.2],
        "curve": True,
    }
    finished = runs(curved)
    assert finished.outcome.ok, finished.outcome.errors()
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    below = [s for s in samples if s["condition"] in ("ddn l2 0.3", "ddn l2 0.6")]
    assert sum(s["gradients"] for s in below) == 0
    whole = {s["id"]: s for s in samples if s["condition"] == "ddn l2 1.2"}
    for s in below:
        assert not s["success"] or whole[s["id"]]["success"]


@pytest.mark.parametrize(
    "change",
    [{"eps": 0.1}, {"attack": "calibration_attack"}, {"victim": "detector:msp"}],
)
def test_what_has_no_curve_is_a_plan_error(curved, change):
    curved["conditions"][1] |= change
    with pytest.raises(UsageError, match="a curve is of robust accuracy"):
        plan({**curved, "detectors": ["msp"]})

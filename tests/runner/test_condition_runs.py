"""Runs whose conditions a name does not tell apart, and runs that end early: what the tables hold."""

from collections import Counter

import pytest

from testbed.grid.planner import plan
from testbed.report.candidates import latencies, pools
from testbed.report.load import read_run
from testbed.report.payload import payload
from testbed.report.table import tables
from testbed.runner.progress import Tally
from testbed.runner.run import Settings, free_folder, run_plan

NET = {"use": "mlp", "name": "net on gpu", "train": {"recipe": "standard", "epochs": 1}}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """PGD with 1 and 20 steps, FGSM and its rounded twin, two seeds."""
    folder = tmp_path_factory.mktemp("twins")
    fgsm = {"attack": "fgsm", "eps": 0.1}
    grid = {
        "name": "twins", "data": [{"use": "digits", "train": 600, "calibration": 200, "test": 50}], "models": [NET],
        "train_seeds": [0, 1], "calibrators": ["none"], "metrics": ["accuracy"], "intervals": {"replicates": 20},
        "conditions": ["clean", *({"attack": {"use": "pgd", "steps": n}, "eps": 0.1} for n in (1, 20)), fgsm,
                       {**fgsm, "quantised": True}],
    }  # fmt: skip
    settings = Settings(out=folder / "run", store=str(folder / "store"), executor="serial", page=False)
    return read_run(run_plan(plan(grid), settings).folder)


def test_each_condition_has_its_column_and_each_example_once(twins):
    (quality, *_) = tables(twins.rows)
    shown = {over for over, _ in quality.columns}
    assert shown >= {"clean", "fgsm linf 0.1", "fgsm linf 0.1 (quantised)"}
    assert shown >= {"pgd linf 0.1 (steps=1)", "pgd linf 0.1 (steps=20)"}
    counts = twins.select("SELECT condition, condition_id, train_seed, id, count(*) AS n FROM samples GROUP BY ALL")
    assert all(row["n"] == 1 for row in counts)
    assert len({row["condition_id"] for row in counts}) == len({row["condition"] for row in counts}) == 6
    named = {row["condition_id"]: row["condition"] for row in counts}
    assert all(named[row["condition_id"]] == row["label"] for row in twins.rows)


def test_means_over_seeds_are_of_one_condition_each(twins):
    means = [row for row in twins.rows if row["metric"] == "accuracy:seed_mean" and row["condition"] == "fgsm"]
    assert len(means) == 2 and all(row["convention"].startswith("mean over 2 training seeds") for row in means)


def test_there_is_a_selection_and_an_image_strip_of_each(twins):
    (pool,) = pools(twins, 20)
    assert pool.left_out == () and {c.train_seed for c in pool.candidates} == {0, 1}
    page = payload(twins)
    assert {row["condition"] for row in page["images"]["rows"]} >= {"pgd linf 0.1 (steps=1)", "pgd linf 0.1 (steps=20)"}
    assert {one["condition"] for one in page["reliability"]} == set(twins.labels.values())


def test_a_latency_is_of_the_model_that_the_job_says(twins):
    assert set(latencies(twins)) == {"net on gpu"}


def test_two_calibrated_victims_have_the_curves_that_each_has_alone(runs):
    curve = {"attack": {"use": "pgd", "steps": 2}, "eps": [0.05, 0.1], "victim": "calibrated", "curve": True}
    data = [{"use": "digits", "train": 600, "calibration": 200, "test": 50}]
    grid = {"name": "c", "data": data, "models": [NET], "conditions": [curve], "metrics": ["accuracy"]}

    def areas(*calibrators):
        table = runs({**grid, "calibrators": list(calibrators)}).table.to_pylist()
        return {row["calibrator"]: row["value"] for row in table if row["metric"] == "robust_area"}

    both = areas("matrix", "dirichlet")
    assert None not in both.values() and both == areas("matrix") | areas("dirichlet")


def statuses(finished):
    return Counter(row["status"] for row in finished.table.to_pylist())


def test_what_max_failures_stopped_is_skipped_in_every_table(tiny, runs, tmp_path):
    (tmp_path / "bad.py").write_text("def bad(model, x, y, *, eps: float, rng):\n    raise ValueError('no')\n")
    runs({**tiny, "conditions": ["clean"]})
    tiny["conditions"] = [
        {"attack": "./bad.py:bad", "eps": 0.1},
        {"shift": ["gaussian_noise", "rotate"], "severity": 2},
    ]
    finished = runs(tiny, max_failures="0")
    found = statuses(finished)
    assert set(found) == {"skipped"} or set(found) == {"skipped", "ok"}
    jobs = finished.outcome.count()
    assert (jobs["failed"], jobs["missing"], jobs["skipped"] > 0) == (1, 0, True)
    assert {row["status"] for row in finished.table.to_pylist() if row["condition"] == "rotate"} == {"skipped"}


def test_an_interrupted_run_misses_what_was_not_run_and_nothing_failed(tiny, runs_alone):
    tally, seen = Tally(), []

    def listener(event):
        tally.take(event)
        seen.append(event.name)
        if event.name == "finished" and seen.count("finished") == 2:
            raise KeyboardInterrupt

    planned = plan(runs_alone.write(tiny))
    settings = Settings(out=runs_alone.folder / "run", store=str(runs_alone.store), executor="serial", page=False)
    finished = run_plan(planned, settings, listener)
    assert isinstance(finished.cause, KeyboardInterrupt) and set(statuses(finished)) == {"missing"}
    assert tally.line().startswith(f"2/{tally.total} jobs") and f"{tally.total - 2} not run" in tally.line()
    assert finished.outcome.count()["failed"] == finished.outcome.count()["skipped"] == 0
    progress = payload(read_run(finished.folder))["progress"]
    assert (progress["failed"], progress["missing"]) == (0, tally.total - 2)


def test_settings_do_not_take_the_place_of_the_run_they_change(tiny, runs_alone, tmp_path):
    path, usual = runs_alone.write(tiny), tmp_path / "runs" / "tiny"
    plain, changed = plan(path), plan(path, ["data.0.test=50"])
    assert free_folder(changed, usual) == usual, "the folder is free"
    usual.mkdir(parents=True)
    (usual / "plan.json").write_text(plain.to_json({}))
    assert free_folder(plain, usual) == usual
    with pytest.warns(UserWarning, match=r"holds the numbers of a run without -o; this one is written to"):
        beside = free_folder(changed, usual)
    assert beside.parent == usual.parent and beside.name.startswith("tiny-")
    with pytest.warns(UserWarning):
        assert free_folder(changed, usual) == beside, "the same settings go on in the same place"
    (usual / "plan.json").write_text(changed.to_json({}))
    assert free_folder(changed, usual) == usual
    with pytest.warns(UserWarning, match="with -o data.0.test=50"):
        assert free_folder(plain, usual) != usual
    edited = plan({**tiny, "metrics": ["accuracy"]})
    (usual / "plan.json").write_text(plain.to_json({}))
    assert free_folder(edited, usual) == usual, "an edited grid goes on in its folder"

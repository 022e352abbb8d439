"""PGD's average over restarts in a grid: rows beside the worst case, over shards, and what it cannot stand beside."""

import numpy as np
import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan

PGD = {"use": "pgd", "steps": 4, "step_size": 0.01, "restarts": 3, "average": True}


@pytest.fixture
def restarted(tiny):
    tiny["conditions"] = ["clean", {"attack": PGD, "eps": 0.08}]
    return tiny | {"metrics": ["accuracy"], "calibrators": ["none"], "runtime": {"shard": 30}}


def test_mean_spread_and_each_restart_are_rows_over_all_shards(restarted, runs, look):
    finished = runs(restarted)
    assert finished.outcome.ok, finished.outcome.errors()
    assert len([j for j in plan(restarted).jobs.values() if j.kind == "attack"]) == 4
    (worst,), (mean,), (spread,) = (
        look.rows(finished, condition="pgd", metric=m)
        for m in ("accuracy", "accuracy:restart_mean", "accuracy:restart_std")
    )
    each = look.rows(finished, metric="accuracy:restart")
    values = [row["value"] for row in each]
    assert [row["convention"].split(";")[0] for row in each] == [f"restart {r} of 3" for r in (1, 2, 3)]
    assert all(row["n"] == 100 and row["ci_low"] < row["value"] < row["ci_high"] for row in each)
    assert mean["value"] == pytest.approx(np.mean(values)) and spread["value"] == pytest.approx(np.std(values, ddof=1))
    assert worst["value"] <= min(values) and mean["convention"].startswith("mean over 3 restarts; ")
    assert mean["flags"] == worst["flags"]


def test_an_attack_that_is_not_run_leaves_the_clean_accuracy_in_every_restart(restarted, runs, look):
    restarted["conditions"][1]["eps"] = 0.0
    finished = runs(restarted)
    clean = look.rows(finished, condition="clean", metric="accuracy")[0]["value"]
    assert [row["value"] for row in look.rows(finished, metric="accuracy:restart")] == [pytest.approx(clean)] * 3


def test_attacks_that_do_not_keep_restarts_apart_have_no_such_rows(restarted):
    restarted["conditions"][1]["attack"] = {**PGD, "average": False}
    assert not [cell for cell in plan(restarted).cells if "restart" in cell.row["metric"]]


@pytest.mark.parametrize("key", ["curve", "quantised"])
def test_images_that_are_changed_afterwards_are_refused(restarted, key):
    restarted["conditions"][1] |= {"eps": [0.05, 0.08], key: True}
    with pytest.raises(UsageError, match="restarts are judged one by one"):
        plan(restarted)

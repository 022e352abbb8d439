"""Runs of grids whose metrics need more than one set: conformal sets, accuracy without labels; and rows by class."""

import numpy as np
import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan

TOGETHER = ["ac", "ac_error", "doc", "doc_error", "atc", "atc_error", "conformal_coverage", "conformal_size"]


def test_estimates_and_sets_stand_in_rows(runs, tiny, look):
    tiny |= {"metrics": ["accuracy", *TOGETHER, {"use": "gde", "against": "other"}]}
    tiny["conditions"] = ["clean", {"attack": "fgsm", "eps": 0.3}]
    tiny["models"].append({"use": "small-cnn", "name": "other", "train": {"recipe": "standard", "epochs": 1}})

    finished = runs(tiny)

    rows = look.rows(finished)
    assert [row["error"] for row in rows if row["error"]] == []
    assert {row["metric"] for row in rows} == {"accuracy", *TOGETHER, "gde", "audit"}
    for name in ("ac", "doc", "atc"):
        for row in look.rows(finished, metric=f"{name}_error"):
            same = {key: row[key] for key in ("model", "condition", "calibrator")}
            estimate, accuracy = (look.rows(finished, metric=m, **same)[0]["value"] for m in (name, "accuracy"))
            assert row["value"] == pytest.approx(estimate - accuracy)
            assert row["n"] == 100
    attacked = look.rows(finished, metric="atc", kind="attack", model="net", calibrator="none")
    assert "estimate-failed" in attacked[0]["flags"]
    assert attacked[0]["flags"].startswith("audit:")


def test_gde_compares_training_seeds(runs, tiny, look):
    tiny |= {"conditions": ["clean"], "metrics": ["gde", "gde_error"], "train_seeds": [0, 1], "calibrators": ["none"]}

    rows = look.rows(runs(tiny), metric="gde")

    assert len(rows) == 2
    assert rows[0]["value"] == rows[1]["value"]  # agreement is symmetric


def test_gde_without_a_mate_is_a_problem(tiny):
    with pytest.raises(UsageError, match="compares two training runs"):
        plan(tiny | {"metrics": ["gde"]})
    with pytest.raises(UsageError, match=r"no model 'nte'.*net"):
        plan(tiny | {"metrics": [{"use": "gde", "against": "nte"}]})


def test_rows_by_class(runs, tiny, look):
    tiny |= {"slices": "class", "metrics": ["accuracy", "nll"], "conditions": ["clean"], "calibrators": ["none"]}

    finished = runs(tiny)

    whole = look.rows(finished, metric="accuracy", group=None)[0]
    parts = [row for row in look.rows(finished, metric="accuracy") if (row["group"] or "").startswith("class")]
    worst = look.rows(finished, metric="accuracy", group="worst class")[0]
    assert len(parts) == 10
    assert sum(row["n"] for row in parts) == whole["n"]
    assert np.average([row["value"] for row in parts], weights=[row["n"] for row in parts]) == pytest.approx(
        whole["value"]
    )
    assert worst["value"] == min(row["value"] for row in parts)
    assert "not widened for having been picked" in worst["convention"]
    assert look.rows(finished, metric="nll", group="worst class")[0]["value"] == max(
        row["value"] for row in look.rows(finished, metric="nll") if (row["group"] or "").startswith("class")
    )


def test_slices_change_the_score_jobs_and_nothing_else(tiny):
    before, after = plan(tiny), plan(tiny | {"slices": ["class", "group"]})

    assert {after.jobs[d].kind for d in set(after.jobs) - set(before.jobs)} == {"score"}

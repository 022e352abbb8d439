"""Calibrators that read unlabelled target data: each condition's own outputs are the target, never with labels."""

import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan

SHIFT = {"shift": "gaussian_noise", "severity": [1, 3]}


def fits(planned, name):
    return [job for job in planned.jobs.values() if job.kind == "calibrate" and job.label.startswith(f"fit {name} ")]


def test_one_fit_a_condition_where_the_target_is_read_and_one_for_all_where_not(grid):
    grid |= {"conditions": ["clean", SHIFT], "calibrators": ["temperature", "transcal"], "metrics": ["nll"]}

    planned = plan(grid)

    assert len(fits(planned, "temperature")) == 1
    assert len(fits(planned, "transcal")) == 3
    outputs = {cell.digest: planned.jobs[cell.digest].inputs["outputs"] for cell in planned.cells}
    for job in fits(planned, "transcal"):
        assert job.inputs["target"] in outputs.values()
        assert job.inputs["target"] != job.inputs["outputs"]


def test_the_row_says_what_was_read(grid):
    planned = plan(
        grid
        | {
            "conditions": ["clean"],
            "calibrators": ["temperature", "label_shift_em"],
            "detectors": [],
            "ood": [],
            "metrics": ["nll"],
        }
    )

    assert {c.row["calibrator"]: c.row["fit"] for c in planned.cells} == {
        "temperature": "clean",
        "label_shift_em": "clean + unlabelled target",
    }


def test_adding_one_leaves_all_other_work_as_it_was(grid):
    before = plan(grid | {"calibrators": ["none", "temperature"]})
    after = plan(grid | {"calibrators": ["none", "temperature", "pseudo_target"]})

    known = set(before.jobs)
    assert {after.jobs[d].kind for d in set(after.jobs) - known} <= {"calibrate", "score", "samples", "detect", "bank",
                                                                      "score_ood", "score_pooled"}  # fmt: skip


def test_an_attack_through_one_is_a_problem(grid):
    attack = {"attack": "fgsm", "eps": 0.1, "victim": "calibrated"}

    with pytest.raises(UsageError, match=r"'fgsm linf 0\.1 on calibrated' attacks through calibrator 'bbse'"):
        plan(grid | {"conditions": [attack], "calibrators": ["bbse"]})
    plan(grid | {"conditions": [attack], "calibrators": ["transcal"]})  # keeps the argmax: the model is attacked

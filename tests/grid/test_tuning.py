"""Tuning in grids: what is planned, what is refused, what the rows say, and that the choice is the best one."""

import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan

SWEPT = {"use": "knn", "tune": {"on": "uniform", "sweep": {"k": [1, 5, 300]}}}


@pytest.fixture
def tuned(grid):
    return grid | {
        "conditions": ["clean"],
        "calibrators": ["none"],
        "detectors": [SWEPT],
        "ood": [{"use": "gaussian", "limit": 50}],
        "metrics": ["auroc"],
    }


def of_kind(planned, kind):
    return [job for job in planned.jobs.values() if job.kind == kind]


def test_tuning_reads_the_fit_split_the_calibration_split_and_the_tuning_set(tuned):
    planned = plan(tuned)
    (job,), (bank,) = of_kind(planned, "tune"), of_kind(planned, "bank")
    labels = {role: planned.jobs[job.inputs[role][0]].label for role in ("outputs", "id", "ood")}
    assert labels == {
        "outputs": "forward net on train", "id": "forward net on calibration", "ood": "forward net on uniform",
    }  # fmt: skip
    assert bank.inputs["tuned"] == (job.digest,) and job.recipe["sweep"] == {"k": [1, 5, 300]}
    assert {cell.row["fit"] for cell in planned.cells} == {"train; tuned on uniform"}
    assert {cell.row["ood_set"] for cell in planned.cells} == {"gaussian"}


def test_a_detector_that_is_not_tuned_has_the_jobs_it_had(tuned):
    plain, both = plan(tuned | {"detectors": ["knn"]}), plan(tuned | {"detectors": ["knn", {**SWEPT, "name": "best"}]})
    assert set(plain.jobs) - {j.digest for j in of_kind(plain, "samples")} <= set(both.jobs)


@pytest.mark.parametrize(
    ("detector", "says"),
    [
        ({"use": "knn", "tune": {"on": "gaussian"}}, "'gaussian' is scored, so it cannot tune"),
        ({"use": "knn", "tune": {"on": "uniform", "sweep": {"kk": [1]}}}, "no parameter 'kk'; did you mean 'k'"),
        ({"use": "knn", "tune": {"on": "uniform", "sweep": {"k": ["few"]}}}, "'few': Input should be a valid integer"),
        ({"use": "msp", "tune": {"on": "uniform"}}, "'msp' has no published sweep; give `sweep"),
        ({"use": "odin", "tune": {"on": "uniform"}}, "'odin' runs the network"),
        ({"use": "knn", "tune": {"on": "unifrom"}}, "unknown dataset 'unifrom'; did you mean 'uniform'"),
        ({"use": "knn", "tune": {"sweep": {"k": [1]}}}, "tune.on: required, but not given"),
    ],
)
def test_what_cannot_tune_is_a_problem_with_a_place(tuned, detector, says):
    with pytest.raises(UsageError) as caught:
        plan(tuned | {"detectors": [detector]})
    assert says in str(caught.value), str(caught.value)

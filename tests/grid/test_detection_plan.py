"""How detectors are planned: those that run the network with their passes, everything else on cached outputs."""

from collections import Counter

import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan


def jobs(planned, kind):
    return [job for job in planned.jobs.values() if job.kind == kind]


def test_network_detectors_are_jobs_with_their_passes_in_the_cost(grid):
    grid |= {"conditions": ["clean"], "detectors": [{"use": "odin"}, {"use": "mc_dropout", "samples": 7}, "gram"]}
    planned = plan(grid)
    scored = {job.label.split()[1]: job.cost for job in jobs(planned, "detect_network") if "clean" in job.label}
    assert scored["odin"] == {"forward": 200, "gradient": 100}
    assert scored["mc_dropout"] == {"forward": 700}
    assert scored["gram"] == {"forward": 100}
    (fit,) = jobs(planned, "bank_network")
    assert fit.label == "fit gram for net" and fit.cost == {"forward": 300}


def test_network_detectors_are_scored_once_for_all_calibrators(grid):
    grid |= {"conditions": ["clean"], "detectors": ["odin"], "metrics": ["auroc"]}
    planned = plan(grid)
    assert len(jobs(planned, "detect_network")) == 3  # the test set and two OOD sets
    by_calibrator = Counter(cell.row["calibrator"] for cell in planned.cells)
    assert by_calibrator == {"none": 3, "temperature": 3}  # two OOD sets and their mean


def test_adding_a_network_detector_adds_only_its_own_jobs(grid):
    before = plan(grid)
    after = plan(grid | {"detectors": [*grid["detectors"], "rankfeat"]})
    fresh = Counter(after.jobs[digest].kind for digest in after.jobs.keys() - before.jobs.keys())
    assert set(fresh) == {"detect_network", "detect_worst", "score_ood", "score_pooled", "samples"}


def test_a_worst_case_picks_the_scores_of_the_sets_it_picked(grid):
    planned = plan(grid | {"detectors": ["odin"]})
    (first, second) = jobs(planned, "detect_worst")  # one a radius
    for job in (first, second):
        worst = next(w for w in jobs(planned, "worst") if w.inputs["outputs"] == job.inputs["outputs"])
        assert worst.recipe["rule"] == job.recipe["rule"]
        scored = [planned.jobs[digest].inputs["set"] for digest in job.inputs["scores"]]
        seen = [planned.jobs[digest].inputs["set"] for digest in job.inputs["outputs"]]
        assert scored == seen


def cells(planned, **where):
    return [c for c in planned.cells if all(c.row.get(key) == value for key, value in where.items())]


def test_a_group_of_several_sets_has_a_mean_and_a_single_one_has_none(grid):
    grid["ood"].append({"use": "blobs", "group": "near", "limit": 50})
    planned = plan(grid)
    (job,) = {c.digest for c in cells(planned, ood_set="mean(far)", condition="clean", detector="knn")}
    assert len(planned.jobs[job].inputs["ood"]) == 2 and len(planned.jobs[job].inputs["id"]) == 1
    assert cells(planned, ood_set="mean(far)")[0].row["group"] == "far"
    assert not cells(planned, ood_set="mean(near)")
    assert not cells(plan(grid | {"exclude": [{"ood_set": "mean(far)"}]}), ood_set="mean(far)")


def test_sets_under_different_conditions_are_not_averaged(grid):
    grid["ood"] = [
        {"use": "gaussian", "group": "far", "limit": 50},
        {"use": "uniform", "group": "far", "limit": 50, "condition": {"attack": "fgsm", "norm": "linf", "eps": 0.1}},
    ]
    assert not cells(plan(grid), ood_set="mean(far)")


def test_full_spectrum_pools_clean_and_shifted_sets_only_when_asked(grid):
    assert not cells(plan(grid), condition="full_spectrum")
    planned = plan(grid | {"full_spectrum": True})
    found = cells(planned, condition="full_spectrum", detector="knn", ood_set="gaussian")
    assert {len(planned.jobs[c.digest].inputs["id"]) for c in found} == {3}  # clean and two severities
    named = plan(grid | {"full_spectrum": "gaussian_noise"})
    assert [c.digest for c in cells(named, condition="full_spectrum")] == [
        c.digest for c in cells(planned, condition="full_spectrum")
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"full_spectrum": "fog"}, "no shift 'fog' among the conditions"),
        ({"full_spectrum": True, "conditions": ["clean"]}, "needs `clean` and a shift"),
        ({"metrics": ["oscr"], "detectors": []}, "needs `detectors` and `ood`"),
    ],
)
def test_what_cannot_be_pooled_is_a_problem_of_the_grid(grid, change, says):
    with pytest.raises(UsageError, match=says):
        plan(grid | change)


def test_numbers_of_several_training_seeds_have_mean_and_spread(grid):
    grid |= {"train_seeds": [0, 1, 2], "conditions": ["clean"]}
    planned = plan(grid)
    found = cells(planned, metric="auroc:seed_mean", detector="knn", ood_set="gaussian", calibrator="none")
    assert len(found) == 1 and found[0].row["train_seed"] is None
    assert len(planned.jobs[found[0].digest].inputs["rows"]) == 3
    assert cells(planned, metric="accuracy:seed_std")
    assert not any(":seed" in c.row["metric"] for c in plan(grid | {"train_seeds": [0]}).cells)


def test_a_published_protocol_keeps_its_groups_and_its_name_is_in_every_row(grid):
    grid |= {"protocol": "openood-v1.5/cifar10", "ood": [{"use": "mnist5k", "name": "mnist", "group": "near"}]}
    with pytest.raises(UsageError, match=r"'mnist' is a far set in protocol .*, and has 'near' here"):
        plan(grid)
    grid["ood"] = [{"use": "mnist5k", "name": "mnist", "group": "far"}, {"use": "gaussian", "group": "far"}]
    planned = plan(grid)
    assert {c.row["protocol"] for c in planned.cells} == {"openood-v1.5/cifar10"}
    assert any("has no OOD sets gaussian" in note for note in planned.notes)


def test_a_name_close_to_a_protocols_is_noted(grid):
    notes = plan(grid | {"protocol": "openood-v1.5/cifar-10"}).notes
    assert any("no published protocol; did you mean 'openood-v1.5/cifar10'" in note for note in notes)
    assert not any("protocol" in note for note in plan(grid).notes)

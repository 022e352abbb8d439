"""How detectors are planned: those that run the network with their passes, everything else on cached outputs."""

from collections import Counter

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
    assert by_calibrator == {"none": 2, "temperature": 2}


def test_adding_a_network_detector_adds_only_its_own_jobs(grid):
    before = plan(grid)
    after = plan(grid | {"detectors": [*grid["detectors"], "rankfeat"]})
    fresh = Counter(after.jobs[digest].kind for digest in after.jobs.keys() - before.jobs.keys())
    assert set(fresh) == {"detect_network", "detect_worst", "score_ood", "samples"}


def test_a_worst_case_picks_the_scores_of_the_sets_it_picked(grid):
    planned = plan(grid | {"detectors": ["odin"]})
    (first, second) = jobs(planned, "detect_worst")  # one a radius
    for job in (first, second):
        worst = next(w for w in jobs(planned, "worst") if w.inputs["outputs"] == job.inputs["outputs"])
        assert worst.recipe["rule"] == job.recipe["rule"]
        scored = [planned.jobs[digest].inputs["set"] for digest in job.inputs["scores"]]
        seen = [planned.jobs[digest].inputs["set"] for digest in job.inputs["outputs"]]
        assert scored == seen

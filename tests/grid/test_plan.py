"""What makes two pieces of work the same: golden digests, and what a change of the grid makes new."""

import json
from pathlib import Path

import pytest

from testbed.grid import jobs as jobs_module
from testbed.grid.planner import plan

GOLDEN = Path(__file__).parents[1] / "golden" / "digests.json"
PLUGIN = "def nudge(model, x, y, *, eps: float, rng):\n    return x\n"


def digests(planned):
    return {job.digest for job in planned.jobs.values()}


def new_kinds(before, after):
    known = digests(before)
    return {job.kind for job in after.jobs.values() if job.digest not in known}


def torch_free(planned):
    """Digests of jobs whose recipe does not name the torch version, so that the golden file outlives torch."""
    named = {d for d, job in planned.jobs.items() if "torch" in json.dumps(dict(job.recipe))}
    stack = True
    while stack:
        stack = {d for d, job in planned.jobs.items() if d not in named and named & set(job.needs)}
        named |= stack
    return {job.label: d for d, job in planned.jobs.items() if d not in named}


def test_digests_are_what_they_were(grid):
    """A change here means every store in the field is out of date: bump a version in `grid/jobs.py`, then regenerate
    with `python tests/grid/test_plan.py`."""
    assert torch_free(plan(grid)) == json.loads(GOLDEN.read_text())


def test_the_order_of_keys_changes_nothing(grid):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert list(plan(grid).jobs) == list(plan(turned(grid)).jobs)


def test_a_fraction_and_its_decimal_are_one_value(grid):
    other = json.loads(json.dumps(grid).replace('"8/255"', str(8 / 255)))
    assert digests(plan(grid)) == digests(plan(other))


def test_names_are_not_work(grid):
    renamed = json.loads(json.dumps(grid).replace('"net"', '"renamed"')) | {"name": "another"}
    assert digests(plan(grid)) == digests(plan(renamed))


def test_planning_needs_neither_torch_nor_ray(grid, run_python):
    code = f"import sys\nfrom testbed.grid.planner import plan\nplan({grid!r})\n"
    done = run_python(code + "assert not {'torch', 'ray'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"metrics": ["accuracy", "ece", "auroc", "nll"]}, {"score"}),
        (
            {"calibrators": ["none", "temperature", "isotonic"]},
            {"calibrate", "score", "samples", "bank", "detect", "score_ood", "score_pooled"},
        ),
        ({"detectors": ["msp", "knn", "energy"]}, {"bank", "detect", "score_ood", "score_pooled", "samples"}),
    ],
)
def test_adding_what_reads_outputs_adds_no_forward_pass(grid, change, kinds):
    assert new_kinds(plan(grid), plan({**grid, **change})) == kinds


def test_another_eps_makes_only_the_attacks_at_it_and_what_follows(grid):
    before = plan(grid)
    grid["conditions"][2]["eps"] = ["8/255", 0.2]
    after = plan(grid)
    assert new_kinds(before, after) == {
        "attack",
        "forward",
        "worst",
        "score",
        "audit",
        "samples",
        "detect",
        "score_ood",
        "score_pooled",
    }
    kept = [job for job in after.jobs.values() if job.kind == "attack" and job.digest in before.jobs]
    assert {job.recipe["eps"] for job in kept} == {8 / 255}


def test_another_split_or_seed_makes_everything_but_the_description(grid):
    for change in ({"seed": 1}, {"data": [{"use": "digits", "train": 299, "calibration": 100, "test": 100}]}):
        after = plan({**grid, **change})
        same = [job for job in after.jobs.values() if job.digest in digests(plan(grid))]
        assert {job.kind for job in same} >= {"describe"}
        assert not [job.label for job in same if job.kind != "ood" and job.needs and set(job.inputs) != {"describe"}]


def test_a_bumped_operation_version_makes_its_dependants_and_nothing_else(grid, monkeypatch):
    before = plan(grid)
    monkeypatch.setattr(jobs_module, "VERSIONS", {**jobs_module.VERSIONS, "shift": 2})
    after = plan(grid)
    changed = {job.label for job in after.jobs.values() if job.digest not in before.jobs}
    assert changed and all("gaussian_noise" in label for label in changed)


def test_weights_and_plugin_source_are_in_the_digest(grid, tmp_path, write_grid):
    (tmp_path / "attack.py").write_text(PLUGIN)
    (tmp_path / "net.bin").write_bytes(b"one")
    grid["models"] = [{"use": "small-cnn", "name": "net", "weights": "net.bin"}]
    grid["conditions"] = ["clean", {"attack": "./attack.py:nudge", "eps": 0.1}]
    path = write_grid(grid)
    first = plan(path)
    (tmp_path / "attack.py").write_text(PLUGIN + "# another\n")
    second = plan(path)
    assert {j.kind for j in second.jobs.values() if j.digest not in first.jobs} == {
        "attack", "forward", "score", "audit", "samples", "detect", "score_ood", "score_pooled",
    }  # fmt: skip
    clean = [j for j in second.jobs.values() if j.kind == "forward" and "clean" in j.label]
    assert all(j.digest in first.jobs for j in clean)
    (tmp_path / "net.bin").write_bytes(b"two")
    third = plan(path)
    assert not {j.digest for j in third.jobs.values() if j.kind in ("file", "weights", "forward", "attack")} & digests(
        second
    )
    assert {j.digest for j in third.jobs.values() if j.kind == "split"} <= digests(second)


def test_a_shift_is_made_once_for_all_models(grid):
    grid["models"].append(
        {**grid["models"][0], "name": "other", "train": {"recipe": "fgsm-rs", "eps": 0.1, "epochs": 1}}
    )
    shifts = [job for job in plan(grid).jobs.values() if job.kind == "shift"]
    assert len(shifts) == 2


def test_one_attacked_set_serves_every_calibrator(grid):
    one = [j for j in plan({**grid, "calibrators": ["none"]}).jobs.values() if j.kind == "attack"]
    many = [
        j
        for j in plan({**grid, "calibrators": ["none", "temperature", "platt", "isotonic"]}).jobs.values()
        if j.kind == "attack"
    ]
    assert [j.digest for j in one] == [j.digest for j in many]


def test_a_calibrated_victim_is_shared_where_the_argmax_is_kept(grid):
    grid["calibrators"] = ["none", "temperature", "platt"]
    grid["conditions"] = [{"attack": "fgsm", "eps": 0.1, "victim": "calibrated"}]
    attacks = [j for j in plan(grid).jobs.values() if j.kind == "attack"]
    assert sorted(j.recipe["victim"]["kind"] for j in attacks) == ["calibrated", "model"]


def test_filters_take_out_cells_and_the_work_only_they_need(grid):
    whole = plan(grid)
    less = plan({**grid, "exclude": [{"condition": "fgsm", "eps": 0.1}, {"metric": "ece"}]})
    assert not [c for c in less.cells if c.row["condition"] == "fgsm" and c.row["eps"] == 0.1]
    assert not [c for c in less.cells if c.row["metric"] == "ece"]
    assert (
        len([j for j in less.jobs.values() if j.kind == "attack"])
        == len([j for j in whole.jobs.values() if j.kind == "attack"]) - 1
    )
    only = plan({**grid, "include": [{"condition": "clean", "calibrator": "none"}]})
    assert {(c.row["condition"], c.row["calibrator"]) for c in only.cells} == {("clean", "none")}


def test_several_data_sets_and_seeds_are_crossed(grid):
    grid["data"].append({"use": "mnist5k", "train": 300, "calibration": 100, "test": 100})
    planned = plan({**grid, "seed": [0, 1], "train_seeds": [0, 1, 2]})
    found = {(c.row["dataset"], c.row["seed"], c.row["train_seed"]) for c in planned.cells}
    assert found == {(d, s, t) for d in ("digits", "mnist5k") for s in (0, 1) for t in (0, 1, 2, None)}


def test_an_attacked_set_is_cut_into_shards_that_cover_it(grid):
    grid["runtime"] = {"shard": 30}
    attacks = [
        j for j in plan(grid).jobs.values() if j.kind == "attack" and j.recipe["eps"] == 0.1 and "fgsm" in j.label
    ]
    assert [j.recipe["part"] for j in attacks] == [0, 1, 2, 3]
    assert sum(j.cost["gradient"] for j in attacks) == 100


def test_every_job_comes_after_its_inputs(grid):
    seen = set()
    for digest, job in plan(grid).jobs.items():
        assert set(job.needs) <= seen, job.label
        seen.add(digest)


if __name__ == "__main__":
    from conftest import GRID

    GOLDEN.write_text(json.dumps(torch_free(plan(GRID)), indent=1) + "\n")

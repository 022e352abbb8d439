"""A row names its cell: conditions told apart by what they are, and what would be told apart by nothing refused."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed import condition as conditions
from testbed.errors import UsageError
from testbed.grid.planner import plan
from testbed.grid.reader import read_text
from testbed.grid.resolve import resolve
from testbed.types import RESULTS

BASE = {
    "name": "t", "data": [{"use": "digits", "train": 600, "calibration": 200, "test": 100}],
    "models": [{"use": "mlp", "name": "net", "train": {"recipe": "standard", "epochs": 1}}],
    "conditions": ["clean"], "calibrators": ["none"], "metrics": ["accuracy"],
}  # fmt: skip
MEASURED = {"n", "convention", "value", "ci_low", "ci_high", "status", "error", "flags", "digest"}


def attack(**more):
    return {"attack": "fgsm", "norm": "linf", "eps": 0.1, **more}


def described(row):
    return tuple(row.get(name) for name in RESULTS if name not in MEASURED)


def ambiguous(planned):
    """The cells that share all descriptive columns, and the samples that share a set's."""
    cells = Counter(described(cell.row) for cell in planned.cells)
    sets = Counter((s.row["dataset"], s.row["model"], s.row["train_seed"], s.row["seed"], s.row["condition_id"])
                   for s in planned.samples)  # fmt: skip
    return [key for key, count in (*cells.items(), *sets.items()) if count > 1]


def labels(planned):
    return [sample.label for sample in planned.samples]


def test_a_rounded_twin_is_another_condition_and_has_means_of_its_own():
    planned = plan({**BASE, "conditions": [attack(), attack(quantised=True)], "train_seeds": [0, 1]})
    assert not ambiguous(planned) and set(labels(planned)) == {"fgsm linf 0.1", "fgsm linf 0.1 (quantised)"}
    assert [len(job.inputs["rows"]) for job in planned.jobs.values() if job.kind == "over_seeds"] == [2, 2]


def test_another_number_of_steps_is_another_condition():
    steps = [{"attack": {"use": "pgd", "steps": n}, "norm": "linf", "eps": 0.1} for n in (1, 20)]
    planned = plan({**BASE, "conditions": ["clean", *steps]})
    assert not ambiguous(planned)
    assert [label for label in labels(planned) if label.startswith("pgd")] == [
        "pgd linf 0.1 (steps=1)", "pgd linf 0.1 (steps=20)"]  # fmt: skip


def test_each_calibrator_that_is_attacked_has_its_own_set_and_curve():
    curve = {"attack": {"use": "pgd", "steps": 5}, "eps": [0.05, 0.1], "victim": "calibrated", "curve": True}
    both = plan({**BASE, "conditions": [curve], "calibrators": ["matrix", "dirichlet"]})
    alone = [plan({**BASE, "conditions": [curve], "calibrators": [one]}) for one in ("matrix", "dirichlet")]
    found = {digest: job for digest, job in both.jobs.items() if job.kind == "curve"}
    assert not ambiguous(both) and [job.recipe["eps"] for job in found.values()] == [[0.05, 0.1]] * 2
    assert list(found) == [d for one in alone for d, job in one.jobs.items() if job.kind == "curve"]
    areas = [cell.row for cell in both.cells if cell.row["metric"] == "robust_area"]
    assert [row["calibrator"] for row in areas] == ["matrix", "dirichlet"]
    assert set(labels(both)) == {"pgd linf 0.05 on calibrated", "pgd linf 0.1 on calibrated"}


def test_a_metric_with_other_parameters_has_its_own_means_over_seeds():
    metrics = [{"use": "ece", "bins": 10}, {"use": "ece", "bins": 15}]
    planned = plan({**BASE, "metrics": metrics, "train_seeds": [0, 1]})
    means = [cell.row["metric_params"] for cell in planned.cells if cell.row["metric"] == "ece:seed_mean"]
    assert not ambiguous(planned) and len(set(means)) == 2 and '"bins":10' in means[0]


def test_one_name_for_two_shifts_and_two_chains():
    rotate, shear = ({"shift": use, "severity": 1, "name": "x"} for use in ("rotate", "shear"))
    planned = plan({**BASE, "conditions": [rotate, shear]})
    assert not ambiguous(planned) and labels(planned) == ["x s1 (rotate)", "x s1 (shear)"]
    chains = [{"chain": [first, {"shift": "rotate", "severity": 1}], "name": "c"}
              for first in (attack(), attack(quantised=True), attack(eps=0.2), attack(victim="bpda:0"))]  # fmt: skip
    planned = plan({**BASE, "conditions": chains})
    assert not ambiguous(planned) and len(set(labels(planned))) == 4
    assert len({cell.row["params"] for cell in planned.cells if cell.row["metric"] == "accuracy"}) == 4


def test_the_id_is_of_the_steps_and_not_of_names_or_the_grid():
    one = plan({**BASE, "conditions": [attack(name="mine")]})
    other = plan({**BASE, "name": "another", "conditions": ["clean", attack()], "seed": 3})
    (first,) = {cell.row["condition_id"] for cell in one.cells}
    assert first in {cell.row["condition_id"] for cell in other.cells}
    assert first == conditions.derived_id({k: v for k, v in one.cells[0].row.items() if k != "condition_id"})


@pytest.mark.parametrize(
    ("text", "second", "first"),
    [
        ("conditions:\n  - clean\n  - {shift: fog, severity: 1}\n  - {shift: fog, severity: 1, name: mist}\n", 6, 5),
        ("conditions:\n  - clean\n  - clean\n", 5, 4),
        ("calibrators:\n  - none\n  - temperature\n  - temperature\n", 6, 5),
        ("detectors:\n  - {use: knn, k: 1}\n  - {use: knn, k: 5}\n", 5, 4),
        ("ood:\n  - {use: gaussian, limit: 50}\n  - {use: gaussian, limit: 90}\n", 5, 4),
        ("ood:\n  - {use: gaussian, limit: 50}\n  - {use: gaussian, limit: 50}\n", 5, 4),
        ("metrics:\n  - accuracy\n  - ece\n  - {use: ece, bins: 15}\n", 6, 5),
    ],
)
def test_what_nothing_would_tell_apart_is_refused_with_both_lines(text, second, first):
    head = "name: t\ndata: [{use: digits, train: 600, calibration: 200, test: 100}, ]\n"
    document = read_text(head.replace(", ]", "]") + text + "models: [{use: mlp, train: {epochs: 1}}]\n", "grid.yaml")
    with pytest.raises(UsageError) as caught:
        resolve(document)
    (problem,) = caught.value.problems
    assert problem.line == second and f"the one at line {first}" in problem.message


SHIFTS = st.builds(
    lambda use, severity, name: {"shift": use, "severity": severity, **name},
    st.sampled_from(["rotate", "fog"]), st.sampled_from([1, 2]), st.sampled_from([{}, {"name": "x"}]),
)  # fmt: skip
ATTACKS = st.builds(
    lambda use, eps, more: {"attack": use, "eps": eps, **more},
    st.sampled_from(["fgsm", {"use": "pgd", "steps": 2}, {"use": "pgd", "steps": 3}]),
    st.sampled_from([0.1, 0.2, [0.1, 0.2]]),
    st.sampled_from([{}, {"quantised": True}, {"victim": "calibrated"}, {"norm": "l2"}, {"name": "x"}]),
)
CHAINS = st.builds(lambda first, second: {"chain": [first, second], "name": "x"}, ATTACKS, SHIFTS)
METRICS = st.lists(st.sampled_from(["accuracy", {"use": "ece", "bins": 10}, {"use": "ece", "bins": 15}, "auroc"]),
                   min_size=1, unique_by=str)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.one_of(st.just("clean"), SHIFTS, ATTACKS, CHAINS), min_size=1, max_size=4),
    st.lists(st.sampled_from(["none", "temperature", "matrix", "dirichlet"]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(["gaussian", "uniform"]), max_size=2, unique=True),
    METRICS,
    st.sampled_from([[0], [0, 1]]),
)
def test_no_two_rows_of_a_plan_share_all_descriptive_columns(entries, calibrators, outside, metrics, seeds):
    ood = [{"use": name, "group": "far", "limit": 20} for name in outside]
    ood += [{**ood[0], "condition": attack()}] if ood else [{"use": "uniform", "limit": 20}]
    grid = {**BASE, "conditions": entries, "calibrators": calibrators, "metrics": metrics, "train_seeds": seeds}
    grid |= {"detectors": ["msp"], "ood": ood}
    try:
        planned = plan(grid)
    except UsageError as error:
        assert "asked for twice" in str(error)
        return
    assert not ambiguous(planned)

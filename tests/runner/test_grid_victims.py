"""Victims in grids: detectors' scores in both directions, surrogates as a matrix, what cannot be asked for."""

import pyarrow.parquet as pq
import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan


@pytest.fixture
def attacked(tiny):
    pgd = {"use": "pgd", "steps": 5}
    tiny["conditions"] = ["clean", {"attack": pgd, "eps": 0.1, "victim": ["detector:energy", "detector:knn"]}]
    tiny["ood"] = [
        {"use": "uniform", "limit": 60},
        {"use": "uniform", "limit": 60, "name": "hidden",
         "condition": {"attack": pgd, "eps": 0.1, "victim": "detector:energy"}},
    ]  # fmt: skip
    return tiny | {"detectors": ["energy", "knn"], "metrics": ["accuracy", "auroc"], "calibrators": ["none"]}


def test_a_detector_is_attacked_from_both_sides(attacked, runs, look):
    finished = runs(attacked)
    assert finished.outcome.ok, finished.outcome.errors()

    def auroc(detector, victim, ood_set):
        (row,) = look.rows(finished, metric="auroc", detector=detector, victim=victim, ood_set=ood_set)
        return row["value"]

    clean = auroc("energy", None, "uniform")
    pushed, hidden = auroc("energy", "detector:energy", "uniform"), auroc("energy", None, "hidden")
    assert pushed < clean - 0.1 and hidden < clean - 0.1
    assert auroc("energy", "detector:energy", "hidden") < min(pushed, hidden)
    assert auroc("knn", "detector:knn", "uniform") < auroc("knn", "detector:energy", "uniform")
    assert {r["ood_condition"] for r in look.rows(finished, ood_set="hidden")} == {"pgd linf 0.1 on detector:energy"}
    assert not [r for r in look.rows(finished, metric="audit") if "train mode" in r["convention"] and r["value"]]


def test_an_attack_on_a_score_takes_the_margin_loss_unless_told(attacked):
    losses = [j.recipe["attack"]["params"]["loss"] for j in plan(attacked).jobs.values() if j.kind == "attack"]
    assert set(losses) == {"margin"}
    attacked["conditions"] = [{"attack": {"use": "pgd", "loss": "ce"}, "eps": 0.1, "victim": "detector:energy"}]
    attacked["ood"] = []
    losses = [j.recipe["attack"]["params"]["loss"] for j in plan({**attacked, "metrics": ["ece"]}).jobs.values()
              if j.kind == "attack"]  # fmt: skip
    assert losses == ["ce"]


def test_all_surrogates_are_the_matrix_of_transfer(tiny, runs, look):
    tiny["models"].append({"use": "small-cnn", "name": "other", "train": {"recipe": "standard", "epochs": 1}})
    tiny["conditions"] = [{"attack": "fgsm", "eps": 0.1}, {"attack": "fgsm", "eps": 0.1, "victim": "surrogate:*"}]
    finished = runs({**tiny, "calibrators": ["none"]})
    found = {(r["victim"], r["model"]): r["value"] for r in look.rows(finished, metric="accuracy")}
    names = ("net", "other")
    assert set(found) == {(f"surrogate:{s}", t) for s in names for t in names} | {("model", t) for t in names}
    for name in names:
        assert found[f"surrogate:{name}", name] == found["model", name]
    attacks = [j for j in plan(tiny).jobs.values() if j.kind == "attack"]
    assert sorted(j.recipe["victim"]["kind"] for j in attacks) == ["model", "model", "transfer", "transfer"]


def test_images_for_another_model_are_made_of_every_example_and_judged_by_that_model(tiny, runs, look):
    tiny["models"].append({"use": "small-cnn", "name": "other", "train": {"recipe": "standard", "epochs": 1}})
    attack = {"attack": [{"use": "mifgsm", "stop": False}, "pgd"], "eps": 0.1, "victim": "surrogate:other"}
    finished = runs({**tiny, "conditions": ["clean", attack], "calibrators": ["none"], "metrics": ["accuracy"]})
    assert finished.outcome.ok, finished.outcome.errors()
    table = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    missed = {r["id"] for r in table if r["model"] == "other" and r["condition"] == "clean" and not r["correct"]}
    assert missed
    for name in ("mifgsm", "pgd"):
        mine = [r for r in table if r["model"] == "net" and r["condition"].startswith(name)]
        (row,) = look.rows(finished, model="net", condition=name, metric="accuracy")
        assert row["value"] == sum(r["correct"] for r in mine) / len(mine)
        # success, margin and loss are those of the model that is scored; what only the other one can say is left out
        assert all(r["success"] == (not r["correct"]) == (r["margin"] < 0) for r in mine)
        assert all(r["first_step"] is None and r["confidence_before"] is None for r in mine)
        assert min(r["distance"] for r in mine if r["id"] in missed) > 0.09
        own = [r for r in table if r["model"] == "other" and r["condition"].startswith(name) and r["id"] in missed]
        assert {r["distance"] for r in own} == {0.0}  # its own surrogate: an attack like any other


@pytest.mark.parametrize(
    ("attack", "victim", "says"),
    [
        ("pgd", "detector:enrgy", "unknown detector 'enrgy'; did you mean 'energy'?"),
        ("pgd", "surrogate:nat", "unknown surrogate 'nat'; did you mean 'net'?"),
        ("calibration_attack", "detector:energy", "moves the confidence of a classifier"),
        ("pgd", "detector:odin", "runs the network itself and cannot be a victim"),
    ],
)
def test_what_cannot_be_a_victim_is_a_plan_error(attacked, attack, victim, says):
    attacked["detectors"].append("odin")
    attacked["conditions"] = [{"attack": attack, "eps": 0.1, "victim": victim}]
    with pytest.raises(UsageError, match=r"victim|detectors") as error:
        plan(attacked)
    assert says in str(error.value)

"""Grids end to end in one process: what is run, what is shared, what the rows say."""

import numpy as np
import pyarrow.parquet as pq
import pytest

import testbed
from testbed.errors import UsageError
from testbed.metrics import auroc
from testbed.types import RESULTS

NET = """\
import torch

def make(spec, *, width: int = 8):
    h, w = spec.shape[:2]
    first, last = torch.nn.Linear(h * w, width), torch.nn.Linear(width, spec.classes)
    return torch.nn.Sequential(torch.nn.Flatten(), first, torch.nn.ReLU(), last)
"""


def test_a_grid_gives_its_rows_in_python_and_on_disk(tiny, runs, shared_store, tmp_path, look):
    finished = runs(tiny)
    assert finished.outcome.ok
    assert list(finished.table.column_names) == list(RESULTS)
    assert finished.table.equals(pq.read_table(finished.folder / "results.parquet"))
    table = testbed.evaluate(tiny, store=str(shared_store), out=tmp_path / "python", executor="serial")
    assert table.equals(finished.table)
    clean = look.rows(finished, condition="clean", calibrator="none", metric="accuracy")[0]
    assert clean["value"] > 0.5 and clean["ci_low"] < clean["value"] < clean["ci_high"] and clean["n"] == 100
    assert clean["status"] == "ok" and clean["convention"] and clean["digest"]


def test_running_again_runs_nothing_and_writes_the_same(tiny, runs, look):
    first, second = runs(tiny), runs(tiny)
    assert look.started(second) == []
    assert (first.folder / "results.parquet").read_bytes() == (second.folder / "results.parquet").read_bytes()


def test_a_new_calibrator_and_metric_run_no_forward_pass(tiny, runs, look):
    runs(tiny)
    tiny |= {"calibrators": ["none", "temperature", "isotonic"], "metrics": ["accuracy", "ece", "brier"]}
    assert set(look.started(runs(tiny))) <= {"calibrate", "score", "samples"}


def test_a_new_model_runs_only_its_own_cells(tiny, runs, look):
    runs(tiny)
    tiny["models"].append(
        {"use": "small-cnn", "name": "other", "train": {"recipe": "fgsm-rs", "eps": 0.1, "epochs": 1}}
    )
    finished = runs(tiny)
    labels = [r.report for r in finished.outcome.records.values() if r.status == "done"]
    assert len(labels) == len(look.started(finished)) > 0
    assert "split" not in look.started(finished)


def test_accuracy_is_what_samples_say(tiny, runs, look):
    finished = runs(tiny)
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    for condition in ("clean", "fgsm linf 0.1"):
        mine = [row for row in samples if row["condition"] == condition]
        row = look.rows(finished, condition=condition.split()[0], calibrator="none", metric="accuracy")[0]
        assert np.mean([m["correct"] for m in mine]) == pytest.approx(row["value"])
        assert all(m["prediction"] == m["label"] for m in mine if m["correct"])
    attacked = [row for row in samples if row["condition"] == "fgsm linf 0.1"]
    assert [m["success"] for m in attacked] == [not m["correct"] for m in attacked]
    assert max(m["distance"] for m in attacked) <= 0.1 + 1e-6


def test_samples_hold_decisions_by_calibrator_and_out_of_distribution_sets(tiny, runs, look):
    tiny |= {"calibrators": ["none", "isotonic"], "detectors": ["msp", "energy"], "metrics": ["accuracy", "auroc"]}
    tiny["ood"] = [{"use": "blobs", "limit": 60}, {"use": "gaussian", "limit": 50, "condition": {"shift": "rotate"}}]
    finished = runs(tiny)
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    clean = [row for row in samples if (row["dataset"], row["condition"]) == ("digits", "clean")]
    for calibrator in tiny["calibrators"]:
        row = look.rows(finished, condition="clean", calibrator=calibrator, metric="accuracy")[0]
        assert np.mean([dict(s["decision"])[calibrator] == s["label"] for s in clean]) == pytest.approx(row["value"])
    for name, size in (("blobs", 60), ("gaussian", 50)):
        row = look.rows(finished, condition="clean", calibrator="none", detector="energy", ood_set=name)[0]
        outside = [s for s in samples if (s["dataset"], s["condition"]) == (name, row["ood_condition"])]
        assert len(outside) == size and {s["label"] for s in outside} == {-1}
        scores = [np.array([dict(s["score"])["energy"] for s in part]) for part in (clean, outside)]
        assert auroc(*scores) == pytest.approx(row["value"], abs=1e-12)


def test_the_worst_case_is_per_example(tiny, runs, look):
    tiny["conditions"] = ["clean", {"attack": ["fgsm", {"use": "pgd", "steps": 3, "restarts": 1}], "eps": 0.05}]
    finished = runs(tiny)
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()
    fooled = {
        name: {r["id"] for r in samples if r["condition"] == f"{name} linf 0.05" and not r["correct"]}
        for name in ("fgsm", "pgd", "worst")
    }
    assert fooled["worst"] == fooled["fgsm"] | fooled["pgd"]
    worst = look.rows(finished, condition="worst", calibrator="none", metric="accuracy")[0]
    assert worst["value"] == pytest.approx(1 - len(fooled["worst"]) / 100)


def test_chains_surrogates_quantisation_and_attacked_ood_sets_run(tiny, runs, look):
    tiny["models"].append({"use": "small-cnn", "name": "other", "train": {"recipe": "standard", "epochs": 1}})
    tiny["conditions"] = [
        "clean",
        {"chain": [{"shift": "fog", "severity": 2}, {"attack": "fgsm", "eps": 0.1}], "name": "fog then fgsm"},
        {
            "chain": [{"attack": "fgsm", "eps": 0.1}, {"shift": "gaussian_noise", "severity": 1}],
            "name": "fgsm then noise",
        },
        {"attack": "fgsm", "eps": 0.1, "victim": "surrogate:other"},
        {"attack": "fgsm", "eps": 0.1, "quantised": True, "name": "fgsm 8-bit"},
    ]
    tiny |= {"detectors": ["msp", "knn"], "metrics": ["accuracy", "auroc"]}
    tiny["ood"] = [
        {"use": "gaussian", "limit": 60},
        {"use": "uniform", "limit": 60, "condition": {"attack": "fgsm", "eps": 0.1}},
    ]
    finished = runs(tiny)
    assert finished.outcome.ok, finished.outcome.errors()
    own = look.rows(finished, model="net", condition="fgsm", calibrator="none", metric="accuracy")[0]
    assert own["victim"] == "surrogate:other"
    assert {r["ood_condition"] for r in look.rows(finished, metric="auroc")} == {"clean", "fgsm linf 0.1"}
    chain = look.rows(finished, condition="fog then fgsm", calibrator="none", metric="accuracy")[0]
    assert (chain["kind"], chain["severity"], chain["eps"]) == ("chain", 2.0, 0.1)


def test_a_transferred_attack_is_the_set_made_on_the_surrogate(tiny, runs, look):
    tiny["models"].append({"use": "small-cnn", "name": "other", "train": {"recipe": "standard", "epochs": 1}})
    tiny["conditions"] = [
        {"attack": "fgsm", "eps": 0.1},
        {"attack": "fgsm", "eps": 0.1, "victim": "surrogate:other", "name": "transfer"},
    ]
    finished = runs(tiny)
    white = look.rows(finished, model="other", condition="fgsm", calibrator="none", metric="accuracy")[0]
    same = look.rows(finished, model="other", condition="transfer", calibrator="none", metric="accuracy")[0]
    assert white["value"] == same["value"]


def test_a_users_net_with_weights(tiny, runs, tmp_path, look):
    import torch
    from safetensors.torch import save_file

    (tmp_path / "net.py").write_text(NET)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    tiny["models"] = [{"use": "./net.py:make", "name": "mine", "weights": "net.safetensors"}]
    tiny |= {"detectors": ["knn"], "ood": ["gaussian"], "metrics": ["accuracy", "auroc"]}
    finished = runs(tiny)
    assert finished.outcome.ok, finished.outcome.errors()
    assert {r["variant"] for r in look.rows(finished)} == {"weights"}
    save_file({**net.state_dict(), "1.weight": torch.zeros(8, 63)}, tmp_path / "net.safetensors")
    errors = runs(tiny).outcome.errors()
    assert any("[8, 63]" in e and "1.weight" in e for e in errors.values())


def test_perturbed_images_are_dropped_unless_the_grid_keeps_them(tiny, runs_alone):
    from testbed.grid.planner import plan
    from testbed.store import Store

    def kept_sets():
        store = Store(runs_alone.store)
        return [m for m in store.all_manifests().values() if m.kind == "attack" and "set-00000" not in m.dropped]

    runs_alone(tiny)
    assert kept_sets() == []
    again = runs_alone({**tiny, "keep": "inputs"})
    assert again.outcome.ok and plan(tiny).wanted == plan({**tiny, "keep": "inputs"}).wanted


def test_a_calibrator_fitted_on_shifted_data_says_so(tiny, runs, look):
    tiny["calibrators"] = ["none", {"use": "temperature", "fit": {"shift": "gaussian_noise", "severity": 3}}]
    finished = runs(tiny)
    fits = {r["calibrator"]: r["fit"] for r in look.rows(finished, condition="clean", metric="ece")}
    assert fits == {"none": None, "temperature@gaussian_noise s3": "gaussian_noise s3"}


def test_evaluate_refuses_a_setting_it_does_not_know(tiny):
    with pytest.raises(UsageError, match="unknown setting 'exexutor'"):
        testbed.evaluate(tiny, exexutor="serial")

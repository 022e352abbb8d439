"""Outputs that come as files give what the network that made them gives; what needs the network is a plan error."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import testbed
from testbed.errors import UsageError
from testbed.grid.planner import plan
from testbed.runner.operations import access
from testbed.runner.run import Settings, run_plan
from testbed.store import Store

SHARED = {
    "calibrators": ["none", "temperature"],
    "detectors": ["msp", "energy", "vim", {"use": "knn", "k": 5}],
    "metrics": ["accuracy", "ece", "nll", "auroc", "fpr95"],
    "slices": ["class"],
    "compare": "none",
    "intervals": {"replicates": 100},
}
SAME = ["model", "condition", "calibrator", "fit", "detector", "ood_set", "metric", "group", "n", "convention", "value"]
SAME += ["ci_low", "ci_high", "status", "flags"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder, the rows of a network's grid, and its outputs as one npz: train, calibration, test and an OOD part."""
    folder = tmp_path_factory.mktemp("outputs")
    grid = {
        "name": "network",
        "data": [{"use": "digits", "train": 200, "calibration": 100, "test": 150}],
        "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}}],
        "ood": [{"use": "gaussian", "name": "noise", "limit": 60}],
        **SHARED,
    }
    planned = plan(grid)
    settings = Settings(out=folder / "run", store=str(folder / "store"), executor="serial", page=False)
    run_plan(planned, settings)
    store = Store(str(folder / "store"))
    labels = {"train": "train", "calibration": "calibration clean", "test": "clean", "noise": "noise"}
    jobs = {job.label: digest for digest, job in planned.jobs.items()}
    parts = {split: access.outputs(store, jobs[f"forward net on {label}"]) for split, label in labels.items()}
    whole = {
        "logits": np.concatenate([p.logits for p in parts.values()]),
        "features": np.concatenate([p.features for p in parts.values()]),
        "labels": np.concatenate([p.labels for p in parts.values()]),
        "ids": np.concatenate([p.ids + (10**10 if split == "noise" else 0) for split, p in parts.items()]),
        "split": np.concatenate([[split] * len(p) for split, p in parts.items()]),
        "head_weight": parts["test"].head_weight,
        "head_bias": parts["test"].head_bias,
    }
    return folder, pq.read_table(folder / "run" / "results.parquet").to_pylist(), whole


def table(arrays):
    """The columns of a parquet or CSV file."""
    columns = {"label": arrays["labels"], "id": arrays["ids"], "split": arrays["split"]}
    for name in ("logits", "features"):
        columns |= {f"{name}_{i}": arrays[name][:, i] for i in range(arrays[name].shape[1])}
    return pa.table(columns)


def grid_of(path, **more):
    """The same questions as the network's grid, asked of a file."""
    return {
        "name": "files",
        "data": [{"use": "outputs", "name": "digits", "path": str(path)}],
        "models": ["outputs"],
        "ood": [{"use": "outputs", "name": "noise", "path": str(path), "part": "noise"}],
        **SHARED,
        **more,
    }


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".csv":
        csv.write_csv(table(arrays), path)
    else:
        pq.write_table(table(arrays), path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_files_give_the_numbers_of_the_network_bit_for_bit(made, suffix):
    folder, rows, arrays = made
    path = write(folder / f"net{suffix}", arrays)
    detectors = SHARED["detectors"] if suffix == ".npz" else ["msp", "energy", {"use": "knn", "k": 5}]
    found = testbed.evaluate(grid_of(path, detectors=detectors), store=str(folder / "store"), executor="serial")

    expected = [row for row in rows if suffix == ".npz" or row["detector"] != "vim"]
    assert [[row[c] for c in SAME] for row in found.to_pylist()] == [[row[c] for c in SAME] for row in expected]
    assert {row["metric"] for row in expected} >= {"accuracy", "ece", "auroc"}


def test_probabilities_give_the_same_decisions_and_calibration(made):
    folder, rows, arrays = made
    z = arrays["logits"].astype(np.float64)
    p = np.exp(z - z.max(1, keepdims=True))
    own = {k: v for k, v in arrays.items() if k in ("labels", "ids", "split")}
    path = write_npz(folder / "p.npz", probs=p / p.sum(1, keepdims=True), **own)
    grid = grid_of(path, calibrators=["none"], detectors=[], ood=[], metrics=["accuracy", "ece"])
    grid |= {"data": [{"use": "outputs", "path": str(path), "given": "probs"}], "slices": [], "compare": None}
    found = {r["metric"]: r["value"] for r in evaluated(grid, folder) if r["group"] is None}

    whole = [r for r in rows if r["calibrator"] == "none" and r["group"] is None and r["detector"] is None]
    expected = {r["metric"]: r["value"] for r in whole if r["metric"] in ("accuracy", "ece")}
    assert found["accuracy"] == expected["accuracy"]
    assert found["ece"] == pytest.approx(expected["ece"], abs=1e-6)


def evaluated(grid, folder):
    return testbed.evaluate(grid, store=str(folder / "store"), executor="serial").to_pylist()


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_a_folder_is_one_model_a_file_paired_by_id(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    good = np.eye(3)[labels] * 4
    order = rng.permutation(40)
    (tmp_path / "exports").mkdir()
    ids = np.arange(100, 140)
    write_npz(tmp_path / "exports" / "a.npz", logits=good, labels=labels, ids=ids)
    write_npz(tmp_path / "exports" / "b.npz", logits=-good[order], labels=labels[order], ids=ids[order])
    data = {"use": "outputs", "path": str(tmp_path / "exports")}
    models = [{"use": "outputs", "system": "a"}, {"use": "outputs", "system": "b", "name": "other"}]
    grid = {"name": "two", "data": [data], "models": models, "metrics": ["accuracy"]}

    assert [(r["model"], r["n"], r["value"]) for r in evaluated(grid, tmp_path)] == [("a", 40, 1.0), ("other", 40, 0.0)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"conditions": ["clean", {"attack": "fgsm", "norm": "linf", "eps": 0.1}]},
            r"conditions\[1\].*attack 'fgsm'.*fil",
        ),
        ({"conditions": ["clean", {"attack": "square", "norm": "linf", "eps": 0.1}]}, "attack 'square' changes inputs"),
        ({"conditions": ["clean", {"shift": "fog"}]}, r"conditions\[1\].*shift 'fog' changes inputs"),
        ({"detectors": ["odin"]}, r"detectors\[0\].*'odin'.*runs the network"),
        ({"detectors": ["vim"]}, "detector 'vim'.*write head_weight"),
        ({"models": ["small-cnn"]}, "the network 'small-cnn' cannot be run on them"),
        ({"models": [{"use": "outputs", "system": "nett"}]}, "no file of a system 'nett'; did you mean 'net'"),
        ({"ood": ["gaussian"]}, "'gaussian' makes inputs.*give its outputs"),
        ({"data": ["digits"]}, "'outputs' is a file of outputs: its data are"),
    ],
)
def test_what_needs_the_network_is_a_plan_error(made, more, says):
    folder, _, arrays = made
    path = write(folder / "net.parquet", arrays)
    with pytest.raises(UsageError, match=says):
        plan(grid_of(path, **{"detectors": ["msp"], **more}))


GOOD = {"logits": np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 1.0]]), "labels": np.array([0, 1, 1])}


@pytest.mark.parametrize(
    ("change", "given", "says"),
    [
        ({"logits": np.array([[1, 2], [np.nan, 1], [0, 1]])}, "logits", "1 of 3 rows are not finite, first row 1"),
        ({"probs": np.array([[0.5, 0.5], [0.9, 0.9], [0, 1]])}, "probs", "row 1 sums to 1.8"),
        ({"labels": np.array([0, 1, 2])}, "logits", r"labels: expected whole numbers 0\.\.1"),
        ({"labels": np.array(["a", "b", "c"]), "classes": np.array(["a", "b"])}, "logits", "no class 'c'"),
        ({"labels": np.array(["a", "b", "b"])}, "logits", "name the classes"),
        ({"labels": np.array([0, -1, 1])}, "logits", "examples of 'test' have no label"),
        ({"labels": np.array([0, 1])}, "logits", "labels: expected 3 rows as in logits, got 2"),
        ({"ids": np.array([5, 5, 6])}, "logits", "ids: 5 stands in 2 rows.*no example in two splits"),
        ({"lables": np.array([0])}, "logits", "unknown array 'lables'; did you mean 'labels'"),
        ({}, "probs", "it holds 'logits': say `given: logits`"),
        ({"features": np.zeros((3, 2)), "head_weight": np.zeros((3, 2))}, "logits", r"expected \[2 2\], classes by"),
    ],
)
def test_a_fault_of_a_file_is_a_plan_error_that_names_it(tmp_path, change, given, says):
    path = write_npz(tmp_path / "own.npz", **{**GOOD, **change})
    data = {"use": "outputs", "path": str(path), "given": given}
    with pytest.raises(UsageError, match=rf"data\[0\].*(own\.npz|outputs).*{says}"):
        plan({"name": "own", "data": [data], "models": ["outputs"], "metrics": ["accuracy"]})


def test_systems_of_one_folder_must_hold_the_same_examples(tmp_path):
    write_npz(tmp_path / "a.npz", **GOOD, ids=np.arange(3))
    write_npz(tmp_path / "b.npz", **GOOD, ids=np.arange(1, 4))
    grid = {"name": "own", "data": [{"use": "outputs", "path": str(tmp_path)}], "metrics": ["accuracy"]}
    with pytest.raises(UsageError, match=r"its ids are not those of .*2 are in one of them only, such as 0"):
        plan({**grid, "models": ["outputs"]})


def test_class_names_are_the_ends_of_columns_and_a_changed_file_is_another_digest(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "label,split,probs_cat,probs_dog\ncat,test,0.9,0.1\ndog,test,0.8,0.2\n,far,0.5,0.5\n", encoding="utf-8"
    )
    data = {"use": "outputs", "path": str(path), "given": "probs"}
    grid = {"name": "own", "data": [data], "models": ["outputs"], "metrics": ["accuracy"]}
    (row,) = evaluated(grid, tmp_path)
    assert row["value"] == 0.5

    path.write_text(path.read_text().replace("0.8,0.2", "0.2,0.8"))
    (other,) = evaluated(grid, tmp_path)
    assert other["value"] == 1.0
    assert other["digest"] != row["digest"]


def test_groups_by_name_have_rows_of_their_own(tmp_path):
    path = tmp_path / "own.csv"
    rows = [f"{i % 2},{'old' if i < 20 else 'new'},{int(i % 2 == 0)},{int(i % 2 == 1 and i < 20)}" for i in range(40)]
    path.write_text("\n".join(["label,group,logits_0,logits_1", *rows]))
    data = {"use": "outputs", "path": str(path)}
    grid = {"name": "own", "data": [data], "models": ["outputs"], "metrics": ["worst_group_accuracy"]}
    (row,) = evaluated(grid, tmp_path)

    assert (row["n"], row["value"]) == (40, 0.5)
    assert "new" in str(row["convention"])


def test_a_stream_of_outputs_is_refused_where_it_stands(tmp_path):
    from testbed.grid.stream import plan_stream

    path = write_npz(tmp_path / "own.npz", **GOOD)
    stream = tmp_path / "stream.yaml"
    data = f"{{use: outputs, path: {path}}}"
    stream.write_text(
        f"name: s\ndata: {data}\nmodel: outputs\ncalibrators: [none]\nstream: [{{condition: clean, steps: 3}}]\n"
    )
    with pytest.raises(UsageError, match=r"stream\.yaml:2:\d+  data: a stream runs a network on inputs"):
        plan_stream(stream)

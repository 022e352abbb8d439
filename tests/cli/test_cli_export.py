"""`testbed export`: what is written is what the shift or the grid makes, readable by others, described beside it."""

import json
from hashlib import sha256

import numpy as np
import pytest

import testbed
from testbed.data.packaged import Digits
from testbed.store import Store

GRID = """
name: small
data: [{use: digits, train: 300, calibration: 100, test: 120}]
models: [{use: small-cnn, name: net, train: {recipe: standard, epochs: 1}}]
conditions: [clean, {shift: gaussian_noise, severity: [2, 5]}, {attack: fgsm, norm: linf, eps: 0.1}]
metrics: [accuracy]
runtime: {shard: 50}
"""


def croissant(folder):
    return json.loads((folder / "croissant.json").read_text())


def test_a_shifted_data_set_is_the_shift_of_its_examples(testbed_command, tmp_path) -> None:
    ended = testbed_command("export", "digits", "--shift", "gaussian-noise", "--severity", 4, "-f", "npy", "--seed", 3,
                            "--out", tmp_path / "out")  # fmt: skip
    assert ended.code == 0 and "1797 examples" in ended.out
    clean = Digits().load("all")
    expected = testbed.shift("gaussian_noise", severity=4)(clean.x, ids=clean.ids, seed=3)
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), expected)
    assert np.array_equal(np.load(tmp_path / "out" / "labels.npy"), clean.y)
    about = croissant(tmp_path / "out")
    made = json.loads(about["testbed:madeBy"])
    assert (made["severity"], made["seed"], made["shift"]["params"]["severity"]) == (4, 3, 4)
    listed = {file["name"]: file["sha256"] for file in about["distribution"]}
    assert listed["images.npy"] == sha256((tmp_path / "out" / "images.npy").read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["hf", "parquet", "images"])
def test_other_formats_hold_the_same_images(testbed_command, tmp_path, form) -> None:
    import datasets
    from PIL import Image

    out = tmp_path / form
    assert testbed_command("export", "digits", "--limit", 30, "-f", form, "--out", out).code == 0
    clean = {int(i): x for i, x in zip(Digits().load("all").ids, Digits().load("all").x, strict=True)}
    if form == "images":
        found = {int(path.stem): np.asarray(Image.open(path)) for path in out.glob("*/*.png")}
    else:
        rows = (
            datasets.load_from_disk(str(out))
            if form == "hf"
            else datasets.load_dataset("parquet", data_files=str(out / "data.parquet"), cache_dir=str(tmp_path / "c"))[
                "train"
            ]
        )
        found = {row["id"]: np.asarray(row["image"]) for row in rows}
    assert len(found) == 30
    assert all(np.array_equal(image, clean[i][:, :, 0]) for i, image in found.items())


def test_a_shift_of_sets_keeps_fewer_examples(testbed_command, tmp_path) -> None:
    ended = testbed_command("export", "digits", "--shift", "label-knock-out", "-f", "npy", "--out", tmp_path / "out")
    assert ended.code == 0 and len(np.load(tmp_path / "out" / "ids.npy")) < 1797


@pytest.fixture
def grid(tmp_path):
    """The grid above as a file."""
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path / "grid.yaml"


def test_a_condition_of_a_grid(testbed_command, grid, tmp_path) -> None:
    """By label; nothing of the model is needed for a shift, so nothing is trained."""
    store = tmp_path / "store"
    ended = testbed_command("export", grid, "--condition", "gaussian_noise s5", "-f", "npy", "--store", store,
                            "--out", tmp_path / "out")  # fmt: skip
    assert ended.code == 0, ended.err
    assert {m.kind for m in Store(str(store)).all_manifests().values()} == {"describe", "split", "shift"}
    ids = np.load(tmp_path / "out" / "ids.npy")
    clean = {int(i): x for i, x in zip(Digits().load("all").ids, Digits().load("all").x, strict=True)}
    expected = testbed.shift("gaussian_noise", severity=5)(np.stack([clean[i] for i in ids]), ids=ids, seed=0)
    assert len(ids) == 120 and np.array_equal(np.load(tmp_path / "out" / "images.npy"), expected)
    made = json.loads(croissant(tmp_path / "out")["testbed:madeBy"])
    assert made["steps"][0]["shift"]["use"] == "gaussian_noise" and "model" not in made


def test_an_attacked_set_after_its_images_were_dropped(testbed_command, grid, tmp_path) -> None:
    store = tmp_path / "store"
    arguments = ["run", grid, "--store", store, "--out", tmp_path / "run", "--executor", "serial"]
    run = testbed_command(*arguments, "--no-report")
    assert run.code == 0
    assert any(m.dropped for m in Store(str(store)).all_manifests().values() if m.kind == "attack")
    refused = testbed_command("export", grid, "--condition", "fgsm", "--store", store, "--out", tmp_path / "a")
    assert refused.code == 2 and "--round" in refused.err
    assert testbed_command("export", grid, "--condition", "fgsm", "-f", "npy", "--store", store, "--out",
                           tmp_path / "a").code == 0  # fmt: skip
    assert testbed_command("export", grid, "--condition", "fgsm", "-f", "images", "--round", "--store", store, "--out",
                           tmp_path / "b").code == 0  # fmt: skip
    attacked, ids = np.load(tmp_path / "a" / "images.npy"), np.load(tmp_path / "a" / "ids.npy")
    clean = {int(i): x for i, x in zip(Digits().load("all").ids, Digits().load("all").x, strict=True)}
    moved = np.abs(attacked[:, 0] - np.stack([clean[i][:, :, 0] for i in ids]) / 255).max(axis=(1, 2))
    assert attacked.dtype == np.float32 and attacked.shape[0] == 120
    assert moved.max() == pytest.approx(0.1, abs=1e-5)
    assert len(list((tmp_path / "b").glob("*/*.png"))) == 120
    again = testbed_command(*arguments, "--json")
    started = [line for line in again.out.splitlines() if '"started"' in line]
    assert again.code == 0 and not started  # what was made again is what was there


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits", "--shift", "fogg"], "did you mean 'fog'"),
        (["digitz"], "did you mean 'digits'"),
        (["digits", "--shift", "fog", "--severity", "6"], "[0, 5]"),
        (["digits", "--severity", "3"], "--severity: needs --shift"),
        (["digits", "-f", "npi"], "did you mean 'npy'"),
        (["digits", "--part", "train"], "no part 'train'"),
        (["digits", "--condition", "clean"], "--condition: belongs to the export of a grid"),
        (["digits", "-p", "sizes=3"], "no parameter 'sizes'"),
        (["npz"], "-p path=...: Field required"),
        (["npz", "-p", "path"], "name=value"),
        (["absent.yaml"], "absent.yaml"),
    ],
)
def test_wrong_usage_says_what_is_right(testbed_command, tmp_path, monkeypatch, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    ended = testbed_command("export", *arguments)
    assert ended.code == 2 and says in ended.err
    assert not list(tmp_path.iterdir())


def test_a_budget_of_a_curve(testbed_command, grid, tmp_path) -> None:
    text = grid.read_text().replace("attack: fgsm, norm: linf, eps: 0.1", "attack: fgsm, eps: [0.05, 0.1], curve: true")
    grid.write_text(text)
    store = ("--store", tmp_path / "store")
    assert (
        testbed_command("run", grid, *store, "--out", tmp_path / "run", "--executor", "serial", "--no-report").code == 0
    )
    args = ("export", grid, "--condition", "fgsm linf 0.05", "--out", tmp_path / "a", *store)
    refused = testbed_command(*args)
    assert refused.code != 0 and "--round, or -f npy" in refused.err
    assert testbed_command(*args, "-f", "npy").code == 0
    (step,) = json.loads(croissant(tmp_path / "a")["testbed:madeBy"])["steps"]
    assert (step["eps"], step["attack"]["use"], step["op"]) == (0.05, "fgsm", "sweep")
    attacked, ids = np.load(tmp_path / "a" / "images.npy"), np.load(tmp_path / "a" / "ids.npy")
    clean = {int(i): x for i, x in zip(Digits().load("all").ids, Digits().load("all").x, strict=True)}
    moved = np.abs(attacked[:, 0] - np.stack([clean[i][:, :, 0] for i in ids]) / 255).max(axis=(1, 2))
    assert attacked.shape[0] == 120 and moved.max() <= 0.05 + 1e-6 and (moved > 0).mean() > 0.5


def test_an_ambiguous_condition_lists_what_there_is(testbed_command, grid) -> None:
    ended = testbed_command("export", grid, "--condition", "gaussian_noise")
    assert ended.code == 2 and "gaussian_noise s2" in ended.err and "gaussian_noise s5" in ended.err


def test_a_folder_that_is_there_is_left_alone(testbed_command, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ended = testbed_command("export", "digits", "--out", tmp_path)
    assert ended.code == 2 and "exists already" in ended.err and (tmp_path / "mine.txt").read_text() == "mine"

"""What a user's plug-in rests on is in the digest: an edit of any of it makes exactly the dependants new."""

import shutil
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed import plugins
from testbed.errors import UsageError
from testbed.grid.explain import explain
from testbed.grid.planner import plan
from testbed.models import libraries
from testbed.store import Store

GRID = {
    "name": "own",
    "data": [{"use": "digits", "train": 300, "calibration": 100, "test": 60}],
    "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}}],
    "conditions": ["clean", {"shift": "gaussian_noise", "severity": 1}],
    "calibrators": ["none", "temperature"],
    "detectors": ["msp"],
    "ood": ["gaussian"],
    "metrics": ["accuracy", "auroc"],
}

#: Kind -> source of a plug-in called Mine.
BODIES = {
    "attack": "def Mine(model, x, y, *, eps: float, rng):\n    return x + K * eps\n",
    "shift": "def Mine(images, *, rng):\n    return images\n",
    "calibrator": """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Mine:
            def fit(self, logits, labels): return self
            def probs(self, logits): return logits
            def state(self): return {}
            def restore(self, state): return self
        """,
    "detector": """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Mine:
            def fit(self, outputs): return self
            def score(self, outputs): return outputs.logits.max(1)
            def state(self): return {}
            def restore(self, state): return self
        """,
    "metric": """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Mine:
            def __call__(self, p, y): ...
        """,
    "model": "def Mine(spec):\n    import torch\n    return torch.nn.Linear(1, 1)\n",
    "dataset": """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Mine:
            def sizes(self): return {"test": 60}
        """,
}
ADD = {
    "attack": lambda grid, use: grid["conditions"].append({"attack": use, "eps": 0.1}),
    "shift": lambda grid, use: grid["conditions"].append({"shift": use}),
    "calibrator": lambda grid, use: grid["calibrators"].append(use),
    "detector": lambda grid, use: grid["detectors"].append(use),
    "metric": lambda grid, use: grid["metrics"].append(use),
    "model": lambda grid, use: grid["models"].append({"use": use, "name": "mine"}),
    "dataset": lambda grid, use: grid["ood"].append(use),
}


@pytest.fixture
def base():
    return {key: list(value) if isinstance(value, list) else value for key, value in GRID.items()}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder on the module path with a package `lab_x` and, beside it, single files; nothing stays imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lab_x").mkdir()
    yield tmp_path
    for name in [m for m in sys.modules if m.split(".")[0] in ("lab_x", "acme_att")]:
        del sys.modules[name]


def new(after, before):
    """Labels of the jobs of a plan that another has not."""
    return {job.label for digest, job in after.jobs.items() if digest not in before.jobs}


@pytest.mark.parametrize("form", ["file", "module"])
@pytest.mark.parametrize("kind", BODIES)
def test_an_edited_helper_makes_exactly_the_dependants_new(kind, form, base, lab, write_grid):
    plain = plan(write_grid(base))
    body = "from DOTconsts import K\n" + textwrap.dedent(BODIES[kind])
    if form == "file":
        (lab / "mine.py").write_text(body.replace("DOT", ""))
        helper, use = lab / "consts.py", "./mine.py:Mine"
    else:
        (lab / "lab_x" / "mine.py").write_text(body.replace("DOT", "."))
        (lab / "lab_x" / "__init__.py").write_text("from . import deep\n")
        (lab / "lab_x" / "deep.py").write_text("")
        helper, use = lab / "lab_x" / "consts.py", "lab_x.mine:Mine"
    helper.write_text("K = 1.0\n")
    ADD[kind](base, use)
    before = plan(write_grid(base))
    own = new(before, plain)
    assert own
    helper.write_text("K = 0.0\n")
    after = plan(write_grid(base))
    assert new(after, before) == own
    assert set(after.jobs) >= {digest for digest, job in plain.jobs.items() if job.kind != "samples"}
    if form == "module":
        (lab / "lab_x" / "deep.py").write_text("# imported by the package\n")
        assert new(plan(write_grid(base)), after) == own


def test_explain_names_the_file_that_was_edited(base, lab, write_grid, tmp_path):
    (lab / "mine.py").write_text("import consts\nreads = ['table.json']\n" + BODIES["attack"])
    (lab / "consts.py").write_text("K = 1.0\n")
    (lab / "table.json").write_text("1")
    ADD["attack"](base, "./mine.py:Mine")
    before, store = plan(write_grid(base)), Store(tmp_path / "store")
    for job in before.jobs.values():
        if job.kind == "attack":
            for upstream in job.needs:
                with store.writer(before.jobs[upstream].__class__(upstream, "toy", {})):
                    pass
            with store.writer(job):
                pass
    for name, text in (
        ("consts.py", "K = 2.0\n"),
        ("table.json", "2"),
        ("mine.py", "import consts\n" + BODIES["attack"]),
    ):
        kept = (lab / name).read_text()
        (lab / name).write_text(text)
        after = plan(write_grid(base))
        lines = "\n".join(explain(after, after.jobs, store, "Mine linf 0.1 on net"))
        assert name in lines, lines
        (lab / name).write_text(kept)


def test_what_is_declared_to_be_read_is_in_the_digest(base, lab, write_grid, monkeypatch):
    (lab / "mine.py").write_text(
        "reads = ['weights', '{path}', '$LAB_MODE']\n"
        "def Mine(model, x, y, *, eps: float, path: str = 'table.json', rng):\n    return x\n"
    )
    (lab / "weights").mkdir()
    for name in ("weights/one.bin", "table.json", "other.json"):
        (lab / name).write_text("1")
    monkeypatch.delenv("LAB_MODE", raising=False)
    ADD["attack"](base, "./mine.py:Mine")
    seen = [plan(write_grid(base))]

    def changed():
        seen.append(plan(write_grid(base)))
        return bool(new(seen[-1], seen[-2]))

    (lab / "weights" / "one.bin").write_text("2")
    assert changed()
    (lab / "weights" / "one.bin").rename(lab / "weights" / "two.bin")
    assert changed()
    (lab / "table.json").write_text("2")
    assert changed()
    (lab / "other.json").write_text("2")
    assert not changed()
    monkeypatch.setenv("LAB_MODE", "fast")
    assert changed()
    base["conditions"][-1]["attack"] = {"use": "./mine.py:Mine", "path": "other.json"}
    assert changed()
    (lab / "table.json").write_text("3")
    assert not changed()


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("reads = ['absent.json']", "absent.json"),
        ("reads = [name]", "must be a literal list"),
        ("reads = ['{pth}']", "braces hold the name of a parameter; known: eps"),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_its_line(declared, says, base, lab, write_grid):
    (lab / "mine.py").write_text(f"{declared}\n" + BODIES["attack"])
    ADD["attack"](base, "./mine.py:Mine")
    with pytest.raises(UsageError, match=r"grid\.yaml:\d+:\d+ ") as caught:
        plan(write_grid(base))
    assert says in str(caught.value)


@pytest.fixture
def acme(lab):
    """A distribution with an attack as an entry point; `acme(version, factor)` installs it, in place of another."""

    def install(version, factor):
        info = lab / "acme-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[testbed.attacks]\nacme = acme_att:Mine\n")
        mark = f"open({str(lab / 'ran')!r}, 'w')\n"
        (lab / "acme_att.py").write_text(mark + BODIES["attack"].replace("K", str(factor)))
        plugins.installed.cache_clear()

    yield install
    plugins.installed.cache_clear()


@pytest.mark.parametrize("change", ["version", "text"])
def test_an_entry_point_of_another_distribution_is_its_version_and_its_text(change, base, lab, acme, write_grid):
    acme("1.0", 0.0)
    ADD["attack"](base, "acme")
    before = plan(write_grid(base))
    acme(*(("2.0", 0.0) if change == "version" else ("1.0", 1.0)))
    assert new(plan(write_grid(base)), before)
    assert not (lab / "ran").exists() and "acme_att" not in sys.modules


def test_planning_runs_nothing_of_a_users(base, lab, write_grid):
    for kind, body in BODIES.items():
        (lab / f"my_{kind}.py").write_text(f"open({str(lab / 'ran')!r}, 'w')\n" + textwrap.dedent(body))
        ADD[kind](base, f"./my_{kind}.py:Mine")
    planned = plan(write_grid(base))
    assert not (lab / "ran").exists()
    apart = {job.kind for job in planned.jobs.values() if job.places}
    assert {"attack", "shift", "calibrate", "bank", "detect", "weights", "ood", "score"} <= apart
    clean = [j for j in planned.jobs.values() if j.kind in ("train", "split") or j.label == "forward net on clean"]
    assert clean and not any(job.places for job in clean)


def test_a_users_metric_stands_alone_and_moves_nothing(base, lab, write_grid):
    before = plan(write_grid(base))
    (lab / "mine.py").write_text(textwrap.dedent(BODIES["metric"]))
    base["metrics"].insert(0, "./mine.py:Mine")
    after = plan(write_grid(base))
    assert set(after.jobs) > set(before.jobs)
    assert all(len(job.recipe["metrics"]) == 1 for d, job in after.jobs.items() if d not in before.jobs)


OWN_SET = """
from dataclasses import dataclass
from pathlib import Path
@dataclass(frozen=True)
class Mine:
    def sizes(self): return {"test": 60}
    def files(self): return (Path(FOLDER, "own.npz"),)
"""


def test_a_users_data_set_is_asked_for_its_files_elsewhere(base, lab, write_grid):
    (lab / "mine.py").write_text(OWN_SET.replace("FOLDER", repr(str(lab))))
    (lab / "own.npz").write_bytes(b"one")
    base["ood"] = ["./mine.py:Mine"]
    before = plan(write_grid(base))
    (lab / "own.npz").write_bytes(b"two")
    after = plan(write_grid(base))
    assert "ood Mine" in new(after, before) and "train net seed 0" not in new(after, before)
    assert str(lab / "own.npz") in after.places.values()
    (lab / "own.npz").unlink()
    with pytest.raises(UsageError, match=r"data set 'Mine': asked for its files\(\): .*own\.npz"):
        plan(write_grid(base))


def folder_of(kind, root):
    """A data set in a folder of parts: test and train."""
    r = np.random.default_rng(0)
    images, labels = r.integers(0, 255, (12, 8, 8), dtype=np.uint8), np.arange(12) % 2
    for part in ("test", "train"):
        if kind == "parquet":
            for shard in range(2):
                table = pa.table({"image": [one.reshape(-1).tolist() for one in images + shard], "label": labels})
                pq.write_table(table, root / f"{part}-{shard}.parquet")
        elif kind == "imagefolder":
            from PIL import Image

            for name in ("a", "b"):
                (root / part / name).mkdir(parents=True)
                for i in range(6):
                    Image.fromarray(images[i]).save(root / part / name / f"{i}.png")
    if kind == "saved":
        datasets = pytest.importorskip("datasets")
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(2)})
        from PIL import Image

        rows = {"image": [Image.fromarray(one) for one in images], "label": labels.tolist()}
        one = datasets.Dataset.from_dict(rows, features=features)
        datasets.DatasetDict({"test": one, "train": one}).save_to_disk(str(root))


def swap(kind, root):
    """What was of the one part is of the other, in the same order of files and with the same bytes."""
    if kind == "parquet":
        (root / "test-1.parquet").rename(root / "train-.parquet")
    elif kind == "imagefolder":
        (root / "test").rename(root / "calibration")
    else:
        (root / "test").rename(root / "nothing")
        (root / "dataset_dict.json").write_text('{"splits": ["nothing", "train"]}')


@pytest.mark.parametrize("kind", ["parquet", "imagefolder", "saved"])
def test_a_part_is_its_name_and_where_it_ends(kind, tmp_path):
    (tmp_path / "set").mkdir()
    folder_of(kind, tmp_path / "set")
    from testbed.data.base import fingerprint

    def found():
        return fingerprint(plugins.read("dataset", kind).build(path=str(tmp_path / "set")))

    before = found()
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    assert fingerprint(plugins.read("dataset", kind).build(path=str(tmp_path / "moved"))) == before
    swap(kind, tmp_path / "set")
    after = found()
    assert after["parts"] != before["parts"] and sum(before["parts"].values()) >= 4


def test_a_hub_model_is_the_commit_and_a_local_one_its_files(base, tmp_path, write_grid, monkeypatch):
    commits = {"main": "a" * 40}
    monkeypatch.setattr(libraries, "commit_of", lambda path, revision, kind: commits[revision])
    monkeypatch.setattr("testbed.grid.model_sources.installed_version", lambda name: "5.0")
    monkeypatch.setattr(plugins, "installed_version", lambda name: "5.0")
    base["models"] = [{"use": "transformers:lab/tiny", "name": "hub"}]
    before = plan(write_grid(base))
    assert {j.recipe["model"]["params"]["revision"] for j in before.jobs.values() if j.kind == "weights"} == {"a" * 40}
    commits["main"] = "b" * 40
    assert "weights hub" in new(plan(write_grid(base)), before)

    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    base["models"] = [{"use": f"transformers:{folder}", "name": "local"}]
    before = plan(write_grid(base))
    (folder / "config.json").write_text("{ }")
    assert "weights local" in new(plan(write_grid(base)), before)

"""Hub data sets end to end, against a server on loopback that speaks the hub's HTTP API.

Each phase is a process of its own, because the hub's libraries read their settings when they are imported: with the
server up, after `main` has moved on, with the server down, and with HF_HUB_OFFLINE=1.
"""

import io
import json

import numpy as np
import pytest

COLOURS = np.random.default_rng(0).integers(0, 256, (2, 24, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(24) % 3

CONFIGS = b"""---
configs:
- {config_name: a, data_files: a.parquet, default: true}
- {config_name: b, data_files: b.parquet}
---
"""

PHASE = """
import json, sys
from testbed.data.base import fingerprint
from testbed.data.hub import HubDataset
from testbed.errors import TestbedError

found = {}
for name, params in json.loads(sys.argv[1]).items():
    try:
        dataset = HubDataset(**params)
        part = next(iter(dataset.sizes()))
        examples = dataset.load(part)
        found[name] = {
            "sizes": dataset.sizes(), "classes": dataset.spec().class_names, "sum": int(examples.x.sum()),
            "y": examples.y.tolist(), "fingerprint": fingerprint(dataset),
        }
    except TestbedError as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def parquet(images, labels=LABELS, image="image", label="label"):
    from datasets import ClassLabel, Dataset, Image
    from PIL import Image as Pillow

    def png(pixels):
        Pillow.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    features = {image: Image()} | ({} if isinstance(labels[0], str) else {label: ClassLabel(names=["a", "b", "c"])})
    columns = {image: [png(pixels) for pixels in images], label: list(labels)}
    table = Dataset.from_dict(columns).cast_column(image, Image())
    for name, feature in features.items():
        table = table.cast_column(name, feature)
    table.to_parquet(buffer := io.BytesIO())
    return buffer.getvalue()


def files(images, **columns):
    return {
        "README.md": b"---\nlicense: mit\n---\n# Two colours\n",
        "data/train-00000-of-00001.parquet": parquet(images, **columns),
        "data/test-00000-of-00001.parquet": parquet(images[:5], LABELS[:5], **columns),
    }


class Phases:
    """Runs PHASE on cases that differ from the `main` of `lab/colours` by some parameters."""

    def __init__(self, hub, server, libraries):
        self.hub, self.server, self.python = hub, server, libraries.python

    def phase(self, cases, offline=False):
        cases = {name: {"path": "lab/colours", **params} for name, params in cases.items()}
        ended = self.python("-c", PHASE, json.dumps(cases), offline=offline)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def libraries(hub_server, tmp_path_factory):
    """`lab/colours` with two revisions, `main` at v1; and repositories with other columns."""
    hub = hub_server.Hub()
    colours = hub.repo("datasets", "lab/colours")
    colours.commit(files(COLOURS[1]), tag="v2")
    colours.commit(files(COLOURS[0]), tag="v1")
    hub.repo("datasets", "lab/renamed").commit(files(COLOURS[0], image="img", label="fine"))
    hub.repo("datasets", "lab/words").commit({"train.parquet": parquet(COLOURS[0][:2], ["red", "blue"])})
    hub.repo("datasets", "lab/damaged").commit({"train.parquet": b"PAR1 no more"})
    hub.repo("datasets", "lab/configs").commit(
        {"README.md": CONFIGS, "a.parquet": parquet(COLOURS[0]), "b.parquet": parquet(COLOURS[1])}
    )
    with hub_server.serving(hub) as server:
        yield Phases(hub, server, hub_server.Libraries(hub, tmp_path_factory.mktemp("hf")))


CASES = {
    "main": {},
    "v2": {"revision": "v2"},
    "part": {"split": "train[:50%]"},
    "config": {"path": "lab/configs", "config": "b"},
    "mapped": {"path": "lab/renamed", "image": "img", "label": "fine"},
    "no column": {"path": "lab/renamed", "image": "img"},
    "no revision": {"revision": "v3"},
    "no repository": {"path": "lab/gone"},
    "no config": {"config": "large"},
    "no split": {"split": "tests"},
    "words": {"path": "lab/words"},
    "damaged": {"path": "lab/damaged"},
}


@pytest.fixture(scope="module")
def online(libraries):
    return libraries.phase(CASES)


def test_a_revision_is_its_images_labels_and_commit(online, libraries):
    tags = libraries.hub.repo("datasets", "lab/colours").tags
    for name, images, commit in (("main", COLOURS[0], tags["v1"]), ("v2", COLOURS[1], tags["v2"])):
        assert online[name] == {
            "sizes": {"train": 24, "test": 5}, "classes": ["a", "b", "c"], "sum": int(images.sum()),
            "y": LABELS.tolist(), "fingerprint": {"files": [], "commit": commit},
        }  # fmt: skip
    assert online["part"]["sizes"] == {"train": 12} and online["part"]["sum"] == int(COLOURS[0][:12].sum())


def test_columns_are_mapped(online):
    assert online["mapped"]["sum"] == int(COLOURS[0].sum()) and online["mapped"]["y"] == LABELS.tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no column", "UsageError: data set 'lab/renamed', part 'train', has no column 'label'; "),
        ("no revision", "UsageError: data set 'lab/colours' has no revision 'v3' on the hub"),
        ("no repository", "UsageError: the hub has no data set 'lab/gone', or it is private"),
        ("no config", "UsageError: data set 'lab/colours': BuilderConfig 'large' not found. Available: ['default']"),
        ("no split", "UsageError: data set 'lab/colours': Unknown split \"tests\""),
        ("words", "DataError: data set 'lab/words', part 'train': the column 'label' holds str"),
        ("damaged", "UsageError: data set 'lab/damaged': Parquet magic bytes not found in footer"),
    ],
)
def test_what_the_hub_does_not_have_is_one_message(online, name, message):
    assert str(online[name]).startswith(message)


def test_the_cache_serves_the_revision_asked_for_and_no_other(online, libraries):
    away = {"main": {}, "v2": {"revision": "v2"}, "tag never asked for": {"revision": "v1"}, "never": {"path": "lab/x"}}
    offline = libraries.phase(away, offline=True)
    libraries.server.stop()
    down = libraries.phase(away)
    libraries.server.start()

    for found, reason in ((offline, "offline mode is enabled"), (down, "Connection refused")):
        assert found["main"] == online["main"] and found["v2"] == online["v2"]
        for name, revision in (("tag never asked for", "v1"), ("never", "main")):
            assert found[name].startswith("EnvironmentProblem: data set 'lab/") and reason in found[name]
            assert f"does not know the revision {revision!r}; connect once, or set HF_HOME" in found[name]


def test_a_known_commit_that_is_not_cached_is_not_replaced_by_another(online, libraries):
    tags = libraries.hub.repo("datasets", "lab/colours").tags
    other = {"commit": {"revision": "0" * 40}, "config": {"revision": tags["v2"], "config": "large"}}
    found = libraries.phase(other, offline=True)

    assert f"does not hold what is asked of commit {'0' * 40}; connect once" in found["commit"]
    assert found["config"].startswith("UsageError: data set 'lab/colours': Couldn't find cache for lab/colours for con")


def test_a_config_that_is_not_cached_is_not_replaced_by_another(online, libraries):
    cases = {"b": CASES["config"], "default": {"path": "lab/configs"}}
    found = libraries.phase(cases, offline=True)

    assert found["b"] == online["config"] and online["config"]["sum"] == int(COLOURS[1].sum())
    assert "; it holds the configs b: say one with `config`" in found["default"]


def test_a_branch_that_moves_on_is_another_set(online, libraries):
    repo = libraries.hub.repo("datasets", "lab/colours")
    before = repo.tags["main"]
    moved = repo.commit(files(255 - COLOURS[0]))
    after = libraries.phase({"main": {}, "pinned": {"revision": before}})
    repo.tags["main"] = before

    assert after["main"]["fingerprint"]["commit"] == moved != before
    assert after["main"]["sum"] == int((255 - COLOURS[0]).sum())
    assert after["pinned"] == online["main"]


GRID = """\
name: colours
data:
  - {use: hf, name: pinned, path: lab/colours, revision: v2, calibration: 6}
  - {use: hf, name: moving, path: lab/colours, calibration: 6}
models: [{use: small-cnn, train: {recipe: standard, epochs: 1}}]
conditions: [clean, {shift: gaussian_noise, severity: 3}]
ood: [{use: hf, path: lab/renamed, image: img, label: fine}]
detectors: [msp]
metrics: [accuracy, auroc]
"""


@pytest.mark.slow
def test_a_grid_on_hub_data_runs_and_goes_on_without_the_hub(libraries, tmp_path):
    def testbed(*arguments):
        return libraries.python("-m", "testbed", *arguments, "--executor", "serial", cwd=tmp_path)

    (tmp_path / "grid.yaml").write_text(GRID)
    first = testbed("run", "grid.yaml")
    libraries.server.stop()
    (tmp_path / "more.yaml").write_text(GRID.replace("metrics: [", "metrics: [nll, "))
    again, more, gone = (
        testbed("run", "grid.yaml"),
        testbed("run", "more.yaml"),
        testbed("run", "grid.yaml", "-o", "data.1.revision=v1"),
    )
    libraries.server.start()

    assert first.returncode == again.returncode == more.returncode == 0, first.stderr + again.stderr + more.stderr
    assert "0/0 jobs" in again.stderr
    assert gone.returncode in (2, 3) and "Traceback" not in gone.stderr
    assert "grid.yaml:4:" in gone.stderr and "does not know the revision 'v1'" in gone.stderr

"""verify, gc, du and merge, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy_jobs as toy
from typer.testing import CliRunner

from testbed.cli.store import app
from testbed.runner.driver import run
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store, upkeep


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store holding a finished toy run."""
    store = Store(tmp_path / "store")
    jobs = toy.by_digest(*toy.diamond())
    run(jobs, list(jobs), store, Serial(Setting(toy.OPERATION, store.url)))
    return store


def alter(store: Store, digest: str, name: str) -> None:
    """Flip one bit of a blob."""
    path = Path(store.url) / "blobs" / store.manifest(digest).blobs[name].file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_verify_finds_what_was_altered_and_repair_sets_it_aside(store: Store) -> None:
    top, left, _, bottom = toy.diamond()
    assert upkeep.verify(store) == {}
    alter(store, top.digest, "x")
    manifest = Path(store.url) / "manifests" / left.digest[:2] / f"{left.digest}.json"
    manifest.write_bytes(manifest.read_bytes()[:-5])
    bad = upkeep.verify(store)

    assert set(bad) == {top.digest, left.digest}
    assert "altered" in bad[top.digest]
    assert upkeep.verify(store, repair=True) == bad
    assert upkeep.verify(store) == {}
    jobs = toy.by_digest(*toy.diamond())
    outcome = run(jobs, list(jobs), store, Serial(Setting(toy.OPERATION, store.url)))
    assert outcome.ok
    assert upkeep.verify(store) == {}
    assert outcome.records[bottom.digest].status == "cached"


def test_gc_removes_only_what_nothing_names(store: Store) -> None:
    before = toy.snapshot(store)
    store.write_blob(b"left by a crash", "json", "rows")
    store.files.write("tmp/1-abc", b"half")

    assert upkeep.gc(store) == 0  # too young: a running job may be about to name it
    assert upkeep.gc(store, grace=-1) == len(b"left by a crash") + len(b"half")
    assert upkeep.verify(store) == {}
    assert toy.snapshot(store) == before


def test_gc_keeping_one_plan_removes_the_rest(store: Store) -> None:
    top, left, *_ = toy.diamond()
    upkeep.gc(store, keep={top.digest, left.digest}, grace=-1)

    assert set(store.all_manifests()) == {top.digest, left.digest}
    assert upkeep.verify(store) == {}
    assert upkeep.du(store).unnamed == 0


def test_du_adds_up(store: Store) -> None:
    store.write_blob(b"left by a crash", "json", "rows")
    usage = upkeep.du(store)

    assert usage.artifacts == 4
    assert usage.unnamed == 15
    assert sum(sum(roles.values()) for roles in usage.by_kind.values()) + usage.unnamed == usage.total
    assert usage.total == sum(p.stat().st_size for p in (Path(store.url) / "blobs").rglob("*") if p.is_file())
    dropped = store.drop([toy.diamond()[0].digest])
    assert upkeep.du(store).dropped == dropped > 0


def test_merge_takes_in_what_is_missing_and_names_conflicts(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    extra = toy.job("make", name="extra")
    top = toy.diamond()[0]
    for job, value in ((extra, 1), (top, 99)):
        with other.writer(job) as writer:
            writer.tensors("x", {"x": np.array([value])})
    source = other.put_source("x = 1\n")
    merged = upkeep.merge(store, other)

    assert merged.artifacts == 1
    assert merged.conflicts == (top.digest,)
    assert store.tensors(extra.digest, "x")["x"].tolist() == [1]
    assert store.source(source) == "x = 1\n"
    assert upkeep.verify(store) == {}
    assert upkeep.merge(store, other).artifacts == 0


def test_command_line(store: Store, tmp_path: Path) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.output

    top = toy.diamond()[0]
    assert call("verify", "--store", store.url) == (0, f"{store.url}: 0 of 4 artifacts are not what they should be\n")
    assert "4 artifacts" in call("du", "--store", store.url)[1]
    plan = tmp_path / "plan.json"
    plan.write_text(f'{{"jobs": [{{"digest": "{top.digest}"}}]}}')
    assert call("merge", store.url, "--store", str(Path(store.url)))[0] == 1  # UsageError: the store itself
    assert call("gc", "--store", store.url, "--keep", str(plan), "--grace", "-1")[0] == 0
    assert set(store.all_manifests()) == {top.digest}
    alter(store, top.digest, "x")
    code, output = call("verify", "--store", store.url, "--repair")
    assert code == 1
    assert "set aside" in output
    assert call("du", "--store", str(tmp_path / "nowhere"))[0] == 1

"""A store that somebody else made is read by its schema: names come from hashes, nothing leads out of it or blocks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import toy_jobs as toy
from typer.testing import CliRunner

from testbed.cli.store import app
from testbed.digest import digest_bytes
from testbed.store import Blob, Manifest, Store, upkeep
from testbed.store.manifest import _framed, parse
from testbed.store.store import manifest_name

DATA = b'{"theirs": 1}'
HASH = digest_bytes(DATA)
THEIRS = toy.job("make", name="theirs").digest


def manifest(digest: str = THEIRS, **blob: object) -> Manifest:
    """An artifact of one blob, sound but for what is given."""
    fields = {"file": f"{HASH[:2]}/{HASH}.json", "hash": HASH, "bytes": len(DATA), "format": "json", "role": "rows"}
    return Manifest(digest, "make", {}, {}, {"a": Blob(**fields | blob)}, {})


def store_of(folder: Path, found: Manifest, stem: str = THEIRS, data: bytes | None = DATA) -> Store:
    """A store of one artifact, whose manifest lies under the name that `stem` gives."""
    store = Store(folder)
    if data is not None:
        store.files.write(f"blobs/{HASH[:2]}/{HASH}.json", data)
    store.files.write(manifest_name(stem), found.to_bytes())
    return store


@pytest.fixture
def mine(tmp_path: Path) -> Store:
    """A store with one honest artifact."""
    store = Store(tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    toy.perform(toy.job("make", name="honest", n=2), store)
    return store


def test_a_sound_store_is_taken_in(mine: Store, tmp_path: Path) -> None:
    assert upkeep.merge(mine, store_of(tmp_path / "theirs", manifest())).artifacts == 1
    assert mine.json(THEIRS, "a") == {"theirs": 1}


@pytest.mark.parametrize(
    "found",
    [
        manifest(format="x/../../../../home/.profile"),
        manifest(format="py"),
        manifest(file="../../secret.txt"),
        manifest(hash="../secret"),
        manifest(bytes=-1),
        manifest(role=None),
        manifest("../../../home/evil"),
        Manifest(THEIRS, "make", {}, {"../x": "y"}, {}, {}),
        Manifest(THEIRS, "make", {}, {}, {}, {}, dropped=("absent",)),
    ],
)
def test_what_is_not_by_the_schema_is_no_artifact(mine: Store, tmp_path: Path, found: Manifest) -> None:
    (tmp_path / "secret.txt").write_bytes(DATA)
    theirs = store_of(tmp_path / "theirs", found)
    before = sorted(tmp_path.rglob("*"))

    assert upkeep.merge(mine, theirs).artifacts == 0
    assert set(upkeep.verify(theirs)) == {THEIRS}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_manifest_under_the_name_of_another_replaces_nothing(mine: Store, tmp_path: Path) -> None:
    honest = toy.job("make", name="honest", n=2).digest
    before = toy.snapshot(mine)

    assert upkeep.merge(mine, store_of(tmp_path / "theirs", manifest(honest))).artifacts == 0
    assert toy.snapshot(mine) == before


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[]",
        b'{"version": 1}',
        b'{"version":1,"content":"x","digest":"d","kind":"k","recipe":{},"inputs":{},"blobs":[],"meta":{},"dropped":[]}',
        b'{"version":1,"content":"x","digest":"d","kind":"k","recipe":{},"inputs":{},"blobs":{"a":{"x":1}},"meta":{},'
        b'"dropped":[]}',
        b'{"version":1,"content":NaN,"digest":[],"kind":"k","recipe":[],"inputs":[],"blobs":{},"meta":[],"dropped":[]}',
    ],
)
def test_framed_nonsense_reads_as_absent(body: bytes) -> None:
    assert parse(_framed(body)) is None


@pytest.mark.parametrize("trick", ["pipe", "zero", "link", "loop", "manifest link"])
def test_pipes_and_links_are_neither_read_nor_followed(mine: Store, tmp_path: Path, trick: str) -> None:
    theirs = store_of(tmp_path / "theirs", manifest(), data=None if trick in ("pipe", "zero", "link") else DATA)
    path = tmp_path / "theirs" / "blobs" / HASH[:2] / f"{HASH}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "outside.json").write_bytes(DATA)
    if trick == "pipe":
        os.mkfifo(path)
    elif trick in ("zero", "link"):
        path.symlink_to("/dev/zero" if trick == "zero" else tmp_path / "outside.json")
    elif trick == "loop":
        (tmp_path / "theirs" / "manifests" / "loop").symlink_to(tmp_path / "theirs" / "manifests")
    else:
        own = tmp_path / "theirs" / manifest_name(THEIRS)
        own.rename(tmp_path / "moved.json")
        own.symlink_to(tmp_path / "moved.json")
    ended = CliRunner().invoke(app, ["merge", theirs.url, "--store", mine.url])

    taken = mine.manifest(THEIRS) is not None
    assert taken == (trick == "loop")
    assert trick in ("loop", "manifest link") or "is absent" in str(ended.exception)

"""What dropping and the disk budget cost and leave: no more in a big store, and nobody's file is gone."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import toy_jobs as toy

from testbed.digest import digest_bytes
from testbed.errors import CorruptArtifact
from testbed.store import Blob, Manifest, Store, codec, upkeep
from testbed.store.files import Files, RemoteFiles
from testbed.types import Job


class Counting:
    """The files of a store, and how many of them each method was asked for or gave."""

    def __init__(self, files: Files) -> None:
        self.files, self.counts = files, Counter()

    def __getattr__(self, name):
        method = getattr(self.files, name)
        if not callable(method):
            return method

        def counted(*arguments):
            if name == "list":
                found = list(method(*arguments))
                self.counts[name] += 1 + len(found)
                return iter(found)
            if name in ("read_many", "remove", "sizes"):
                asked = list(arguments[0])
                self.counts[name] += len(asked)
                return method(asked)
            self.counts[name] += 1
            return method(*arguments)

        return counted


def publish(store: Store, job: Job, value: int) -> None:
    """An artifact of one set, which may be dropped, and one row."""
    with store.writer(job) as writer:
        writer.tensors("x", {"x": np.full(64, value, np.float64)}, role="inputs")
        writer.json("rows", {"value": value}, role="rows")


def cost_of_a_drop(url: str, others: int) -> Counter:
    """What is read, listed, written and removed to drop one set among so many others."""
    store = Store(url)
    for number in range(others):
        publish(store, toy.job("make", name=f"other {number}"), 1 + number % 3)
    job = toy.job("make", name="mine")
    publish(store, job, 0)
    store.files = counting = Counting(store.files)
    assert store.drop([job.digest]) > 0
    return counting.counts


@pytest.mark.parametrize("place", ["disk", "memory://space"])
def test_a_drop_costs_the_same_whatever_the_store_holds(tmp_path: Path, place: str) -> None:
    where = str(tmp_path / place) if place == "disk" else place
    few, many = (cost_of_a_drop(f"{where}-{others}", others) for others in (1, 40))

    assert few == many
    assert many["list"] == 0 and many["read_many"] == 1 and many["write"] == 1


def test_one_content_of_several_owners_is_on_disk_once_and_goes_with_the_last(tmp_path: Path) -> None:
    store = Store(tmp_path)
    jobs = [toy.job("make", name=str(i)) for i in range(3)]
    for job in jobs:
        publish(store, job, 7)
    one = upkeep.du(store)
    blobs = [Path(store.url) / "blobs" / store.manifest(job.digest).blobs["x"].file for job in jobs]

    assert len({path.stat().st_ino for path in blobs}) == 1 and len({path.name for path in blobs}) == 3
    assert one.by_kind["make"]["inputs"] + one.by_kind["make"]["rows"] == one.total
    assert one.by_kind["make"]["inputs"] == pytest.approx(blobs[0].stat().st_size, abs=3)
    size = blobs[0].stat().st_size
    assert [store.drop([job.digest]) for job in jobs[:2]] == [0, 0]
    assert store.tensors(jobs[2].digest, "x")["x"].max() == 7
    assert store.drop([jobs[2].digest]) == size
    assert list(store.files.list("shared")) == [] and upkeep.verify(store) == {}


def test_writers_and_droppers_of_one_content_take_nobodys_file(tmp_path: Path) -> None:
    """Six threads make and drop artifacts of the same bytes; those that are not dropped must be whole."""
    kept: list[str] = []

    def work(thread: int) -> None:
        store = Store(tmp_path)
        for number in range(6):
            job = toy.job("make", name=f"{thread} {number}")
            publish(store, job, 7)
            if number % 3:
                store.drop([job.digest])
            else:
                kept.append(job.digest)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))

    store = Store(tmp_path)
    assert len(kept) == 12 and upkeep.verify(store) == {}
    assert all(store.tensors(digest, "x")["x"].sum() == 7 * 64 for digest in kept)


def test_a_damaged_file_is_not_handed_to_the_next_owner(tmp_path: Path) -> None:
    store, one, two = Store(tmp_path), toy.job("make", name="one"), toy.job("make", name="two")
    publish(store, one, 7)
    path = Path(store.url) / "blobs" / store.manifest(one.digest).blobs["x"].file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    publish(store, two, 7)

    assert store.tensors(two.digest, "x")["x"].max() == 7
    with pytest.raises(CorruptArtifact, match="altered"):
        store.tensors(one.digest, "x")


def as_before(store: Store, name: str, value: int) -> str:
    """An artifact as earlier versions left it: the file of its set is named by the content alone."""
    data = codec.tensors_to_bytes({"x": np.full(64, value, np.float64)})
    found = digest_bytes(data)
    blob = Blob(f"{found[:2]}/{found}.safetensors", found, len(data), "safetensors", "inputs")
    store.files.write(f"blobs/{blob.file}", data)
    job = toy.job("make", name=name)
    store.write_manifest(Manifest(job.digest, "make", job.recipe, {}, {"x": blob}, {}))
    return job.digest


def test_sets_of_earlier_versions_are_read_and_their_files_go_with_gc(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, two = as_before(store, "one", 7), as_before(store, "two", 7)
    three = toy.job("make", name="three")
    publish(store, three, 7)

    assert store.drop([one]) == 0 and store.manifest(one).dropped == ("x",)
    assert store.tensors(two, "x")["x"].max() == 7
    assert upkeep.gc(store, grace=-1) == 0
    assert store.drop([two]) == 0 and upkeep.gc(store, grace=-1) > 0
    assert store.tensors(three.digest, "x")["x"].max() == 7 and upkeep.verify(store) == {}


def test_gc_removes_what_a_dropper_that_died_left_and_counts_it_once(tmp_path: Path) -> None:
    store, job = Store(tmp_path), toy.job("make", name="a")
    publish(store, job, 7)
    blob = store.manifest(job.digest).blobs["x"]
    store.files.remove([f"manifests/{job.digest[:2]}/{job.digest}.json"])
    rows = sum(e.size for e in store.files.list("blobs")) - blob.bytes

    assert upkeep.gc(store) == 0  # a job may be writing it now
    assert upkeep.gc(store, grace=-1) == blob.bytes + rows
    assert list(store.files.list("blobs")) == list(store.files.list("shared")) == []


def test_merge_takes_a_set_under_its_own_name(tmp_path: Path) -> None:
    old, new = Store(tmp_path / "old"), Store(tmp_path / "new")
    digest = as_before(old, "one", 7)
    upkeep.merge(new, old)

    assert new.tensors(digest, "x")["x"].max() == 7
    assert new.manifest(digest).content == old.manifest(digest).content
    assert new.drop([digest]) > 0


def test_a_budget_lists_the_store_once_and_not_for_each_job(tmp_path: Path) -> None:
    counts = []
    for jobs in (2, 12):
        url, listed = str(tmp_path / str(jobs)), 0
        for number in range(jobs):
            store = Store(url, max_disk=10**9)  # every job opens its own
            store.files = counting = Counting(store.files)
            publish(store, toy.job("make", name=str(number)), number)
            listed += counting.counts["list"]
        counts.append(listed)

    assert counts == [1, 1]


def test_sizes_on_an_object_store_list_only_the_folders_asked_for() -> None:
    files = RemoteFiles("memory://sizes")
    names = [f"blobs/{a}{b}/{i}" for a in "abcdefgh" for b in "abcdefgh" for i in range(3)]
    for name in names:
        files.write(name, b"12345")
    listed: list[str] = []
    plain = files.list
    files.list = lambda folder: (listed.append(folder), plain(folder))[1]  # type: ignore[method-assign]
    asked = [name for name in names if name.startswith(("blobs/aa", "blobs/ab", "blobs/ha", "blobs/hb"))]

    assert files.sizes([*asked, "blobs/aa/absent"]) == dict.fromkeys(asked, 5)
    assert sorted(listed) == ["blobs/aa", "blobs/ab", "blobs/ha", "blobs/hb"]

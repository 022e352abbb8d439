"""The store on a local folder: round trips, atomicity, checks, and what `done` means."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import toy_jobs as toy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from testbed.errors import CorruptArtifact, EnvironmentProblem
from testbed.store import Failure, Manifest, Store, StoreFull, codec
from testbed.store.manifest import parse
from testbed.types import Job


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


def publish(store: Store, job: Job, value: int = 1) -> None:
    """A small artifact with one blob of each format."""
    with store.writer(job) as writer:
        writer.tensors("x/0000", {"x": np.full((3, 2), value, np.float32)}, role="inputs")
        writer.table("rows", pa.table({"value": [value]}))
        writer.json("state", {"value": value})
        writer.meta["value"] = value


def path_of(store: Store, job: Job, name: str) -> Path:
    """The file of a blob."""
    manifest = store.manifest(job.digest)
    assert manifest is not None
    return Path(store.url) / "blobs" / manifest.blobs[name].file


def test_round_trip_of_every_format(store: Store) -> None:
    job = toy.job("make", name="a")
    publish(store, job, 7)

    assert store.tensors(job.digest, "x/0000")["x"].tolist() == [[7.0, 7.0]] * 3
    assert store.table(job.digest, "rows").to_pylist() == [{"value": 7}]
    assert store.json(job.digest, "state") == {"value": 7}
    assert store.manifest(job.digest).recipe == job.recipe
    assert store.manifest(job.digest).names("x/") == ("x/0000",)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
            lambda n: n != "__metadata__"
        ),
        hnp.arrays(
            st.sampled_from(["?", "u1", "i2", "i4", "i8", "f2", "f4", "f8"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
        ),
        max_size=4,
    )
)
def test_tensors_survive_bit_for_bit_and_bytes_depend_on_values_only(arrays: dict[str, np.ndarray]) -> None:
    data = codec.tensors_to_bytes(arrays)
    back = codec.tensors_from_buffer(bytearray(data))

    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in back.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in arrays.items()
    }
    by_columns = {n: np.array(a, order="F") for n, a in reversed(arrays.items())}
    assert codec.tensors_to_bytes(by_columns) == data


def test_files_are_what_other_programs_read(store: Store) -> None:
    job = toy.job("make", name="a")
    publish(store, job, 7)

    assert load_file(path_of(store, job, "x/0000"))["x"].tolist() == [[7.0, 7.0]] * 3
    assert pa.parquet.read_table(path_of(store, job, "rows")).to_pylist() == [{"value": 7}]


def test_arrays_are_no_copies_and_writing_to_them_changes_no_file(store: Store) -> None:
    job = toy.job("make", name="a")
    publish(store, job, 7)
    before = path_of(store, job, "x/0000").read_bytes()
    x = store.tensors(job.digest, "x/0000")["x"]
    x += 1

    assert not x.flags.owndata
    assert path_of(store, job, "x/0000").read_bytes() == before
    assert store.tensors(job.digest, "x/0000")["x"].max() == 7


def test_object_arrays_are_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="dtype object"), store.writer(toy.job("make", name="a")) as writer:
        writer.tensors("x", {"x": np.array([None])})


def test_one_name_is_written_once(store: Store) -> None:
    with pytest.raises(ValueError, match="written once"), store.writer(toy.job("make", name="a")) as writer:
        writer.json("a", 1)
        writer.json("a", 2)


def test_nothing_is_published_when_the_work_fails(store: Store) -> None:
    job = toy.job("make", name="a")
    with pytest.raises(RuntimeError), store.writer(job) as writer:
        writer.json("a", 1)
        raise RuntimeError

    assert store.manifest(job.digest) is None
    assert not store.done(job)


def test_manifest_bytes_are_the_same_everywhere(store: Store, tmp_path: Path) -> None:
    other, job = Store(tmp_path / "other"), toy.job("make", name="a")
    publish(store, job)
    publish(other, job)

    assert toy.snapshot(store) == toy.snapshot(other)
    text = next(iter(toy.snapshot(store).values())).decode()
    assert os.uname().nodename not in text
    assert str(tmp_path) not in text


@given(st.integers(0, 2000), st.integers(1, 255))
def test_manifest_with_any_byte_changed_reads_as_absent(position: int, change: int) -> None:
    data = bytearray(Manifest("d" * 20, "score", {"a": 1}, {"i": "c"}, {}, {"n": 2}).to_bytes())
    position %= len(data)
    data[position] ^= change

    assert parse(bytes(data)) is None


def test_done_wants_the_manifest_and_whole_files(store: Store) -> None:
    job = toy.job("make", name="a")
    assert not store.done(job)
    publish(store, job)
    assert store.done(job)
    path_of(store, job, "rows").write_bytes(b"")
    assert not store.done(job)


def test_done_wants_the_content_that_was_consumed(store: Store) -> None:
    top, left, *_ = toy.diamond()
    publish(store, top, 1)
    publish(store, left, 2)
    assert store.done(left)

    store.set_aside(top.digest)
    assert store.done(left)  # an absent input says nothing against it
    publish(store, top, 5)
    assert not store.done(left)
    store.set_aside(top.digest)
    publish(store, top, 1)
    assert store.done(left)


def test_dropped_blobs_matter_to_those_who_read_them(store: Store) -> None:
    job = toy.job("make", name="a")
    publish(store, job)
    content = store.manifest(job.digest).content
    freed = store.drop([job.digest])

    assert freed > 0
    assert store.done(job)
    assert store.done(job, frozenset({"rows"}))
    assert not store.done(job, frozenset({"inputs"}))
    assert not store.done(job, None)
    assert store.manifest(job.digest).content == content
    assert store.drop([job.digest]) == 0
    with pytest.raises(CorruptArtifact, match="dropped"):
        store.tensors(job.digest, "x/0000")


def test_drop_leaves_a_file_that_another_artifact_names(store: Store) -> None:
    one, two = toy.job("make", name="one"), toy.job("make", name="two")
    publish(store, one)
    publish(store, two)

    assert store.drop([one.digest]) == 0
    assert store.tensors(two.digest, "x/0000")["x"].max() == 1
    assert store.drop([two.digest]) > 0


@pytest.mark.parametrize("name", ["x/0000", "rows", "state"])
def test_altered_blob_is_never_read(store: Store, name: str) -> None:
    job = toy.job("make", name="a")
    publish(store, job)
    store.check(job.digest)
    path = path_of(store, job, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    read = {"x/0000": store.tensors, "rows": store.table, "state": store.json}[name]

    with pytest.raises(CorruptArtifact, match="truncated or altered"):
        read(job.digest, name)
    with pytest.raises(CorruptArtifact):
        store.check(job.digest)
    publish(store, job)  # writing the same content again heals the file
    store.check(job.digest)


def test_unknown_blob_says_what_there_is(store: Store) -> None:
    job = toy.job("make", name="a")
    publish(store, job)

    with pytest.raises(KeyError, match="x/0000"):
        store.tensors(job.digest, "y")
    with pytest.raises(CorruptArtifact, match="no manifest"):
        store.tensors("nothing", "y")


def test_first_of_two_different_results_stays(store: Store) -> None:
    job = toy.job("make", name="a")
    publish(store, job, 1)
    publish(store, job, 2)

    assert store.manifest(job.digest).meta["value"] == 1


def test_pinned_store_records_what_was_read(store: Store) -> None:
    top, left, *_ = toy.diamond()
    publish(store, top, 1)
    read = store.manifest(top.digest).content
    pinned = store.pinned()
    pinned.tensors(top.digest, "x/0000")
    store.set_aside(top.digest)
    publish(store, top, 5)  # another driver replaces the input while the job works
    publish(pinned, left, 9)

    assert store.manifest(left.digest).inputs == {top.digest: read}
    assert not store.done(left)


def test_failures_are_kept_until_published(store: Store) -> None:
    job = toy.job("make", name="a")
    failure = Failure(job.digest, "ValueError", "bad", "trace", "failed", "make a")
    store.record_failure(failure)
    assert store.failure(job.digest) == failure
    assert store.failures([job.digest, "other"]) == {job.digest: failure}

    publish(store, job)
    assert store.failure(job.digest) is None


def test_sources_travel_by_digest(store: Store) -> None:
    digest = store.put_source("def f(): ...\n")
    assert store.source(digest) == "def f(): ...\n"

    (Path(store.url) / "sources" / f"{digest}.py").write_text("def g(): ...\n")
    with pytest.raises(CorruptArtifact, match="altered"):
        store.source(digest)
    with pytest.raises(CorruptArtifact, match="not in the store"):
        store.source("absent")


def test_budget_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, max_disk=5_000)
    with pytest.raises(StoreFull, match="5,000") as caught, store.writer(toy.job("make", name="a")) as writer:
        for shard in range(10):
            writer.tensors(f"x/{shard}", {"x": np.full(200, shard, np.float64)})

    assert sum(e.size for e in store.files.list("blobs")) <= 5_000
    assert caught.value.exit_code == 3


def test_store_travels_by_its_url(store: Store) -> None:
    again = pickle.loads(pickle.dumps(Store(store.url, max_disk=9)))

    assert (again.url, again.max_disk) == (store.url, 9)


def test_full_disk_is_a_clear_error_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done, job = toy.job("make", name="done"), toy.job("make", name="a")
    publish(store, done, 1)

    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentProblem, match="testbed store gc"):
        publish(store, job, 2)
    monkeypatch.undo()

    assert store.done(done)
    assert list(store.files.list("tmp")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("mounting a tmpfs needs the program mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_really_full_disk(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    job = toy.job("make", name="small")
    publish(store, job)
    with pytest.raises(EnvironmentProblem, match="no space left"), store.writer(toy.job("make", name="big")) as writer:
        writer.tensors("x", {"x": np.arange(100_000)})

    assert store.done(job)
    assert store.tensors(job.digest, "x/0000")["x"].max() == 1


def test_read_only_disk_reads_and_says_why_it_cannot_write(small_disk: Path) -> None:
    store, job = Store(small_disk / "store"), toy.job("make", name="a")
    publish(store, job)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    assert store.done(job)
    store.check(job.digest)
    with pytest.raises(EnvironmentProblem, match="cannot write to the store"):
        publish(store, toy.job("make", name="b"), 2)
    with pytest.raises(EnvironmentProblem, match="TESTBED_STORE"):
        store.check_writable()


def test_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")

    with pytest.raises(EnvironmentProblem, match="cannot write to the store"):
        Store(tmp_path / "store").check_writable()


def test_importing_the_store_imports_no_heavy_package() -> None:
    code = "import sys, testbed.store; print({'torch', 'ray', 'pyarrow', 'fsspec', 'safetensors'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_a_set_may_have_more_shards_than_the_usual_limit_of_open_files(tmp_path, run_python):
    store, job = Store(tmp_path), toy.job("make", name="a")
    with store.writer(job) as writer:
        for number in range(100):
            writer.tensors(f"x/{number:03d}", {"x": np.full(3, number)})
    code = f"""
        import resource
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        from testbed.store import Store
        store = Store({str(tmp_path)!r})
        shards = [store.tensors({job.digest!r}, f"x/{{n:03d}}")["x"] for n in range(100)]
        print(sum(int(x[0]) for x in shards))
    """
    ended = run_python(textwrap.dedent(code))
    assert ended.stdout == "4950\n", ended.stderr


@pytest.mark.parametrize("name", ["x/0000", "rows", "state"])
def test_a_bit_that_flips_after_a_check_becomes_no_result(store: Store, name: str) -> None:
    """Not even where the file's size and time say that nothing happened, and what was read before stays."""
    job = toy.job("make", name="a")
    publish(store, job, 7)
    read = {"x/0000": store.tensors, "rows": store.table, "state": store.json}[name]
    path = path_of(store, job, name)
    os.utime(path, (1, 1))
    store.check(job.digest)
    x = store.tensors(job.digest, "x/0000")["x"]
    with path.open("r+b") as file:  # in place: no new file, and the old time again
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, (1, 1))

    assert x.tolist() == [[7.0, 7.0]] * 3
    with pytest.raises(CorruptArtifact, match="truncated or altered"):
        read(job.digest, name)
    publish(store, job, 7)
    read(job.digest, name)

"""The store on a real S3 server on loopback (moto), through s3fs; and on any fsspec URL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_jobs as toy

from testbed.errors import CorruptArtifact, EnvironmentProblem
from testbed.runner.driver import Options, run
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store, upkeep

pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a bucket on a server of our own."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "NO_PROXY": "127.0.0.1",
    }
    import s3fs

    s3fs.S3FileSystem().mkdir("testbed")
    yield "s3://testbed"
    server.stop()
    os.environ.clear()
    os.environ.update(before)


def test_a_run_on_s3_gives_the_same_manifests_as_on_disk(bucket: str, tmp_path: Path) -> None:
    jobs, wanted = toy.grid(sets=2, readers=2)
    local, remote = Store(tmp_path), Store(f"{bucket}/run")
    run(jobs, wanted, local, Serial(Setting(toy.OPERATION, local.url)))
    first = run(jobs, wanted, remote, Serial(Setting(toy.OPERATION, remote.url)))
    again = run(jobs, wanted, remote, Serial(Setting(toy.OPERATION, remote.url)))

    assert first.count()["done"] == len(jobs)
    assert again.count()["done"] == 0
    names = [e.name for e in remote.files.list("manifests")]
    assert {Path(n).name: remote.files.read(n) for n in names} == toy.snapshot(local)
    assert toy.table(remote, wanted) == toy.table(local, wanted)
    assert upkeep.verify(remote) == {}


def test_another_process_sees_what_was_published(bucket: str) -> None:
    store, job = Store(f"{bucket}/shared"), toy.job("make", name="a", n=2)
    assert not store.done(job)
    code = (
        "import sys, toy_jobs as toy\n"
        "from testbed.store import Store\n"
        "toy.perform(toy.job('make', name='a', n=2), Store(sys.argv[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(toy.__file__).parent)}
    subprocess.run([sys.executable, "-c", code, store.url], check=True, env=environment, timeout=120)

    assert store.done(job)
    assert store.tensors(job.digest, "x")["x"].shape == (2, 3)


def test_altered_object_is_noticed_and_remade(bucket: str) -> None:
    store = Store(f"{bucket}/altered")
    top, left, *_ = toy.diamond()
    jobs = toy.by_digest(top, left)
    run(jobs, [top.digest], store, Serial(Setting(toy.OPERATION, store.url)))
    name = f"blobs/{store.manifest(top.digest).blobs['x'].file}"
    data = store.files.read(name)
    store.files.write(name, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptArtifact):
        store.tensors(top.digest, "x")

    assert run(jobs, [left.digest], store, Serial(Setting(toy.OPERATION, store.url))).ok
    assert store.files.read(name) == data
    rows = f"blobs/{store.manifest(left.digest).blobs['rows'].file}"
    whole = store.files.read(rows)
    store.files.write(rows, whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(jobs, [left.digest], store, Serial(Setting(toy.OPERATION, store.url))).count()["done"] == 1
    assert store.files.read(rows) == whole


def test_dropping_gc_and_merge(bucket: str, tmp_path: Path) -> None:
    store, local = Store(f"{bucket}/upkeep"), Store(tmp_path)
    jobs, wanted = toy.grid(sets=1, readers=2)
    run(jobs, wanted, store, Serial(Setting(toy.OPERATION, store.url)), Options(drop=frozenset({"inputs"})))
    store.write_blob(b"left by a crash", "json", "rows")

    assert upkeep.du(store).dropped > 0
    assert upkeep.gc(store, grace=-3600) == 15
    assert upkeep.merge(local, store).artifacts == len(jobs)
    assert toy.table(local, wanted) == toy.table(store, wanted)


def test_bucket_that_is_not_there_is_a_clear_error(bucket: str) -> None:
    with pytest.raises(EnvironmentProblem, match="create the bucket"):
        Store("s3://no-such-bucket/x").check_writable()


def test_any_other_fsspec_url_works() -> None:
    store, job = Store("memory://testbed-store"), toy.job("make", name="a", n=2)
    toy.perform(job, store)

    assert store.done(job)
    assert store.table(job.digest, "rows").num_rows == 1
    assert upkeep.verify(store) == {}

"""Faults with real processes: killed drivers, two drivers at once, full and read-only disks, Ctrl-C.

The toy grid's final artifacts are compared bit for bit with an undisturbed run, and a log of starts shows that no job
was started once its manifest was published.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_jobs as toy

from testbed.runner.driver import run
from testbed.runner.outcome import Halted
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store, upkeep

SETS, READERS = 6, 3
JOBS = SETS * (1 + 2 * READERS)


def drive(store: Store, kind: str = "serial", seconds: float = 0.0, **more: object) -> subprocess.Popen[str]:
    """Start a driver of the toy grid as a process of its own."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "toy_driver.py"), store.url, kind, str(SETS), str(READERS), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **more,  # type: ignore[call-overload]
    )


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for a driver to end; returns its exit code."""
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err, err + out
    return process.returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every manifest of a run in which nothing went wrong."""
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    jobs, wanted = toy.grid(SETS, READERS)
    run(jobs, wanted, store, Serial(Setting(toy.OPERATION, store.url)))
    return toy.snapshot(store)


def assert_recovered(store: Store, undisturbed: dict[str, bytes]) -> None:
    """Same bits as undisturbed, nothing started after it was published, nothing broken."""
    assert contents(toy.snapshot(store)) == contents(undisturbed)
    assert toy.started_when_published(store) == []
    assert upkeep.verify(store) == {}


def contents(manifests: dict[str, bytes]) -> list[bytes]:
    """The lines of manifests that name content: blob hashes and content hashes (digests differ with `seconds`)."""
    return sorted(line for data in manifests.values() for line in data.splitlines() if b'"hash"' in line)


def kill_when_started(process: subprocess.Popen[str], number: int, pause: float) -> None:
    """Kill -9 a driver some time after its `number`-th job was started."""
    assert process.stdout is not None
    while number:
        line = process.stdout.readline()
        assert line, "the driver ended before it could be killed"
        number -= line.startswith("started")
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("point", range(20))
def test_driver_killed_at_a_random_point_then_rerun(tmp_path: Path, undisturbed: dict[str, bytes], point: int) -> None:
    rng = random.Random(point)
    store = Store(tmp_path / "store")
    kill_when_started(drive(store, seconds=0.004), rng.randint(1, JOBS - 1), rng.uniform(0, 0.03))
    published = set(toy.snapshot(store))
    assert finish(drive(store, seconds=0.004)) == 0

    assert_recovered(store, undisturbed)
    counts = toy.starts(store)
    assert all(counts[Path(name).stem] == 1 for name in published)
    assert sum(counts.values()) <= JOBS + 1  # the one in flight


def test_driver_killed_thrice_then_rerun(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    store = Store(tmp_path / "store")
    for number in (3, 9, 14):
        kill_when_started(drive(store, seconds=0.004), number, 0.002)
    assert finish(drive(store, seconds=0.004)) == 0

    assert_recovered(store, undisturbed)
    assert sum(toy.starts(store).values()) <= JOBS + 3


def test_worker_child_dies_with_its_driver(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    process = drive(store, "child", seconds=30)
    assert process.stdout is not None
    pid = int(process.stdout.readline().split()[1])
    process.kill()

    assert pid != process.pid
    assert ends(pid)
    process.communicate()


@pytest.mark.slow
@pytest.mark.ray
def test_driver_with_ray_killed_then_rerun(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    store = Store(tmp_path / "store")
    process = drive(store, "ray", seconds=0.1)
    assert process.stdout is not None
    for _ in range(12):
        line = process.stdout.readline()
    worker = int(line.split()[1]) if line.startswith("started") else 0
    process.kill()
    process.communicate()
    assert not worker or ends(worker, 30)  # Ray's processes share the driver's fate
    published = set(toy.snapshot(store))
    assert 0 < len(published) < JOBS
    assert finish(drive(store, "ray", seconds=0.1)) == 0

    assert_recovered(store, undisturbed)
    assert all(toy.starts(store)[Path(name).stem] == 1 for name in published)


def ends(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process is gone (or a zombie) within some seconds."""
    for _ in range(int(seconds * 20)):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def test_two_drivers_on_one_store(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    store = Store(tmp_path / "store")
    drivers = [drive(store, seconds=0.002) for _ in range(2)]
    codes = [finish(process) for process in drivers]

    assert codes == [0, 0]
    assert contents(toy.snapshot(store)) == contents(undisturbed)
    assert upkeep.verify(store) == {}
    assert list(store.files.list("tmp")) == [e for e in store.files.list("tmp") if e.name == "tmp/writable"]


@pytest.mark.parametrize("kind", ["serial", "child", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.ray])])
def test_interrupted_driver_exits_130_and_goes_on_later(
    tmp_path: Path, undisturbed: dict[str, bytes], kind: str
) -> None:
    store = Store(tmp_path / "store")
    process = drive(store, kind, seconds=0.05)
    assert process.stdout is not None
    for _ in range(9):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)

    assert finish(process) == 130
    assert 0 < len(toy.snapshot(store)) < JOBS
    assert finish(drive(store, seconds=0.05)) == 0
    assert_recovered(store, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system that holds a part of the toy grid's artifacts."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("mounting a tmpfs needs the program mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_halts_and_the_run_goes_on_when_there_is_room(
    small_disk: Path, undisturbed: dict[str, bytes]
) -> None:
    store = Store(small_disk / "store")
    jobs, wanted = toy.grid(SETS, READERS)
    with pytest.raises(Halted, match="no space left") as caught:
        run(jobs, wanted, store, Serial(Setting(toy.OPERATION, store.url)))
    kept = set(toy.snapshot(store))
    assert len(kept) == caught.value.outcome.count()["done"] > 0
    assert upkeep.verify(store) == {}

    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert run(jobs, wanted, store, Serial(Setting(toy.OPERATION, store.url))).ok
    assert_recovered(store, undisturbed)
    assert all(toy.starts(store)[Path(name).stem] == 1 for name in kept)


def test_read_only_store_halts_before_any_job_but_serves_what_is_done(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    jobs = toy.by_digest(*toy.diamond())
    first = next(iter(jobs))
    run(jobs, [first], store, Serial(Setting(toy.OPERATION, store.url)))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    assert run(jobs, [first], store, Serial(Setting(toy.OPERATION, store.url))).ok
    with pytest.raises(Halted, match="cannot write to the store"):
        run(jobs, list(jobs), store, Serial(Setting(toy.OPERATION, store.url)))
    assert sum(toy.starts(store).values()) == 1

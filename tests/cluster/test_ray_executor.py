"""The Ray executor on a local cluster: same bits as serial, and the same endings for each kind of trouble."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import toy_jobs as toy

from testbed.runner.driver import MAX_STARTS, Options, run
from testbed.runner.events import Event
from testbed.runner.outcome import Halted, Outcome
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store
from testbed.types import Job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def go(store: Store, jobs: dict[str, Job], wanted: list[str] | None = None, **ray_options: Any) -> Outcome:
    """Run on the shared cluster; by default every job is wanted."""
    from testbed.runner.ray import Ray

    listener = ray_options.pop("listener", lambda event: None)
    options = ray_options.pop("options", Options())
    executor = Ray(Setting(toy.OPERATION, store.url), **ray_options)
    return run(jobs, wanted or list(jobs), store, executor, options, listener)


def statuses(outcome: Outcome) -> list[str]:
    """Status of each job in plan order."""
    return [record.status for record in outcome.records.values()]


def test_serial_and_any_number_of_workers_give_the_same_bits(tmp_path: Path) -> None:
    jobs, wanted = toy.grid(sets=3, readers=2)
    serial = Store(tmp_path / "serial")
    run(jobs, wanted, serial, Serial(Setting(toy.OPERATION, serial.url)))
    for workers in (1, 2, 4):
        store = Store(tmp_path / f"ray {workers}")
        outcome = go(store, jobs, wanted, workers=workers)

        assert outcome.ok
        assert toy.snapshot(store) == toy.snapshot(serial)
        assert set(toy.starts(store).values()) == {1}


@pytest.mark.parametrize("cpus", [1, 2])
def test_threads_of_numeric_libraries_follow_the_job_everywhere(tmp_path: Path, cpus: int) -> None:
    made = toy.job("product", name="product", n=700)
    jobs = toy.by_digest(Job(made.digest, made.kind, made.recipe, cpus=cpus))
    serial, child, ray = (Store(tmp_path / name) for name in ("serial", "child", "ray"))
    run(jobs, list(jobs), serial, Serial(Setting(toy.OPERATION, serial.url)))
    run(jobs, list(jobs), child, Serial(Setting(toy.OPERATION, child.url), timeout=60))
    go(ray, jobs)

    assert toy.snapshot(serial) == toy.snapshot(child) == toy.snapshot(ray)


def test_killed_worker_loses_only_its_own_job_in_hand(tmp_path: Path) -> None:
    store = Store(tmp_path)
    jobs, wanted = toy.grid(sets=2, readers=2, seconds=0.3)
    killed: list[str] = []

    def kill_one(event: Event) -> None:
        if event.name == "started" and event.fields["pid"] and not killed and event.job is not None:
            killed.append(event.job.digest)
            os.kill(event.fields["pid"], signal.SIGKILL)

    outcome = go(store, jobs, wanted, listener=kill_one)

    assert outcome.ok
    assert outcome.records[killed[0]].attempts == 2
    assert all(r.attempts == 1 for d, r in outcome.records.items() if d != killed[0])
    assert toy.started_when_published(store) == []


def test_job_that_always_kills_its_worker_fails_and_others_finish(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bad, good = toy.job("make", name="dies", n=1, trouble="die"), toy.job("make", name="good", n=1)
    outcome = go(store, toy.by_digest(bad, good))

    assert statuses(outcome) == ["failed", "done"]
    assert toy.starts(store)[bad.digest] == MAX_STARTS
    assert "worker process ended" in outcome.errors()[bad.digest]


def test_timeout_kills_the_worker_and_frees_its_cpu(tmp_path: Path) -> None:
    store = Store(tmp_path)
    hanging = [toy.job("make", name=f"hang {i}", n=1, trouble="hang") for i in range(5)]
    good = toy.job("make", name="good", n=1)
    outcome = go(store, toy.by_digest(*hanging, good), timeout=4.0)

    assert statuses(outcome) == ["timeout"] * 5 + ["done"]
    assert store.failure(hanging[0].digest).status == "timeout"


def test_failures_skip_dependants_as_serial_does(tmp_path: Path) -> None:
    bad = toy.job("make", name="bad", n=2, trouble="raise")
    child = toy.job("add", {"x": (bad.digest,)}, name="child", n=1)
    jobs = toy.by_digest(bad, child)
    serial = Store(tmp_path / "serial")
    expected = run(jobs, [child.digest], serial, Serial(Setting(toy.OPERATION, serial.url)))
    outcome = go(Store(tmp_path / "ray"), jobs, [child.digest])

    assert outcome.errors() == expected.errors()


def test_altered_input_is_remade(tmp_path: Path) -> None:
    store = Store(tmp_path)
    top, left, *_ = toy.diamond()
    go(store, toy.by_digest(top))
    path = tmp_path / "blobs" / store.manifest(top.digest).blobs["x"].file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    outcome = go(store, toy.by_digest(top, left), [left.digest])

    assert outcome.ok
    assert path.read_bytes() == data


def test_job_that_no_machine_can_hold_halts_with_advice(tmp_path: Path) -> None:
    job = toy.job("make", name="gpu", n=1)
    job = Job(job.digest, job.kind, job.recipe, gpus=1)
    with pytest.raises(Halted, match="device: cpu"):
        go(Store(tmp_path), toy.by_digest(job))


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_nothing_of_ray_reaches_the_terminal(tmp_path: Path) -> None:
    code = """
        import sys, pathlib, toy_jobs as toy
        from testbed.runner.driver import run
        from testbed.runner.ray import Ray
        from testbed.runner.worker import Setting
        from testbed.store import Store
        job = toy.job("make", name="noise", n=1, trouble="die once")
        store = Store(sys.argv[1] + "/store")
        executor = Ray(Setting(toy.OPERATION, store.url), workers=1, logs=pathlib.Path(sys.argv[1]) / "logs")
        assert run({job.digest: job}, [job.digest], store, executor).ok
    """
    done = python(code, str(tmp_path))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "worker died" in (tmp_path / "logs" / "ray.log").read_text()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:x"])
def test_no_cluster_at_the_address_is_a_clear_error(address: str) -> None:
    code = """
        import sys
        from testbed.errors import EnvironmentProblem
        from testbed.runner.ray import connect
        try:
            connect(sys.argv[1], None, None)
        except EnvironmentProblem as problem:
            print(problem)
    """
    assert f"no Ray cluster answers at '{address}'" in python(code, address).stdout

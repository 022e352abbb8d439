"""What the runner and the store cost: overhead a job, two workers against one, a rerun with nothing to do.

    python benchmarks/bench_runner.py [--store FOLDER]

Rows
    store write     one artifact of two small blobs and a manifest, each fsynced, on the disk of FOLDER
    serial, ray     wall time a job, of a grid of jobs that only write such an artifact; Ray with two workers, the start
                    of the cluster not counted, and beside it the peer: a bare `ray.remote` function that does nothing
    two workers     serial time / time with two workers, for jobs of about one CPU second, and for jobs that sleep a
                    second (what the runner itself loses, also on a machine that others use)
    rerun           a finished grid of 1,000 jobs: driver.run from the first question to the store to the outcome
Figures depend on the disk: an fsync costs 0.01 ms in memory and 3 to 10 ms on a network disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from testbed.digest import digest
from testbed.runner.driver import Executor, run
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store
from testbed.types import Job

OPERATION = "bench_runner:perform"


def job(name: str, steps: int = 0, inputs: tuple[str, ...] = (), sleep: float = 0.0) -> Job:
    """A job that keeps a core busy for `steps` steps, sleeps, and leaves two small blobs."""
    recipe = {"name": name, "steps": steps, "sleep": sleep, "inputs": list(inputs)}
    return Job(digest(recipe), "bench", recipe, {"x": inputs} if inputs else {}, label=name)


def perform(job: Job, store: Store) -> None:
    """The operation: spin, then write what is drawn from the name."""
    total = spin(job.recipe["steps"])
    time.sleep(job.recipe["sleep"])
    with store.writer(job) as writer:
        seed = np.frombuffer(job.digest.encode(), np.uint8)
        writer.tensors("x", {"x": np.outer(seed, seed).astype(np.float32)})
        writer.table("rows", pa.table({"total": [float(seed.sum())]}))
        writer.meta["total"] = total


def spin(steps: int) -> int:
    """Keep a core busy."""
    total = 0
    for step in range(steps):
        total += step
    return total


def layers(count: int) -> dict[str, Job]:
    """A grid of jobs: one in ten is a root, nine read it."""
    jobs: dict[str, Job] = {}
    for root in range(count // 10):
        top = job(f"root {root}")
        for made in (top, *(job(f"leaf {root} {i}", inputs=(top.digest,)) for i in range(9))):
            jobs[made.digest] = made
    return jobs


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def with_store(folder: Path, jobs: Mapping[str, Job], executor: Callable[[Setting], Executor]) -> float:
    """Wall seconds of running these jobs in a fresh store."""
    store = Store(tempfile.mkdtemp(dir=folder))
    workers = executor(Setting(OPERATION, store.url))
    return seconds(lambda: run(jobs, list(jobs), store, workers))


def row(what: str, figure: str, note: str) -> None:
    """One line of the table."""
    print(f"{what:<34} {figure:>14}   {note}", flush=True)


def bench_write(folder: Path, count: int = 60) -> None:
    """The store alone."""
    store = Store(tempfile.mkdtemp(dir=folder))
    jobs = [job(f"write {i}") for i in range(count)]
    times = [1e3 * seconds(lambda one=one: perform(one, store)) for one in jobs]  # type: ignore[misc]
    row("store write", f"{statistics.median(times):.1f} ms", f"median of {count} artifacts, two blobs each")


def bench_overhead(folder: Path, count: int = 200) -> None:
    """Jobs that do nothing but publish, serial and on Ray."""
    import ray

    from testbed.runner.ray import Ray

    serial = 1e3 * with_store(folder, layers(count), Serial) / count
    row("serial, a job", f"{serial:.1f} ms", f"{count} jobs")
    with_store(folder, layers(20), lambda setting: Ray(setting, workers=2))  # workers started and imports done
    here = 1e3 * with_store(folder, layers(count), lambda setting: Ray(setting, workers=2)) / count
    row("ray, two workers, a job", f"{here:.1f} ms", f"{count} jobs; bar 30 ms; {here / serial:.2f} x serial")
    memory = 1e3 * with_store(Path("/dev/shm"), layers(count), lambda setting: Ray(setting, workers=2)) / count
    row("  the same, store in memory", f"{memory:.1f} ms", "the part that is not the disk")
    nothing = ray.remote(lambda: None)
    bare = 1e3 * seconds(lambda: ray.get([nothing.remote() for _ in range(count)])) / count
    row("  bare ray.remote, a call", f"{bare:.1f} ms", f"ours / bare {memory / bare:.1f} x")


def bench_speedup(folder: Path, count: int = 12) -> None:
    """Jobs of about a second: two workers against serial."""
    from testbed.runner.ray import Ray

    steps = round(1e6 / seconds(lambda: spin(10**6)))
    for what, make in (
        ("two workers against serial", lambda i: job(f"second {i}", steps)),
        ("  the same, jobs that sleep 1 s", lambda i: job(f"sleep {i}", sleep=1.0)),
    ):
        jobs = {made.digest: made for made in map(make, range(count))}
        serial = with_store(folder, jobs, Serial)
        parallel = with_store(folder, jobs, lambda setting: Ray(setting, workers=2))
        note = f"{count} jobs: {serial:.1f} s serial, {parallel:.1f} s on two; bar 1.8 x; {load()}"
        row(what, f"{serial / parallel:.2f} x", note)


def load() -> str:
    """Cores, and how many processes want one: a busy machine cannot show a speed-up of computing."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def bench_rerun(folder: Path, count: int = 1000) -> None:
    """A finished grid: what it costs to find that nothing is to be done."""
    store, jobs = Store(tempfile.mkdtemp(dir=folder)), layers(count)
    for one in jobs.values():
        perform(one, store)
    times = [seconds(lambda: run(jobs, list(jobs), store, Serial(Setting(OPERATION, store.url)))) for _ in range(5)]
    row(
        "rerun of a finished grid",
        f"{min(times):.2f} s",
        f"{count} jobs all wanted, best of 5; bar 3 s for the command",
    )


def main() -> None:
    """Run all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(tempfile.gettempdir()), help="folder on the disk to measure")
    chosen = parser.parse_args().store
    from testbed.runner.ray import connect

    connect(None, 2, None)
    with tempfile.TemporaryDirectory(dir=chosen) as folder:
        bench_write(Path(folder))
        bench_overhead(Path(folder))
        bench_speedup(Path(folder))
        bench_rerun(Path(folder))


if __name__ == "__main__":
    main()

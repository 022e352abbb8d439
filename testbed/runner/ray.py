"""The Ray executor: jobs as tasks on a cluster that is joined, or on a local one that is started. Only file with ray.

A task is a stream of two items: a word that its job begins, then the report. So the driver knows when a job's time is
up (time spent waiting for a free CPU does not count). Tasks get the store's URL and the job: no array passes through
Ray, so its object store is kept small. Ray's own retries are off: the driver decides what runs again.

Accepted trade-off: when the driver stops starting jobs, the few that were queued ahead of a free CPU still run.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray starts its processes

import ray
import ray.exceptions

from testbed.errors import EnvironmentProblem
from testbed.runner.apart import anywhere
from testbed.runner.worker import Report, Setting
from testbed.store.store import Roles
from testbed.types import Job

_TICK_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 10.0
_RESOURCES_SECONDS: Final = 2.0
_OBJECT_STORE_BYTES: Final = 100 * 2**20
#: Jobs in flight for each CPU: more than one, so that a worker finds the next job waiting.
_AHEAD: Final = 1.5


class Begun(NamedTuple):
    """A job began on a worker."""

    host: str
    pid: int


def work(setting: Setting, job: Job, needs: Roles) -> Iterator[Begun | Report]:
    """The task: say that the job begins, run it, say how it ended."""
    yield Begun(ray.util.get_node_ip_address(), os.getpid())
    yield anywhere(setting, job, needs)


@dataclass
class _Task:
    """A job in flight; `since` is when it began, None while it waits for a CPU."""

    job: Job
    since: float | None = None
    begun: Begun | None = None


class Ray:
    """Runs jobs on a Ray cluster.

    address  None starts a local cluster, "auto" joins the one of this machine, "host:port" joins that one
    workers  CPUs of a local cluster (default: all); of a joined cluster, how many to use at most
    timeout  seconds a job may take
    logs     folder for what Ray has to say
    """

    def __init__(
        self,
        setting: Setting,
        *,
        address: str | None = None,
        workers: int | None = None,
        timeout: float | None = None,
        logs: Path | None = None,
    ) -> None:
        self._setting, self._timeout, self._workers = setting, timeout, workers
        self._ours = connect(address, workers, logs)
        self._task = ray.remote(max_retries=0)(work)
        self._tasks: dict[Any, _Task] = {}
        self._refused: list[Report] = []
        self._have: dict[str, float] = {}
        self._asked = float("-inf")

    def room(self) -> int:
        """How many more one-CPU jobs it takes now."""
        busy = sum(max(1.0, task.job.cpus) for task in self._tasks.values())
        return ceil(_AHEAD * self._slots() - busy)

    def submit(self, job: Job, needs: Roles) -> None:
        """Start a task for the job; one that no machine of the cluster can hold is refused with a report."""
        have = self._resources()
        if job.cpus > have.get("CPU", 0) or job.gpus > have.get("GPU", 0):
            message = (
                f"{job.label or job.digest} needs {job.cpus:g} CPUs and {job.gpus:g} GPUs, and the Ray cluster has "
                f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}; add a node or set `device: cpu`"
            )
            self._refused.append(Report(job.digest, "environment", EnvironmentProblem.__name__, message))
            return
        stream = self._task.options(num_cpus=job.cpus, num_gpus=job.gpus, name=job.label or job.kind).remote(
            self._setting, job, needs
        )
        self._tasks[stream] = _Task(job)

    def wait(self, started: Callable[[str, str, int], None]) -> list[Report]:
        """Block until some job ended; kill what runs too long."""
        reports, self._refused = self._refused, []
        while self._tasks and not reports:
            ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=_TICK_SECONDS, fetch_local=False)
            for stream in ready:
                reports += self._next(stream, started)
            reports += self._overdue()
        return reports

    def close(self) -> None:
        """Cancel what is in flight, and stop the cluster if it is ours."""
        for stream in self._tasks:
            ray.cancel(stream, force=True)
        self._tasks.clear()
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _slots(self) -> int:
        cpus = int(self._resources().get("CPU", 1))
        return cpus if self._workers is None else min(cpus, self._workers)

    def _resources(self) -> dict[str, float]:
        """What the cluster has, asked now and then: nodes come and go, and each question is a round trip."""
        if time.monotonic() - self._asked > _RESOURCES_SECONDS:
            self._have, self._asked = ray.cluster_resources(), time.monotonic()
        return self._have

    def _next(self, stream: Any, started: Callable[[str, str, int], None]) -> list[Report]:
        """Take one item of a stream that has one."""
        task = self._tasks[stream]
        try:
            item = ray.get(next(stream))
        except (ray.exceptions.RayError, StopIteration) as error:
            del self._tasks[stream]
            if task.since is None:
                started(task.job.digest, "", 0)  # it may have begun: its last words are lost with the worker
            return [_lost(task, error)]
        if isinstance(item, Begun):
            task.since, task.begun = time.time(), item
            started(task.job.digest, item.host, item.pid)
            return []
        del self._tasks[stream]
        return [item]

    def _overdue(self) -> list[Report]:
        """Kill the workers of jobs whose time is up."""
        if self._timeout is None:
            return []
        now = time.time()
        late = [s for s, task in self._tasks.items() if task.since is not None and now - task.since > self._timeout]
        reports = []
        for stream in late:
            ray.cancel(stream, force=True)
            task = self._tasks.pop(stream)
            message = f"took longer than the {self._timeout:g} s of --timeout and was killed"
            reports.append(_report(task, "timeout", "Timeout", message))
        return reports


def _lost(task: _Task, error: BaseException) -> Report:
    """The report of a job whose task ended without one. No hosts or ids in the text: it goes into results."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return _report(task, "failed", type(error.cause).__name__, str(error.cause), str(error))
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return _report(task, "died", "OutOfMemory", "Ray ended the worker because its node ran out of memory")
    if isinstance(error, ray.exceptions.NodeDiedError):
        return _report(task, "died", "NodeDied", "the worker's node left the cluster")
    return _report(task, "died", "WorkerDied", "the worker process ended", str(error))


def _report(task: _Task, status: Any, error: str, message: str, trace: str = "") -> Report:
    began = task.since or 0.0
    seconds = time.time() - began if began else 0.0
    host, pid = task.begun or ("", 0)
    return Report(task.job.digest, status, error, message, trace, started=began, seconds=seconds, host=host, pid=pid)


def connect(address: str | None, workers: int | None, logs: Path | None) -> bool:
    """Join or start a cluster; True where it was started here. A connection that exists is used as it is."""
    _quiet(logs)
    if ray.is_initialized():
        return False
    if address is not None and ":" in address:
        _reachable(address)
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False)
            return False
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        if address is not None:
            raise EnvironmentProblem(_unanswered(address, error)) from error
        raise EnvironmentProblem(f"a local Ray cluster did not start ({error}); use --executor serial") from error
    return True


def _reachable(address: str) -> None:
    """Ask the address itself first: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(_unanswered(address, error)) from error


def _unanswered(address: str, error: Exception) -> str:
    return f"no Ray cluster answers at {address!r} ({error}); start one with `ray start --head`, or leave --address out"


def _quiet(logs: Path | None) -> None:
    """Send what Ray says in this process to <logs>/ray.log, or nowhere."""
    logger = logging.getLogger("ray")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = False
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        logger.addHandler(logging.FileHandler(logs / "ray.log", delay=True))
    else:
        logger.addHandler(logging.NullHandler())

    def to_log(data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        logger.warning("%s: %s", data.get("pid"), "\n".join(map(str, data.get("lines", ()))))

    # Ray prints the death of a worker on standard output, where --json events go, and has no switch for that.
    ray._private.worker.print_to_stdstream = to_log

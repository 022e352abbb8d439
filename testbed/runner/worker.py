"""What happens where a job runs: the last look whether it is done, the operation, the measures, the verdict.

The same function serves the driver's own process, a child process and a Ray worker. A worker gets the URL of the store
and the job; it never gets arrays, and it sends none back.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from testbed.errors import CorruptArtifact, EnvironmentProblem, PluginViolation
from testbed.runner.threads import limited
from testbed.store import Store, StoreFull
from testbed.store.store import Roles
from testbed.types import Job

Verdict = Literal["done", "cached", "failed", "timeout", "died", "corrupt", "full", "environment"]

#: What a job does: called with the job and the store, publishes the artifact, may return what it counted.
Operation = Callable[[Job, Store], Mapping[str, int] | None]


@dataclass(frozen=True)
class Report:
    """How one start of one job ended.

    content  content hash of the artifact that is now published
    corrupt  digest of the artifact that was found to be corrupt
    started  seconds since the epoch, 0 where the job never began
    """

    digest: str
    status: Verdict
    error: str = ""
    message: str = ""
    traceback: str = ""
    content: str = ""
    corrupt: str = ""
    started: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    host: str = ""
    pid: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What a worker is given besides the job: which operation (`module:function`), which store, which budget."""

    operation: str
    url: str
    max_disk: int | None = None

    def store(self) -> Store:
        """The store, opened here."""
        return Store(self.url, max_disk=self.max_disk)


def execute(setting: Setting, job: Job, needs: Roles = frozenset(), *, alone: bool = False) -> Report:
    """Run one job unless it is done meanwhile. Never raises an `Exception`; Ctrl-C passes through.

    alone  in a process of its own, where a KeyboardInterrupt is the job's and nobody's else
    """
    start = Report(job.digest, "done", started=time.time(), host=_host(), pid=os.getpid())
    try:
        store = setting.store()
        if store.done(job, needs) and store.require(job.digest).reusable:
            return replace(start, status="cached", content=store.require(job.digest).content)
        mine = store.pinned()
        with _measured() as measure, limited(max(1, int(job.cpus))):
            counts = resolve(setting.operation)(job, mine) or {}
        if not store.done(job, needs):
            return _withdrawn(start, job, mine)
        return replace(start, content=store.require(job.digest).content, counts=dict(counts), **measure)
    except BaseException as error:
        if not alone and not isinstance(error, (Exception, SystemExit)):
            raise
        return _failed(start, error)


def _withdrawn(start: Report, job: Job, mine: Store) -> Report:
    """The report of a job that is not done although its operation returned: not published, or gone again since."""
    if job.digest not in mine.published:
        raise PluginViolation(f"operation {job.kind!r} returned without publishing {job.digest}")
    message = "another run on this store withdrew or dropped what it made, or remade what it was made from"
    return replace(start, status="died", error="Withdrawn", message=message, seconds=time.time() - start.started)


def _failed(start: Report, error: BaseException) -> Report:
    status: Verdict = "failed"
    if isinstance(error, CorruptArtifact):
        status = "corrupt"
    elif isinstance(error, StoreFull):
        status = "full"
    elif isinstance(error, EnvironmentProblem):
        status = "environment"
    return replace(
        start,
        status=status,
        seconds=time.time() - start.started,
        error=type(error).__name__,
        message=str(error) or "(it says nothing more)",
        traceback="".join(traceback.format_exception(error)),
        corrupt=error.digest if isinstance(error, CorruptArtifact) else "",
    )


def ended(job: Job, status: Verdict, error: str, message: str, begin: float, pid: int) -> Report:
    """The report of a job whose process left none."""
    return Report(job.digest, status, error, message, started=begin, seconds=time.time() - begin, pid=pid)


def ending(code: int) -> str:
    """How a process ended, in words.

    >>> ending(-11), ending(3)
    ('killed by SIGSEGV', 'exit code 3')
    """
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def die_with(owner: int) -> None:
    """Ask Linux to kill this process when its owner dies, so that a hanging plug-in does not outlive the driver."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != owner:
        sys.exit("the driver died while its worker was starting")


@lru_cache(maxsize=8)
def resolve(operation: str) -> Operation:
    """The function that `module:function` names.

    >>> resolve("testbed.runner.events:silent").__name__
    'silent'
    """
    module, _, name = operation.partition(":")
    found: Operation = getattr(importlib.import_module(module), name)
    return found


@contextmanager
def _measured() -> Iterator[dict[str, Any]]:
    """Wall and CPU seconds of the block and the peak resident bytes of this process during it, filled in at its end."""
    measure: dict[str, Any] = {}
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # restart the kernel's high-water mark
    wall, cpu = time.perf_counter(), time.process_time()
    yield measure
    measure |= {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "peak_bytes": _peak()}


def _peak() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname()

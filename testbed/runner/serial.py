"""The serial executor: one job at a time, in the driver's process, or in a child that can be killed.

Without a time limit a job runs right here. With one it runs in a persistent child process, because nothing else can
stop a plug-in that hangs in native code; the child is killed when a job's time is up and the next job gets a new one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

from testbed.runner.worker import Report, Setting, execute
from testbed.store.store import Roles
from testbed.types import Job


class Serial:
    """Runs jobs one after another.

    timeout  seconds a job may take; None runs jobs in this process
    """

    def __init__(self, setting: Setting, timeout: float | None = None) -> None:
        self._setting, self._timeout = setting, timeout
        self._queue: deque[tuple[Job, Roles]] = deque()
        self._child: _Child | None = None

    def room(self) -> int:
        """How many more jobs it takes now: one at a time."""
        return 1 - len(self._queue)

    def submit(self, job: Job, needs: Roles) -> None:
        """Queue a job."""
        self._queue.append((job, needs))

    def wait(self, started: Callable[[str, str, int], None]) -> list[Report]:
        """Run the queued job; `started` is told its digest, host and pid first."""
        job, needs = self._queue.popleft()
        if self._timeout is None:
            started(job.digest, "", os.getpid())
            return [execute(self._setting, job, needs)]
        if self._child is None:
            self._child = _Child(self._setting)
        started(job.digest, "", self._child.process.pid)
        report = self._child.run(job, needs, self._timeout)
        if report.status in ("timeout", "died"):
            self.close()
        return [report]

    def close(self) -> None:
        """Kill the child, if there is one."""
        self._queue.clear()
        if self._child is not None:
            self._child.close()
            self._child = None


class _Child:
    """A worker process of our own: jobs go in through a pipe, reports come out."""

    def __init__(self, setting: Setting) -> None:
        self._pipe, theirs = Pipe()
        # -P and the driver's own path: the child finds what the driver finds, not what lies in the current folder.
        command = [
            sys.executable,
            "-P",
            "-c",
            f"from testbed.runner.serial import serve; serve({theirs.fileno()}, {os.getpid()})",
        ]
        with theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a plug-in prints must not mix with --json events
                start_new_session=True,  # Ctrl-C is the driver's to handle
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        self._pipe.send(setting)

    def run(self, job: Job, needs: Roles, timeout: float) -> Report:
        """Run one job; a report of "timeout" or "died" leaves the child unusable."""
        begin = time.time()
        try:
            self._pipe.send((job, needs))
            if self._pipe.poll(timeout):
                report: Report = self._pipe.recv()
                return report
        except (EOFError, OSError):
            code = self.process.wait()
            reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            return _ended(job, "died", "WorkerDied", f"the worker process ended ({reason})", begin, self.process.pid)
        message = f"took longer than the {timeout:g} s of --timeout and was killed"
        return _ended(job, "timeout", "Timeout", message, begin, self.process.pid)

    def close(self) -> None:
        """Kill and reap."""
        self.process.kill()
        self.process.wait()
        self._pipe.close()


def _ended(job: Job, status: str, error: str, message: str, begin: float, pid: int) -> Report:
    seconds = time.time() - begin
    return Report(job.digest, status, error, message, started=begin, seconds=seconds, pid=pid)  # type: ignore[arg-type]


def serve(descriptor: int, driver: int) -> None:
    """The child's loop: take jobs until the driver (a process id) closes the pipe or dies."""
    _die_with(driver)
    with Connection(descriptor) as pipe:
        setting = pipe.recv()
        while True:
            try:
                job, needs = pipe.recv()
            except EOFError:
                return
            pipe.send(execute(setting, job, needs))


def _die_with(driver: int) -> None:
    """Ask Linux to kill this process when the driver dies, so that a hanging plug-in does not outlive it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != driver:
        sys.exit("the driver died while its worker was starting")

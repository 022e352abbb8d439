"""The serial executor: one job at a time, in the driver's process, or in a child that can be killed.

A job with a user's code runs apart (`testbed.runner.apart`). Of the others, one without a time limit runs right here.
With one it runs in a persistent child process, because nothing else can stop what hangs in native code; the child is
killed when a job's time is up and the next job gets a new one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe

from testbed.runner.apart import server
from testbed.runner.worker import Report, Setting, die_with, ended, ending, execute
from testbed.store.store import Roles
from testbed.types import Job


class Serial:
    """Runs jobs one after another.

    timeout  seconds a job may take; None runs jobs of ours in this process
    """

    def __init__(self, setting: Setting, timeout: float | None = None) -> None:
        self._setting, self._timeout = setting, timeout
        self._queue: deque[tuple[Job, Roles]] = deque()
        self._child: _Child | None = None
        self._apart = server(setting.operation)

    def room(self) -> int:
        """How many more jobs it takes now: one at a time."""
        return 1 - len(self._queue)

    def submit(self, job: Job, needs: Roles) -> None:
        """Queue a job."""
        self._queue.append((job, needs))

    def wait(self, started: Callable[[str, str, int], None]) -> list[Report]:
        """Run the queued job; `started` is told its digest, host and pid first."""
        job, needs = self._queue.popleft()
        if job.places:
            started(job.digest, "", self._apart.pid)
            return [self._apart.run(self._setting, job, needs, self._timeout)]
        if self._timeout is None:
            started(job.digest, "", os.getpid())
            return [execute(self._setting, job, needs)]
        if self._child is None:
            self._child = _Child(self._setting)
        started(job.digest, "", self._child.process.pid)
        report = self._child.run(job, needs, self._timeout)
        if report.status in ("timeout", "died"):
            self._end_child()
        return [report]

    def close(self) -> None:
        """Kill the processes that jobs run in, if there are any."""
        self._queue.clear()
        if self._apart.busy:  # interrupted: the job in hand ends
            self._apart.close()
        self._end_child()

    def _end_child(self) -> None:
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
            said = f"the worker process ended ({ending(code)})"
            return ended(job, "died", "WorkerDied", said, begin, self.process.pid)
        message = f"took longer than the {timeout:g} s of --timeout and was killed"
        return ended(job, "timeout", "Timeout", message, begin, self.process.pid)

    def close(self) -> None:
        """Kill and reap."""
        self.process.kill()
        self.process.wait()
        self._pipe.close()


def serve(descriptor: int, driver: int) -> None:
    """The child's loop: take jobs until the driver (a process id) closes the pipe or dies."""
    die_with(driver)
    with Connection(descriptor) as pipe:
        setting = pipe.recv()
        while True:
            try:
                job, needs = pipe.recv()
            except EOFError:
                return
            pipe.send(execute(setting, job, needs))

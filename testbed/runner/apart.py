"""Jobs with a user's code run apart: each in a process of its own, forked from a server that has torch loaded.

    whoever runs jobs (the serial executor, a worker of Ray)
      `- server   one process, started for the first such job; imports, takes one job at a time, runs no user code
           `- job   forked: has the imports already, runs one job, leaves its report in a file, ends

So whatever a plug-in does (a segmentation fault, a KeyboardInterrupt, another torch.Tensor.argmax, a closed standard
output) ends with its job. A job that says it is done is believed only when the store agrees. When a job ends or its
time is up, the server kills all that is left of its process group; when the server dies, so does the job.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Final, NoReturn

from testbed import loading, watch
from testbed.runner.worker import Report, Setting, die_with, ended, ending, execute
from testbed.store.store import Roles
from testbed.types import Job

#: How long the server may take to end by itself.
_GRACE_SECONDS: Final = 2.0
#: One thread each: a pool of threads does not survive a fork. A job asks for its own number.
_SINGLE: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Task:
    """What the forked process gets: the job, and the environment and module path of whoever asks."""

    setting: Setting
    job: Job
    needs: Roles
    environment: Mapping[str, str]
    path: tuple[str, ...]


class Apart:
    """The server and what to ask of it; started by the first job, and again where it has ended.

    operation  `module:function` of the jobs that it will be given: what they import is imported once
    """

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Any = None
        self.busy = False

    @property
    def pid(self) -> int:
        """The server's process id; it is started if it was not."""
        if self._process is None:
            self._start()
        assert self._process is not None
        return self._process.pid

    def run(self, setting: Setting, job: Job, needs: Roles, timeout: float | None = None) -> Report:
        """Run one job in a process of its own; one that takes too long is killed."""
        begin, pid = time.time(), self.pid
        self.busy = True
        try:
            self._pipe.send((Task(setting, job, needs, dict(os.environ), tuple(sys.path)), timeout))
            report: Report = self._pipe.recv()
        except (EOFError, OSError):
            self.close()
            return ended(job, "died", "WorkerDied", "the server of user jobs ended", begin, pid)
        self.busy = False
        return _checked(setting, job, needs, report)

    def close(self) -> None:
        """End the server, and the job in hand with it."""
        self.busy = False
        if self._process is not None:
            self._pipe.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        # -P and our own path: the server finds what we find, not what lies in the current folder.
        code = f"from testbed.runner.apart import serve; serve({theirs.fileno()}, {os.getpid()})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a plug-in prints must not mix with --json events
                start_new_session=True,  # Ctrl-C is the driver's to handle
                env={**os.environ, **_SINGLE, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        self._pipe.send(self._operation)


def _checked(setting: Setting, job: Job, needs: Roles, report: Report) -> Report:
    """The report, with the content hash that the store knows; a job that published nothing has failed."""
    if report.status not in ("done", "cached"):
        return report
    store = setting.store()
    if not store.done(job, needs):
        message = "its process reported success, and the store holds no artifact of it"
        return replace(report, status="failed", error="PluginViolation", message=message)
    return replace(report, content=store.require(job.digest).content)


def serve(descriptor: int, owner: int) -> None:
    """The server's loop: import what jobs need, then fork one process a job until the owner closes the pipe or dies."""
    die_with(owner)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        with Connection(descriptor) as pipe:
            _preload(pipe.recv())
            while True:
                task, timeout = pipe.recv()
                with tempfile.TemporaryDirectory(prefix="testbed-job-", ignore_cleanup_errors=True) as folder:
                    report = _forked(pipe, wake, task, timeout, Path(folder) / "report.json")
                if report is None:
                    return
                pipe.send(report)
    except (EOFError, OSError):
        return


def _preload(operation: str) -> None:
    """Import what jobs import, once: the module of the operation, which may have a `preload()` for what it needs."""
    module = import_module(operation.partition(":")[0])
    getattr(module, "preload", lambda: None)()


def _forked(pipe: Connection, wake: int, task: Task, timeout: float | None, file: Path) -> Report | None:
    """Run a job in a fork of this process; None where the owner of the pipe went away meanwhile."""
    begin, job, server = time.time(), task.job, os.getpid()
    pid = os.fork()
    if pid == 0:
        _job(task, file, server)
    status, gone = _waited(pid, pipe, wake, None if timeout is None else begin + timeout)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it started
    if status is None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if gone:
            return None
        message = f"took longer than the {timeout:g} s of --timeout and was killed"
        return ended(job, "timeout", "Timeout", message, begin, pid)
    report = _read(file, job)
    if report is not None:
        return report
    how = ending(os.waitstatus_to_exitcode(status))
    return ended(job, "died", "WorkerDied", f"the process of this job ended without a report ({how})", begin, pid)


def _waited(pid: int, pipe: Connection, wake: int, end: float | None) -> tuple[int | None, bool]:
    """(exit status, False) when the job ends; (None, whether the owner went away) when it is to be killed."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status, False
        left = None if end is None else end - time.time()
        if left is not None and left <= 0:
            return None, False
        ready, _, _ = select.select([pipe.fileno(), wake], [], [], left)
        if wake in ready:
            os.read(wake, 512)
        if pipe.fileno() in ready:
            return None, True


def _read(file: Path, job: Job) -> Report | None:
    """The report that a job left; None where it left none that can be read. JSON: reading it runs nothing."""
    try:
        report = Report(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return report if report.digest == job.digest else None


def _job(task: Task, file: Path, server: int) -> NoReturn:
    """The forked process: run the job, leave the report, end without a word to anybody."""
    try:
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(one, signal.SIG_DFL)
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no file of gigabytes for a segmentation fault
        die_with(server)
        os.environ.clear()
        os.environ.update(task.environment)
        sys.path[:] = task.path
        loading.one_job(task.job.places)
        _watch(task.setting, task.job).start()
        report = execute(task.setting, task.job, task.needs, alone=True)
        if os.getpid() == report.pid:  # not a fork that came back
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps({**vars(report), "counts": dict(report.counts)}), encoding="utf-8")
            fresh.replace(file)
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(0)


def _watch(setting: Setting, job: Job) -> watch.Watch:
    declared = {key.partition(":")[2]: Path(path) for key, path in job.places.items() if ":" in key}
    folders = [Path(path).parent for key, path in job.places.items() if ":" not in key and Path(path).is_absolute()]
    return watch.Watch(declared, folders, setting.store().files.local(""))


_servers: dict[str, Apart] = {}


def server(operation: str) -> Apart:
    """The server of this process for an operation: it stays for the next run, and ends with the process."""
    if operation not in _servers:
        _servers[operation] = Apart(operation)
    return _servers[operation]


def anywhere(setting: Setting, job: Job, needs: Roles) -> Report:
    """Run a job where it belongs: in this process, or apart where it holds a user's code."""
    return server(setting.operation).run(setting, job, needs) if job.places else execute(setting, job, needs)

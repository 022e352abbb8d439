"""The driver: starts jobs when their inputs are there, until the wanted results are.

Algorithm: ask the store what is missing (`needed`), start jobs in plan order as far as the executor has room, settle
each report. The store is the truth: the driver keeps no state that a rerun would miss, so it may die at any point.

What a report leads to
    done, cached   dependants become ready; blobs that nobody needs any more are dropped, where options say so
    failed         recorded; all dependants are skipped with the reason
    timeout        recorded, never retried in this run
    died           the worker ended: the job goes back to the queue, for at most three starts
    corrupt        an artifact it read is not what its manifest says: that one is set aside and made again first
    full           the disk budget is reached: droppable blobs go and the job is tried again, else the run stops
    environment    the run stops; what is in flight is finished, what was not run is missing

An artifact that is made again and comes out different makes its dependants stale; they are then run again too.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from testbed.errors import EnvironmentProblem, UsageError
from testbed.runner.events import Event, Listener, Name, silent
from testbed.runner.needed import Needed, Reads, ancestors, everything, needed
from testbed.runner.outcome import Halted, Interrupted, JobStatus, Outcome, Record
from testbed.runner.worker import Report
from testbed.store import Failure, Store
from testbed.store.store import Roles
from testbed.types import Job

MAX_STARTS: Final = 3
#: A job whose worker dies before it says that it began (a node that comes and goes) is not charged, up to this often.
MAX_LOST: Final = 20
_DROP_TOGETHER: Final = 16


class Executor(Protocol):
    """What the driver needs of an executor."""

    def room(self) -> int:
        """How many more jobs it takes now."""

    def submit(self, job: Job, needs: Roles) -> None:
        """Queue a job."""

    def wait(self, started: Callable[[str, str, int], None]) -> list[Report]:
        """Block until reports are there; `started(digest, host, pid)` is called as jobs begin."""

    def close(self) -> None:
        """Stop what is running and let go of the workers."""


class OnDemand:
    """An executor that is made when the first job is submitted: a run with nothing to do starts no cluster."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._made: Executor | None = None

    def room(self) -> int:
        """How many more jobs it takes now; one before it is made."""
        return 1 if self._made is None else self._made.room()

    def submit(self, job: Job, needs: Roles) -> None:
        """Queue a job."""
        if self._made is None:
            self._made = self._make()
        self._made.submit(job, needs)

    def wait(self, started: Callable[[str, str, int], None]) -> list[Report]:
        """Block until reports are there."""
        return [] if self._made is None else self._made.wait(started)

    def close(self) -> None:
        """Let go of the workers, if any were made."""
        if self._made is not None:
            self._made.close()


@dataclass(frozen=True)
class Options:
    """How to run.

    max_failures  "3" or "10%" (of the jobs to run): once more than that have failed, no job is started
    retry         start jobs again that failed in an earlier run
    drop          roles of blobs to remove once every job of the plan that reads them is finished
    reads         which roles a job reads of its inputs (default: all)
    results       roles of the wanted jobs' blobs that somebody will read after the run: they are checked before it
    """

    max_failures: str | None = None
    retry: bool = True
    drop: frozenset[str] = frozenset()
    reads: Reads = everything
    results: Roles = frozenset({"rows"})


def run(
    jobs: Mapping[str, Job],
    wanted: Sequence[str],
    store: Store,
    executor: Executor,
    options: Options = Options(),
    listener: Listener = silent,
) -> Outcome:
    """Run what the wanted results need; `jobs` holds inputs before the jobs that need them.

    Raises Interrupted on Ctrl-C and Halted when the machine is in the way; both carry the outcome so far.
    The executor is closed in any case.
    """
    running = _Run(jobs, wanted, store, executor, options, listener)
    try:
        running.loop()
    except KeyboardInterrupt:
        executor.close()
        running.give_up("interrupted", "missing")
        raise Interrupted(running.outcome) from None
    finally:
        executor.close()
    stopped = running.outcome.stopped and not running.halted
    running.give_up(running.outcome.stopped or "never became ready", "skipped" if stopped else "missing")
    if running.halted:
        raise Halted(running.halted, running.outcome)
    return running.outcome


def allowed_failures(text: str | None, jobs: int) -> float:
    """How many jobs may fail before no more are started.

    >>> allowed_failures("10%", 50), allowed_failures("3", 50), allowed_failures(None, 50)
    (5.0, 3.0, inf)
    """
    if text is None:
        return float("inf")
    number = text.strip()
    share = number.endswith("%")
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise UsageError(f"--max-failures {text!r}: expected a number of jobs or a share, such as 3 or 10%")
    return value / 100 * jobs if share else value


class _Run:
    """One run's state. Everything in it can be had again from the store, save the counts of starts."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        wanted: Sequence[str],
        store: Store,
        executor: Executor,
        options: Options,
        listener: Listener,
    ) -> None:
        self.jobs, self.wanted, self.store = jobs, tuple(wanted), store
        self.executor, self.options, self.listener = executor, options, listener
        self.outcome = Outcome(jobs)
        self.halted = ""
        self.order = {digest: position for position, digest in enumerate(jobs)}
        self.starts: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.in_flight: set[str] = set()
        self.failed = 0
        self.droppable: set[str] = set()
        self.consumers = self._consumers(ancestors(jobs, self.wanted))
        self.plan()
        self.allowed = allowed_failures(options.max_failures, len(self.roles))
        counts = {"total": len(self.pending), "cached": len(self.outcome.records)}
        self.listener(Event("planned", None, counts, tuple(self.pending)))
        if self.pending and not options.retry:
            self._keep_failures()

    def _consumers(self, members: set[str]) -> dict[str, list[str]]:
        consumers: dict[str, list[str]] = {digest: [] for digest in members}
        for digest in members:
            for upstream in self.jobs[digest].needs:
                consumers[upstream].append(digest)
        return consumers

    def tell(self, name: Name, job: Job | None, **fields: object) -> None:
        self.listener(Event(name, job, fields))

    # --- what to start --------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Ask the store what is missing: at the start, and when an artifact was lost or came out different."""
        need = self.needed()
        self.roles, self.manifests = dict(need.run), need.manifests
        self.unread = {d: sum(c in self.roles for c in (d, *consumers)) for d, consumers in self.consumers.items()}
        self.outcome.contents = {d: manifest.content for d, manifest in need.manifests.items()}
        for digest in need.cached:
            self.outcome.records.setdefault(digest, Record("cached"))
        records = self.outcome.records
        given_up = {d for d in need.run if d in records and records[d].status not in ("done", "cached")}
        self.pending = {d for d in need.run if d not in given_up and d not in self.in_flight}
        for digest in self.pending:
            records.pop(digest, None)
        self.unmet = {d: self._unmet(d) for d in self.pending}
        self.ready = [self.order[d] for d in self.pending if not self.unmet[d]]
        heapq.heapify(self.ready)
        self.by_order = list(self.jobs)
        for digest in given_up:
            self.skip_dependants(digest)

    def needed(self) -> Needed:
        """What must run. Results that are there are read against their hashes; one that was damaged is made again."""
        while True:
            own = {d for d, record in self.outcome.records.items() if record.status == "done"}
            need = needed(self.jobs, self.wanted, self.store, self.options.reads, own)
            results = {d: need.manifests[d] for d in self.wanted if d in need.cached}
            damaged = self.store.damaged(results, self.options.results)
            if not damaged:
                return need
            for digest, reason in damaged.items():
                self.store.set_aside(digest)
                self.tell("retried", self.jobs[digest], reason=f"artifact {digest}: {reason}")

    def _unmet(self, digest: str) -> set[str]:
        return {d for d in self.jobs[digest].needs if d in self.roles}

    def _keep_failures(self) -> None:
        for digest, failure in self.store.failures(sorted(self.pending, key=self.order.__getitem__)).items():
            if digest in self.pending:
                self.pending.discard(digest)
                self.end(digest, Record("timeout" if failure.status == "timeout" else "failed", str(failure)))
                self.skip_dependants(digest)

    def loop(self) -> None:
        """Start and settle until nothing is in flight and nothing can be started."""
        if self.ready:
            self._guard(self.store.check_writable)
        while True:
            while self.ready and not self.outcome.stopped and self.executor.room() > 0:
                self.start(self.by_order[heapq.heappop(self.ready)])
            if not self.in_flight:
                break
            for report in self.executor.wait(self.started):
                self.in_flight.discard(report.digest)
                self._guard(self.settle, report)
        self._guard(self.drop)

    def _guard(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except EnvironmentProblem as problem:
            self.stop(str(problem), halted=True)

    def start(self, digest: str) -> None:
        if digest not in self.pending:
            return  # skipped since it became ready
        self.pending.discard(digest)
        self.in_flight.add(digest)
        self.executor.submit(self.jobs[digest], self.roles[digest])

    def started(self, digest: str, host: str, pid: int) -> None:
        self.starts[digest] += 1
        self.tell("started", self.jobs[digest], host=host, pid=pid, attempt=self.starts[digest])

    # --- what a report leads to -----------------------------------------------------------------------------------

    def settle(self, report: Report) -> None:
        if report.status in ("done", "cached"):
            self.settle_done(report)
        elif report.status == "died":
            self.settle_death(report)
        elif report.status == "corrupt":
            self.settle_corrupt(report)
        elif report.status == "full" and self.drop() > 0:
            self.again(report, "blobs were dropped to stay within the disk budget")
        elif report.status in ("full", "environment"):
            self.end(report.digest, Record("missing", report.message, self.starts[report.digest], report))
            self.skip_dependants(report.digest)
            self.stop(report.message, halted=True)
        else:
            self.fail(report)

    def settle_done(self, report: Report) -> None:
        digest = report.digest
        before = self.manifests.get(digest)
        status = "cached" if report.status == "cached" and self.starts[digest] <= 1 else "done"
        self.end(digest, Record(status, "", self.starts[digest], report))  # type: ignore[arg-type]
        self.outcome.contents[digest] = report.content
        if self.roles.pop(digest, "absent") != "absent":
            for one in (digest, *self.jobs[digest].needs):
                self.unread[one] -= 1
        if before is not None and before.content != report.content and self.leaves_stale(report):
            self.plan()
            return
        for other in self.consumers[digest]:
            if other in self.pending:
                self.unmet[other].discard(digest)
                if not self.unmet[other]:
                    heapq.heappush(self.ready, self.order[other])
        self.note_droppable(digest)

    def leaves_stale(self, report: Report) -> bool:
        """Whether an artifact that was thought finished consumed another content than this job has now published."""
        finished = [
            self.manifests[d] for d in self.consumers[report.digest] if d in self.manifests and d not in self.roles
        ]
        return any(manifest.inputs.get(report.digest) != report.content for manifest in finished)

    def settle_death(self, report: Report) -> None:
        self.lost[report.digest] += 1
        if self.starts[report.digest] >= MAX_STARTS or self.lost[report.digest] >= MAX_LOST:
            self.fail(report, f" (started {self.starts[report.digest]} times)")
        else:
            self.again(report, report.message)

    def settle_corrupt(self, report: Report) -> None:
        """Withdraw the artifact and plan anew: it, and this job behind it, are then pending again."""
        if self.starts[report.digest] >= MAX_STARTS or report.corrupt not in self.jobs:
            self.fail(report)
            return
        self.store.set_aside(report.corrupt)
        self.tell("retried", self.jobs[report.digest], reason=report.message)
        self.plan()

    def again(self, report: Report, reason: str) -> None:
        self.tell("retried", self.jobs[report.digest], reason=reason)
        self.pending.add(report.digest)
        heapq.heappush(self.ready, self.order[report.digest])

    def fail(self, report: Report, note: str = "") -> None:
        status = "timeout" if report.status == "timeout" else "failed"
        job = self.jobs[report.digest]
        message = report.message + note
        error = f"{report.error}: {message}"
        self.end(job.digest, Record(status, error, self.starts[job.digest], report))  # type: ignore[arg-type]
        self.skip_dependants(job.digest)
        if self.failed > self.allowed:
            self.stop(f"{self.failed} jobs failed, more than --max-failures {self.options.max_failures}")
        self.store.record_failure(Failure(job.digest, report.error, message, report.traceback, status, job.label))

    def skip_dependants(self, digest: str) -> None:
        """Skip everything pending that needs this job, with the first cause as the reason."""
        cause = self.outcome.records[digest]
        job = self.jobs[digest]
        status: JobStatus = "missing" if cause.status == "missing" else "skipped"
        settled = cause.status in ("skipped", "missing")
        reason = cause.error if settled else f"needs {job.label or job.digest}: {cause.error}"
        stack = list(self.consumers[digest])
        while stack:
            other = stack.pop()
            if other in self.pending:
                self.pending.discard(other)
                self.end(other, Record(status, reason))
                stack += self.consumers[other]

    def end(self, digest: str, record: Record) -> None:
        before = self.outcome.records.get(digest)
        self.failed += record.failed - (before is not None and before.failed)
        self.outcome.records[digest] = record
        seconds = record.report.seconds if record.report else 0.0
        self.tell("finished", self.jobs[digest], status=record.status, seconds=round(seconds, 3), error=record.error)

    def stop(self, reason: str, *, halted: bool = False) -> None:
        if halted and not self.halted:
            self.halted = reason
        if not self.outcome.stopped:
            self.outcome.stopped = reason
            self.tell("stopped", None, reason=reason)

    def give_up(self, reason: str, status: JobStatus) -> None:
        """Nothing more will be started: say so of all that is left, and put the records in plan order."""
        for digest in sorted(self.pending | self.in_flight, key=self.order.__getitem__):
            self.end(digest, Record(status, reason, self.starts[digest]))
        self.pending, self.in_flight = set(), set()
        records = self.outcome.records
        self.outcome.records = {digest: records[digest] for digest in self.jobs if digest in records}
        self.tell("ended", None, **self.outcome.count())

    # --- space ----------------------------------------------------------------------------------------------------

    def note_droppable(self, digest: str) -> None:
        """Inputs of a finished job all of whose readers are finished may lose the blobs that options say to drop."""
        if not self.options.drop:
            return
        self.droppable |= {upstream for upstream in self.jobs[digest].needs if not self.unread[upstream]}
        if len(self.droppable) >= _DROP_TOGETHER:
            self.drop()

    def drop(self) -> int:
        """Drop what may be dropped; returns the bytes freed."""
        freed = sum(self.store.drop(self.droppable, role) for role in sorted(self.options.drop))
        self.droppable = set()
        return freed

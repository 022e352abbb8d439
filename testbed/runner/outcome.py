"""How a run ended: one record a job, and the rows of jobs.parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from testbed.errors import EnvironmentProblem
from testbed.runner.worker import Report
from testbed.types import JOBS, JOBS_VERSION, Job, Status, arrow_schema

JobStatus: TypeAlias = Literal["done", "cached", "failed", "timeout", "skipped", "missing"]


@dataclass(frozen=True)
class Record:
    """How one job ended.

    done     made in this run            cached   was there already, or another driver made it meanwhile
    failed   error says why              timeout  killed after --timeout
    skipped  not started: an input failed, or the run was stopped by --max-failures; error says why
    missing  not run: the run was interrupted, or the machine was in the way
    """

    status: JobStatus
    error: str = ""
    attempts: int = 0
    report: Report | None = None

    @property
    def failed(self) -> bool:
        """Whether it was started and is not there."""
        return self.status in ("failed", "timeout")


class Absent(NamedTuple):
    """Why a cell has no value: the status of its row, and what the column `error` says."""

    status: Status
    error: str


@dataclass
class Outcome:
    """The records by digest, in plan order; `stopped` says why no more jobs were started, if so.

    contents  digest -> content hash of what the store holds of this plan, as the driver knows it
    """

    jobs: Mapping[str, Job]
    records: dict[str, Record] = field(default_factory=dict)
    stopped: str = ""
    contents: dict[str, str] = field(default_factory=dict)

    def count(self) -> dict[str, int]:
        """Number of jobs of each status."""
        counts = Counter(record.status for record in self.records.values())
        return {status: counts[status] for status in get_args(JobStatus)}

    @property
    def ok(self) -> bool:
        """Whether every job that was needed is there."""
        return all(record.status in ("done", "cached") for record in self.records.values())

    def absent(self) -> dict[str, Absent]:
        """Digest -> why a cell of each job that is not there has no value."""
        found: dict[str, Absent] = {}
        for digest, record in self.records.items():
            if record.status != "done" and record.status != "cached":
                found[digest] = Absent(record.status, record.error)
        return found

    def errors(self) -> dict[str, str]:
        """Digest -> class and message (or the reason for skipping) of each job that is not there."""
        return {d: r.error for d, r in self.records.items() if r.status not in ("done", "cached")}

    def table(self) -> Any:
        """The rows of jobs.parquet (`testbed.types.JOBS`) as a pyarrow table."""
        import pyarrow as pa

        rows = [self._row(digest, record) for digest, record in self.records.items()]
        return pa.Table.from_pylist(rows, schema=arrow_schema(JOBS, JOBS_VERSION))

    def _row(self, digest: str, record: Record) -> dict[str, Any]:
        job, report = self.jobs[digest], record.report or Report(digest, "cached")
        row = {
            "digest": digest,
            "kind": job.kind,
            "label": job.label,
            "model": job.model or None,
            "status": record.status,
            "attempts": record.attempts,
            "started": round(report.started * 1000) if report.started else None,
            "seconds": report.seconds,
            "cpu_seconds": report.cpu_seconds,
            "peak_bytes": report.peak_bytes,
            "host": report.host,
            "pid": report.pid,
            "forwards": report.counts.get("forwards", 0),
            "gradients": report.counts.get("gradients", 0),
            "bytes": report.counts.get("bytes", 0),
            "error": record.error,
        }
        return {name: row[name] for name in JOBS}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: what was finished is kept; `outcome` says what that is."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__("interrupted; what was finished is kept, run the same grid again to go on")


class Halted(EnvironmentProblem):
    """The machine is in the way of going on; `outcome` says what was finished."""

    def __init__(self, message: str, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(message)

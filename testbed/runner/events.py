"""What a run tells whoever watches it: one small event type, one callable that takes it.

planned   total (jobs to run), cached (jobs already there)
started   a job was started: host, pid, attempt
finished  a job ended: status, seconds, error
retried   a job goes back to the queue: reason
stopped   no more jobs are started: reason
ended     done, cached, failed, timeout, skipped, missing: number of jobs of each status
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from testbed.types import Job

Name = Literal["planned", "started", "finished", "retried", "stopped", "ended"]


@dataclass(frozen=True)
class Event:
    """One thing that happened; `job` is None where it concerns the whole run.

    digests  of the jobs to run, with "planned"; left out of the plain form, which may go to a log

    >>> Event("planned", None, {"total": 3, "cached": 1}).plain()
    {'event': 'planned', 'total': 3, 'cached': 1}
    """

    name: Name
    job: Job | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    digests: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The event as one JSON object."""
        job = {} if self.job is None else {"digest": self.job.digest, "kind": self.job.kind, "label": self.job.label}
        return {"event": self.name, **job, **self.fields}


#: Takes each event as it happens, on the driver's thread.
Listener: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that does nothing."""

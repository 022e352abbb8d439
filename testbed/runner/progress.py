"""Progress for people and programs: bars on a terminal, a line now and then elsewhere, JSON events where asked.

Time left = work left x time a unit of work has taken so far. A job's work is its planned cost times the rate of its
kind (seconds a unit, learnt as jobs finish; a kind not seen yet has the mean rate of the others).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Final, Literal

from testbed.errors import harmless
from testbed.runner.events import Event, Listener
from testbed.types import Job

LINE_SECONDS: Final = 30.0
Style = Literal["auto", "bars", "lines", "json", "none"]


@contextmanager
def progress(style: Style, jobs: Iterable[Job], stream: IO[str] | None = None) -> Iterator[Listener]:
    """A listener that shows how far a run is; "auto" gives bars on a terminal and lines elsewhere.

    jobs    those of the plan, whose costs say how much work is left
    stream  where to write: standard error by default, standard output for "json"
    """
    out = stream or (sys.stdout if style == "json" else sys.stderr)
    if style == "auto":
        style = "bars" if out.isatty() else "lines"
    if style == "none":
        yield lambda event: None
    elif style == "json":
        yield lambda event: print(json.dumps(event.plain()), file=out, flush=True)
    elif style == "bars":
        with _bars(Tally(jobs), out) as listener:
            yield listener
    else:
        with _lines(Tally(jobs), out) as listener:
            yield listener


class Tally:
    """Counts events; knows how much is done and guesses how long the rest takes."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._cost = {job.digest: float(max(1, sum(job.cost.values()))) for job in jobs}
        self._kind = {job.digest: job.kind for job in jobs}
        self._spent: dict[str, float] = defaultdict(float)
        self._units: dict[str, float] = defaultdict(float)
        self._left: dict[str, float] = defaultdict(float)  # planned cost of what is not finished, by kind
        self._begin = time.monotonic()
        self.total = self.cached = self.finished = self.missing = 0
        self.bad: Counter[str] = Counter()
        self.said: set[str] = set()
        self.running: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Count one event."""
        job = event.job
        if event.name == "planned":
            self.total, self.cached = event.fields["total"], event.fields["cached"]
            self._cost = {digest: self._cost[digest] for digest in event.digests if digest in self._cost}
            self._left.clear()
            for digest, cost in self._cost.items():
                self._left[self._kind[digest]] += cost
            self._begin = time.monotonic()
        elif event.name == "started" and job is not None:
            self.running[job.digest] = job.label or job.digest
        elif event.name == "retried" and job is not None:
            self.running.pop(job.digest, None)
        elif event.name == "finished" and job is not None:
            self.running.pop(job.digest, None)
            if event.fields["status"] == "missing":  # not run: it is neither finished nor bad
                self.missing += 1
                return
            self.finished += 1
            self.total = max(self.total, self.finished)
            self._spent[job.kind] += event.fields["seconds"]
            self._units[job.kind] += self._cost.get(job.digest, 1.0)
            self._left[job.kind] -= self._cost.pop(job.digest, 0.0)
            if event.fields["status"] in ("failed", "timeout", "skipped"):
                self.bad[event.fields["status"]] += 1

    def seconds_left(self) -> float | None:
        """Guess of the seconds to go; None before the first job is finished."""
        elapsed, spent = time.monotonic() - self._begin, sum(self._spent.values())
        if not self.finished or not spent:
            return None
        mean = spent / sum(self._units.values())
        rate = {kind: self._spent[kind] / self._units[kind] for kind in self._units}
        left = dict(self._left)  # a copy: lines are printed from a thread of their own
        work = sum(cost * rate.get(kind, mean) for kind, cost in left.items())
        work += spent / self.finished * max(0, self.total - self.finished - len(self._cost))  # whose cost is not known
        return work * elapsed / spent

    def line(self) -> str:
        """One line for a log."""
        left = self.seconds_left()
        parts = [f"{self.finished}/{self.total} jobs"]
        parts += [f"{self.cached} were there"] if self.cached else []
        parts += [f"{number} {status}" for status, number in sorted(self.bad.items())]
        parts += [f"{self.missing} not run"] if self.missing else []
        parts += (
            [f"{_spell(left)} left"] if not self.missing and left is not None and self.finished < self.total else []
        )
        parts += [f"running: {label}" for label in list(self.running.values())[:1]]
        return ", ".join(parts)


def _spell(seconds: float) -> str:
    """Seconds for people.

    >>> _spell(42.4), _spell(200), _spell(7300)
    ('42 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _complaint(event: Event, said: set[str]) -> str | None:
    """What is said at once, whatever the style: failures, retries and the reason for stopping.

    said  the errors so far: many jobs fail for one reason, which is told once
    """
    label = (event.job.label or event.job.digest) if event.job else ""
    if event.name == "finished" and event.fields["status"] in ("failed", "timeout"):
        error = str(event.fields["error"])
        if error in said:
            return None
        said.add(error)
        return f"{event.fields['status']}: {label}: {error}"
    if event.name == "retried":
        return f"again: {label}: {event.fields['reason']}"
    return f"stopped: {event.fields['reason']}" if event.name == "stopped" else None


@contextmanager
def _lines(tally: Tally, out: IO[str]) -> Iterator[Listener]:
    """A line at the start, every 30 s while jobs run, and at the end."""
    over = threading.Event()

    def now_and_then() -> None:
        while not over.wait(LINE_SECONDS):
            print(harmless(tally.line()), file=out, flush=True)

    def listener(event: Event) -> None:
        tally.take(event)
        complaint = _complaint(event, tally.said)
        if complaint or event.name in ("planned", "ended"):
            print(harmless(complaint or tally.line()), file=out, flush=True)

    clock = threading.Thread(target=now_and_then, daemon=True)
    clock.start()
    try:
        yield listener
    finally:
        over.set()
        clock.join()


@contextmanager
def _bars(tally: Tally, out: IO[str]) -> Iterator[Listener]:
    """One bar over all jobs and one a kind, with the time left."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("[dim]{task.fields[now]}"),
    )
    with Progress(*columns, console=Console(file=out), transient=False) as bars:
        whole = bars.add_task("jobs", total=None, left="", now="")

        def listener(event: Event) -> None:
            tally.take(event)
            left = tally.seconds_left()
            bars.update(
                whole,
                total=tally.total,
                completed=tally.finished,
                left=f"{_spell(left)} left"
                if left is not None and not tally.missing and tally.finished < tally.total
                else "",
                now=escape(harmless(_shorten(", ".join(islice(tally.running.values(), 8))))),
            )
            complaint = _complaint(event, tally.said)
            if complaint:
                bars.console.print(harmless(complaint), markup=False, highlight=False)

        yield listener


def _shorten(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

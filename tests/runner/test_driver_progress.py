"""Progress: what a person or a program reads while a run goes on."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_jobs as toy

from testbed.runner import progress as module
from testbed.runner.driver import run
from testbed.runner.events import Event
from testbed.runner.progress import Tally, progress
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store
from testbed.types import Job


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def show(tmp_path: Path, style: module.Style, stream: io.StringIO) -> str:
    """What is shown of a run of three jobs, one of which fails."""
    bad = toy.job("make", name="bad", n=1, trouble="raise")
    child = toy.job("add", {"x": (bad.digest,)}, name="child", n=1)
    good = toy.job("make", name="good", n=1)
    jobs = toy.by_digest(bad, child, good)
    store = Store(tmp_path)
    with progress(style, jobs.values(), stream) as listener:
        run(jobs, list(jobs), store, Serial(Setting(toy.OPERATION, store.url)), listener=listener)
    return stream.getvalue()


def test_json_events_are_one_object_a_line(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in show(tmp_path, "json", io.StringIO()).splitlines()]

    assert lines[0] == {"event": "planned", "total": 3, "cached": 0}
    assert lines[-1] == {"event": "ended", "done": 1, "cached": 0, "failed": 1, "timeout": 0, "skipped": 1,
                         "missing": 0}  # fmt: skip
    finished = {line["label"]: line["status"] for line in lines if line["event"] == "finished"}
    assert finished == {"make bad": "failed", "add child": "skipped", "make good": "done"}


def test_lines_away_from_a_terminal(tmp_path: Path) -> None:
    text = show(tmp_path, "auto", io.StringIO())

    assert text.splitlines()[0] == "0/3 jobs"
    assert "failed: make bad: ValueError: this job always fails" in text
    assert text.splitlines()[-1] == "3/3 jobs, 1 failed, 1 skipped"
    assert "\x1b" not in text


def test_bars_on_a_terminal(tmp_path: Path) -> None:
    text = show(tmp_path, "auto", Terminal())

    assert "3/3" in text
    assert "failed: make bad: ValueError: this job always fails" in text


def test_none_says_nothing(tmp_path: Path) -> None:
    assert show(tmp_path, "none", io.StringIO()) == ""


def test_a_line_comes_while_a_job_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(module, "LINE_SECONDS", 0.02)
    with progress("lines", [], stream) as listener:
        listener(Event("planned", None, {"total": 1, "cached": 0}))
        listener(Event("started", toy.job("make", name="slow"), {}))
        for _ in range(100):
            time.sleep(0.02)
            if "running" in stream.getvalue():
                break

    assert "0/1 jobs, running: make slow" in stream.getvalue()


def finish(tally: Tally, job: Job, seconds: float) -> None:
    """Tell a tally that a job ran for so long."""
    tally.take(Event("started", job, {}))
    tally.take(Event("finished", job, {"status": "done", "seconds": seconds}))


def with_cost(kind: str, name: str, forward: int) -> Job:
    """A job of a stated cost."""
    made = toy.job(kind, name=name)
    return Job(made.digest, kind, made.recipe, label=name, cost={"forward": forward})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return lambda value: now.__setitem__(0, value)


def test_time_left_goes_by_cost_and_kind(clock: Callable[[float], None]) -> None:
    jobs = [with_cost("make", f"m{i}", 100) for i in range(2)] + [with_cost("add", f"a{i}", 100) for i in range(3)]
    tally = Tally(jobs)
    assert tally.seconds_left() is None
    tally.take(Event("planned", None, {"total": 5, "cached": 0}, tuple(j.digest for j in jobs)))
    finish(tally, jobs[0], 10.0)
    finish(tally, jobs[2], 1.0)
    clock(11.0)

    assert tally.seconds_left() == pytest.approx(10.0 + 2 * 1.0)
    clock(5.5)  # two workers did it in half the time
    assert tally.seconds_left() == pytest.approx(6.0)
    assert "6 s left" in tally.line()


def test_jobs_that_need_not_run_do_not_count(clock: Callable[[float], None]) -> None:
    dear, cheap, other = with_cost("make", "dear", 10**6), with_cost("add", "cheap", 10), with_cost("add", "other", 10)
    tally = Tally([dear, cheap, other])
    tally.take(Event("planned", None, {"total": 2, "cached": 1}, (cheap.digest, other.digest)))
    finish(tally, cheap, 1.0)
    clock(1.0)

    assert tally.seconds_left() == pytest.approx(1.0)


def test_time_left_without_costs_goes_by_numbers(clock: Callable[[float], None]) -> None:
    tally = Tally()
    tally.take(Event("planned", None, {"total": 4, "cached": 0}))
    finish(tally, with_cost("make", "a", 1), 2.0)
    clock(2.0)

    assert tally.seconds_left() == pytest.approx(6.0)


def test_the_guess_costs_the_same_however_many_jobs_are_left(clock: Callable[[float], None]) -> None:
    """Each event of a run shows it anew: it must not go through the jobs."""

    class Unwalked(dict):
        def __iter__(self):
            raise AssertionError("went through all jobs")

        values = items = keys = __iter__

    jobs = [with_cost(kind, f"{kind} {i}", 10 + i) for kind in ("make", "add") for i in range(5)]
    tally = Tally(jobs)
    tally.take(Event("planned", None, {"total": 10, "cached": 0}, tuple(j.digest for j in jobs)))
    clock(10.0)
    finish(tally, jobs[0], 10.0)
    tally._cost = Unwalked(tally._cost)

    assert tally.seconds_left() == pytest.approx(sum(10 + i for i in range(1, 5)) + sum(10 + i for i in range(5)))

"""The driver with the serial executor: what runs, what does not, and how each kind of trouble ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toy_jobs as toy
from threadpoolctl import ThreadpoolController

from testbed.errors import UsageError
from testbed.runner import driver
from testbed.runner.driver import MAX_STARTS, OnDemand, Options, allowed_failures, run
from testbed.runner.events import Event
from testbed.runner.outcome import Halted, Interrupted, Outcome
from testbed.runner.serial import Serial
from testbed.runner.threads import limited
from testbed.runner.worker import Setting
from testbed.store import Store
from testbed.types import JOBS, Job


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store")


def go(
    store: Store, *jobs: Job, wanted: list[Job] | None = None, timeout: float | None = None, **options: Any
) -> Outcome:
    """Run with the serial executor; by default the last job is wanted."""
    setting = Setting(toy.OPERATION, store.url, store.max_disk)
    listener = options.pop("listener", lambda event: None)
    goal = [j.digest for j in (wanted or [jobs[-1]])]
    return run(toy.by_digest(*jobs), goal, store, Serial(setting, timeout), Options(**options), listener)


def statuses(outcome: Outcome) -> list[str]:
    """Status of each job in plan order."""
    return [record.status for record in outcome.records.values()]


def test_each_job_runs_once_and_a_rerun_runs_nothing(store: Store) -> None:
    jobs = toy.diamond()
    first = go(store, *jobs)
    second = go(store, *jobs)

    assert statuses(first) == ["done"] * 4
    assert statuses(second) == ["cached"]
    assert toy.starts(store) == {j.digest: 1 for j in jobs}


def test_only_ancestors_of_the_wanted_run(store: Store) -> None:
    top, left, *_ = jobs = toy.diamond()
    go(store, *jobs, wanted=[left])

    assert set(toy.starts(store)) == {top.digest, left.digest}


def test_absent_input_of_a_finished_job_is_not_made(store: Store) -> None:
    top, left, *_ = jobs = toy.diamond()
    go(store, *jobs)
    store.set_aside(top.digest)
    store.set_aside(left.digest)
    outcome = go(store, *jobs)

    assert statuses(outcome) == ["cached"]
    assert store.manifest(top.digest) is None


def test_a_new_job_pulls_its_dropped_input_only(store: Store) -> None:
    top, left, right, bottom = jobs = toy.diamond()
    go(store, *jobs)
    assert store.drop([top.digest]) > 0
    extra = toy.job("add", {"x": (top.digest,)}, name="extra", n=7)
    go(store, *jobs, extra, wanted=[bottom, extra])

    assert toy.starts(store) == {top.digest: 2, left.digest: 1, right.digest: 1, bottom.digest: 1, extra.digest: 1}
    assert store.manifest(top.digest).dropped == ()


def test_dropped_blob_of_a_role_that_is_not_read_is_not_made_again(store: Store) -> None:
    jobs = toy.diamond()
    top = jobs[0]
    go(store, *jobs)
    store.drop([top.digest], "rows")
    extra = toy.job("add", {"x": (top.digest,)}, name="extra", n=7)
    go(store, *jobs, extra, reads=lambda job, name: frozenset({"inputs"}))

    assert toy.starts(store)[top.digest] == 1


def test_blobs_are_dropped_after_their_last_reader_and_results_stay(store: Store, tmp_path: Path) -> None:
    jobs, wanted = toy.grid(sets=2, readers=3)
    kept = Store(tmp_path / "kept")
    go(kept, *jobs.values(), wanted=[jobs[d] for d in wanted])
    go(store, *jobs.values(), wanted=[jobs[d] for d in wanted], drop=frozenset({"inputs"}))

    sets = [d for d, j in jobs.items() if j.kind == "make"]
    assert all(store.manifest(d).dropped == ("x",) for d in sets)
    assert toy.table(store, wanted) == toy.table(kept, wanted)
    assert set(toy.starts(store).values()) == {1}
    assert {d: store.manifest(d).content for d in sets} == {d: kept.manifest(d).content for d in sets}


def test_failed_job_skips_its_dependants_with_the_reason_and_others_finish(store: Store) -> None:
    bad = toy.job("make", name="bad", n=2, trouble="raise")
    child = toy.job("add", {"x": (bad.digest,)}, name="child", n=1)
    grandchild = toy.job("add", {"x": (child.digest,)}, name="grandchild", n=1)
    good = toy.job("make", name="good", n=2)
    outcome = go(store, bad, child, grandchild, good, wanted=[grandchild, good])

    assert statuses(outcome) == ["failed", "skipped", "skipped", "done"]
    assert outcome.errors()[bad.digest] == "ValueError: this job always fails"
    reason = "needs make bad: ValueError: this job always fails"
    assert outcome.errors()[child.digest] == outcome.errors()[grandchild.digest] == reason
    assert not outcome.ok
    failure = store.failure(bad.digest)
    assert failure is not None
    assert "toy_jobs.py" in failure.traceback


def test_failed_job_is_retried_by_a_rerun_unless_told_otherwise(store: Store) -> None:
    bad = toy.job("make", name="bad", n=2, trouble="raise")
    child = toy.job("add", {"x": (bad.digest,)}, name="child", n=1)
    go(store, bad, child)
    kept = go(store, bad, child, retry=False)
    assert toy.starts(store)[bad.digest] == 1
    assert statuses(kept) == ["failed", "skipped"]

    go(store, bad, child)
    assert toy.starts(store)[bad.digest] == 2


def test_failure_is_forgotten_once_published(store: Store) -> None:
    flaky = toy.job("make", name="flaky", n=2, trouble="hang once")
    assert statuses(go(store, flaky, timeout=2.0)) == ["timeout"]
    assert store.failure(flaky.digest) is not None

    assert statuses(go(store, flaky)) == ["done"]
    assert store.failure(flaky.digest) is None


def test_plugin_that_exits_is_a_failed_job(store: Store) -> None:
    outcome = go(store, toy.job("make", name="exit", n=1, trouble="exit"))

    assert list(outcome.errors().values()) == ["SystemExit: a plug-in called sys.exit"]


@pytest.mark.parametrize(("limit", "started"), [("0", 1), ("1", 2), ("50%", 4), (None, 6)])
def test_max_failures_stops_starting(store: Store, limit: str | None, started: int) -> None:
    bad = [toy.job("make", name=f"bad {i}", n=1, trouble="raise") for i in range(6)]
    outcome = go(store, *bad, wanted=bad, max_failures=limit)

    assert len(toy.starts(store)) == started
    assert statuses(outcome) == ["failed"] * started + ["skipped"] * (6 - started)
    assert bool(outcome.stopped) == (limit is not None)


class Uncounted(dict):
    """Records that nobody may go through while jobs end: that would cost more the more there are."""

    walks = 0

    def values(self):
        Uncounted.walks += 1
        return super().values()


def test_a_failure_and_a_drop_cost_the_same_whatever_was_done_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, wanted = toy.grid(sets=3, readers=4)
    bad = [toy.job("make", name=f"bad {i}", n=1, trouble="raise") for i in range(20)]
    walks = []
    for number in (2, 20):
        monkeypatch.setattr(driver, "Outcome", lambda jobs: Outcome(jobs, Uncounted()))
        Uncounted.walks = 0
        goal = [*bad[:number], *(jobs[d] for d in wanted)]
        outcome = go(store, *jobs.values(), *bad[:number], wanted=goal, drop=frozenset({"inputs"}))
        walks.append(Uncounted.walks)
        assert outcome.count()["failed"] == number

    assert walks[0] == walks[1]
    sets = [d for d, j in jobs.items() if j.kind == "make"]
    assert all(store.manifest(d).dropped == ("x",) for d in sets)


def test_failures_that_are_kept_from_an_earlier_run_count(store: Store) -> None:
    bad = [toy.job("make", name=f"bad {i}", n=1, trouble="raise") for i in range(4)]
    go(store, *bad[:2], wanted=bad[:2])
    outcome = go(store, *bad, wanted=bad, retry=False, max_failures="2")

    assert statuses(outcome) == ["failed", "failed", "failed", "skipped"]
    assert outcome.stopped.startswith("3 jobs failed")


def test_what_another_run_withdrew_is_made_again(store: Store) -> None:
    """It was published, and was gone when the worker looked: not the plug-in's fault."""
    job = toy.job("make", name="w", n=1, trouble="withdrawn once")
    outcome = go(store, job)

    assert outcome.errors() == {} and toy.starts(store)[job.digest] == 2


@pytest.mark.parametrize("text", ["many", "-1", "x%", "nan"])
def test_max_failures_that_is_no_number_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--max-failures"):
        allowed_failures(text, 10)


def test_timeout_kills_a_hanging_job_and_the_rest_goes_on(store: Store) -> None:
    hang = toy.job("make", name="hang", n=1, trouble="hang")
    good = toy.job("make", name="good", n=1)
    outcome = go(store, hang, good, wanted=[hang, good], timeout=6.0)

    assert statuses(outcome) == ["timeout", "done"]
    assert "--timeout" in outcome.errors()[hang.digest]
    assert store.failure(hang.digest).status == "timeout"
    assert statuses(go(store, hang, retry=False)) == ["timeout"]


def test_child_process_gives_the_same_bits(store: Store, tmp_path: Path) -> None:
    jobs = toy.diamond()
    go(store, *jobs)
    child = Store(tmp_path / "child")
    outcome = go(child, *jobs, timeout=60.0)

    assert toy.snapshot(child) == toy.snapshot(store)
    pids = {record.report.pid for record in outcome.records.values() if record.report}
    assert len(pids) == 1  # the child is kept from job to job


def test_killed_worker_is_replaced_and_its_job_run_again(store: Store) -> None:
    job = toy.job("make", name="dies", n=1, trouble="die once")
    outcome = go(store, job, timeout=60.0)

    assert statuses(outcome) == ["done"]
    assert outcome.records[job.digest].attempts == 2


def test_job_that_always_kills_its_worker_fails_after_three_starts(store: Store) -> None:
    outcome = go(store, toy.job("make", name="dies", n=1, trouble="die"), timeout=60.0)

    assert statuses(outcome) == ["failed"]
    assert sum(toy.starts(store).values()) == MAX_STARTS
    assert "SIGKILL" in next(iter(outcome.errors().values()))


def test_interrupt_keeps_what_is_finished(store: Store) -> None:
    good = toy.job("make", name="good", n=1)
    stop = toy.job("make", name="stop", n=1, trouble="interrupt once")
    later = toy.job("make", name="later", n=1)
    with pytest.raises(Interrupted) as caught:
        go(store, good, stop, later, wanted=[good, stop, later])
    assert statuses(caught.value.outcome) == ["done", "missing", "missing"]

    assert statuses(go(store, good, stop, later, wanted=[good, stop, later])) == ["cached", "done", "done"]


def test_environment_problem_halts_the_run(store: Store) -> None:
    good, bad, later = (
        toy.job("make", name=n, n=1, trouble=t) for n, t in [("a", None), ("b", "machine"), ("c", None)]
    )
    with pytest.raises(Halted, match="cuda") as caught:
        go(store, good, bad, later, wanted=[good, bad, later])

    assert statuses(caught.value.outcome) == ["done", "missing", "missing"]
    assert caught.value.exit_code == 3
    assert store.failure(bad.digest) is None  # not the job's fault


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [damage_truncate, damage_alter, Path.unlink])
def test_damaged_input_is_noticed_and_remade(store: Store, damage: Callable[[Path], None]) -> None:
    top, left, *_ = jobs = toy.diamond()
    go(store, *jobs, wanted=[left])
    before = toy.snapshot(store)
    for blob in store.manifest(top.digest).blobs.values():
        damage(Path(store.url) / "blobs" / blob.file)
    go(store, *jobs)

    assert toy.starts(store)[top.digest] == 2
    assert toy.starts(store)[left.digest] == 1  # it consumed the same content
    assert before.items() <= toy.snapshot(store).items()
    store.check(top.digest)


@pytest.mark.parametrize("damage", [damage_truncate, damage_alter, Path.unlink])
def test_damaged_result_is_noticed_and_remade(store: Store, damage: Callable[[Path], None]) -> None:
    jobs = toy.diamond()
    bottom = jobs[-1]
    go(store, *jobs)
    expected = toy.table(store, [bottom.digest])
    damage(Path(store.url) / "blobs" / store.manifest(bottom.digest).blobs["rows"].file)
    outcome = go(store, *jobs)

    assert outcome.records[bottom.digest].status == "done"
    assert toy.starts(store) == {j.digest: 1 + (j is bottom) for j in jobs}
    assert toy.table(store, [bottom.digest]) == expected


def test_altered_manifest_counts_as_absent(store: Store) -> None:
    jobs = toy.diamond()
    go(store, *jobs)
    path = next((Path(store.url) / "manifests").rglob(f"{jobs[-1].digest}.json"))
    path.write_text(path.read_text().replace('"n": 3', '"n": 4'))
    before = store.manifest(jobs[-1].digest)
    go(store, *jobs)

    assert before is None
    assert toy.starts(store)[jobs[-1].digest] == 2


def test_input_remade_with_other_content_makes_dependants_stale(store: Store) -> None:
    top, left, right, bottom = jobs = toy.diamond()
    go(store, *jobs)
    store.set_aside(top.digest)
    with store.writer(top) as writer:  # what another machine might leave: the same job, other bits
        writer.tensors("x", {"x": store.tensors(left.digest, "x")["x"] * 2}, role="inputs")

    assert not store.done(left)
    go(store, *jobs)
    assert toy.starts(store) == {top.digest: 1, left.digest: 2, right.digest: 2, bottom.digest: 2}


def test_executor_on_demand_is_made_only_when_there_is_work(store: Store) -> None:
    made: list[Serial] = []

    def make() -> Serial:
        made.append(Serial(Setting(toy.OPERATION, store.url)))
        return made[-1]

    jobs = toy.by_digest(*toy.diamond())
    for expected in (1, 1):
        assert run(jobs, list(jobs), store, OnDemand(make)).ok
        assert len(made) == expected


def test_job_that_publishes_nothing_is_a_failure(store: Store) -> None:
    job = toy.job("make", name="x", n=1)
    outcome = run(
        toy.by_digest(job), [job.digest], store, Serial(Setting("testbed.runner.needed:everything", store.url))
    )

    assert "without publishing" in outcome.errors()[job.digest]


def test_numeric_libraries_get_as_many_threads_as_the_job_has_cpus() -> None:
    pools = ThreadpoolController()
    before = [pool["num_threads"] for pool in pools.info()]
    with limited(3):
        inside = {pool["num_threads"] for pool in pools.info()}
        assert os.environ["OPENBLAS_NUM_THREADS"] == "3"

    assert inside == {3}
    assert [pool["num_threads"] for pool in pools.info()] == before


def test_plan_with_a_missing_job_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="no job"):
        go(store, toy.diamond()[1])


def test_disk_budget_drops_what_nobody_needs_and_else_halts(tmp_path: Path) -> None:
    jobs, wanted = toy.grid(sets=6, readers=1)
    size = Store(tmp_path / "all")
    go(size, *jobs.values(), wanted=[jobs[d] for d in wanted])
    total = sum(e.size for e in size.files.list("blobs"))
    inputs = sum(b.bytes for m in size.all_manifests().values() for b in m.blobs.values() if b.role == "inputs")

    enough = Store(tmp_path / "enough", max_disk=total - inputs // 2)
    go(enough, *jobs.values(), wanted=[jobs[d] for d in wanted], drop=frozenset({"inputs"}))
    assert toy.table(enough, wanted) == toy.table(size, wanted)
    assert sum(e.size for e in enough.files.list("blobs")) <= total - inputs // 2

    small = Store(tmp_path / "small", max_disk=total // 3)
    with pytest.raises(Halted, match="--max-disk") as caught:
        go(small, *jobs.values(), wanted=[jobs[d] for d in wanted])
    assert caught.value.outcome.count()["done"] > 0
    assert sum(e.size for e in small.files.list("blobs")) <= total // 3


def test_events_tell_the_whole_story(store: Store) -> None:
    told: list[Event] = []
    good, bad = toy.job("make", name="good", n=1), toy.job("make", name="bad", n=1, trouble="raise")
    go(store, good, bad, wanted=[good, bad], listener=told.append)

    assert [e.name for e in told] == ["planned", "started", "finished", "started", "finished", "ended"]
    assert told[0].plain() == {"event": "planned", "total": 2, "cached": 0}
    assert told[-1].plain() == {"event": "ended", "done": 1, "cached": 0, "failed": 1, "timeout": 0, "skipped": 0,
                                "missing": 0}  # fmt: skip
    assert told[4].plain()["error"] == "ValueError: this job always fails"


def test_jobs_table_has_the_agreed_columns_and_measures(store: Store) -> None:
    jobs = toy.diamond(seconds=0.05)
    table = go(store, *jobs).table()

    assert table.column_names == list(JOBS)
    rows = table.to_pylist()
    assert [r["attempts"] for r in rows] == [1] * 4
    assert rows[0]["seconds"] >= 0.05
    assert rows[0]["forwards"] == 5
    assert rows[0]["peak_bytes"] > 1_000_000
    assert rows[0]["started"] is not None

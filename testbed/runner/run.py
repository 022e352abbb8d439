"""From a grid to a run folder: plan, run what is missing, write the tables and the page.

    DIR/plan.json  results.parquet  samples.parquet/  jobs.parquet  images/  events.jsonl  report.html

Everything in DIR but jobs.parquet, which gathers what the jobs took, can be had again from the grid and the store.
Running again rewrites what changed; where nothing did, only events.jsonl, the log of the last run. While a run goes on,
results.parquet is refreshed every few seconds with the cells that are there, for `testbed report --live`.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from testbed.digest import digest, digest_file
from testbed.errors import DataError, UsageError
from testbed.grid.plan import Plan
from testbed.grid.planner import plan as make_plan
from testbed.provenance import provenance
from testbed.runner import driver, rows
from testbed.runner.costs import write_jobs
from testbed.runner.events import Event, Listener, silent
from testbed.runner.files import TABLES, Made, read_made, replace, states, sweep, writable, write_made
from testbed.runner.operations import reads
from testbed.runner.outcome import Halted, Interrupted, Outcome
from testbed.runner.regressions import write_regressions
from testbed.runner.worker import Setting
from testbed.store import Failure, Store, default_url
from testbed.types import Job

#: The page, and what it is made of besides the tables.
PAGE = ("plan.json", "jobs.parquet", "report.html")
OPERATION = "testbed.runner.operations:perform"
#: While a run goes on, results.parquet is refreshed this often, and never for more than this share of the time.
REFRESH_SECONDS, REFRESH_SHARE = 5.0, 0.02
#: `auto` takes Ray from this much expected work on: example evaluations, a gradient counted as three.
RAY_FROM = 1_000_000


class Notice(UserWarning):
    """Something about a run that its user should know, and that stops nothing."""


@dataclass(frozen=True)
class Settings:
    """How to run a plan; nothing here can change a result.

    out       run folder, default runs/<name> (see `free_folder`)
    store     folder or fsspec URL of artifacts, default TESTBED_STORE, else .testbed
    executor  ray, serial, or auto (by the amount of work)
    address   of a running Ray cluster ("auto", "host:port"); None starts a local one
    workers   of a local Ray cluster; None = all cores
    """

    out: Path | None = None
    store: str | None = None
    executor: Literal["auto", "ray", "serial"] = "auto"
    address: str | None = None
    workers: int | None = None
    timeout: float | None = None
    max_failures: str | None = None
    retry: bool = True
    max_disk: int | None = None
    page: bool = True


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its folder, how each job went, what ended it early, if anything, and its table where it
    was made anew."""

    folder: Path
    outcome: Outcome
    cause: BaseException | None = None
    made: Any = None

    @cached_property
    def table(self) -> Any:
        """The rows of results.parquet as a pyarrow table; read from there, when first asked for, where all was done."""
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "results.parquet") if self.made is None else self.made


def evaluate(grid: str | Path | Mapping[str, Any], *, overrides: Sequence[str] = (), **settings: Any) -> Any:
    """Run a grid and return its rows: a pyarrow.Table, the same as results.parquet.

    grid      a YAML file, or the same as a mapping
    settings  fields of `Settings`: out, store, executor, address, workers, timeout, max_failures, ...
    Failed jobs are rows with a status and an error. Raises UsageError with all problems of the grid.
    """
    known = Settings.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise UsageError(f"evaluate: unknown setting {name!r}; known: {', '.join(known)}")
    finished = run_plan(make_plan(grid, overrides), Settings(**{"page": False, **settings}))
    if finished.cause:
        raise finished.cause
    return finished.table


def run_plan(plan: Plan, settings: Settings, listener: Listener = silent) -> Finished:
    """Run what is missing of a plan and write its folder; an interruption is in `cause`, with what was finished."""
    store = Store(settings.store or default_url(), max_disk=settings.max_disk)
    folder = settings.out or free_folder(plan, Path("runs") / plan.name)
    outcome, cause = run_jobs(plan, store, settings, folder, lambda: _Watch(plan, store, folder, listener))
    with writable(folder):
        table = write_folder(plan, store, folder, outcome, settings.page)
    return Finished(folder, outcome, cause, table)


def run_jobs(
    plan: Plan, store: Store, settings: Settings, folder: Path, watch: Callable[[], Listener]
) -> tuple[Outcome, BaseException | None]:
    """Make the folder and run what is missing of a plan: how each job went, and what ended it early, if anything."""
    prepare_folder(folder, plan)
    prepare_store(plan, store)
    options = driver.Options(settings.max_failures, settings.retry, dropped_roles(plan.keep), reads)
    try:
        workers = driver.OnDemand(lambda: executor(plan, store, settings, folder))
        return driver.run(plan.jobs, plan.wanted, store, workers, options, watch()), None
    except (Interrupted, Halted) as error:
        return error.outcome, error


def free_folder(plan: Plan, usual: Path) -> Path:
    """The folder of a run that names none: the usual one, or one beside it, said in a warning.

    A run that -o changed must not take the place of the one it was changed from, nor that one the place of this: where
    plan.json in the usual folder is of another grid with other settings, the folder's name ends in the grid's digest.
    The same settings on an edited grid are the same run, which goes on.
    """
    try:
        held = json.loads((usual / "plan.json").read_text(encoding="utf-8"))
        grid, settings = held["grid"], held.get("overrides")
    except (OSError, ValueError, KeyError, TypeError):
        return usual
    mine = json.loads(json.dumps(plan.grid, default=str))
    if settings is None:  # of a version that did not keep them
        settings = [] if plan.overrides else list(plan.overrides)
    if grid == mine or list(settings) == list(plan.overrides):
        return usual
    beside = usual.with_name(f"{usual.name}-{digest(mine)[:8]}")
    changed = f"with -o {' -o '.join(settings)}" if settings else "without -o"
    says = f"{usual} holds the numbers of a run {changed}; this one is written to {beside} (--out names another folder)"
    warnings.warn(says, Notice, stacklevel=2)
    return beside


def dropped_roles(keep: str) -> frozenset[str]:
    """Roles of blobs that go once nothing in the plan needs them: perturbed images, unless the grid keeps them."""
    return frozenset({"inputs"}) if keep == "outputs" else frozenset()


def prepare_folder(folder: Path, plan: Plan) -> None:
    """Make the run folder and write plan.json; a folder that cannot be written is a clear error."""
    text = plan.to_json(provenance())
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        replace(folder / "plan.json", lambda path: path.write_text(text, encoding="utf-8"))
        (folder / "events.jsonl").write_text("", encoding="utf-8")


def prepare_store(plan: Plan, store: Store) -> None:
    """Put into the store what lies on the driver's disk: sources of plug-ins and files of weights.

    A file that is refused fails its own job, and what needs it: why is left in the store for `operations.models.file`.
    """
    for text in plan.sources.values():
        store.put_source(text)
    for one, path in plan.files.items():
        job = plan.jobs[one]
        if not store.done(job, None):
            try:
                put_file(job, Path(path), store)
            except DataError as error:
                store.record_failure(Failure(one, type(error).__name__, str(error), label=job.label))


def put_file(job: Job, path: Path, store: Store) -> None:
    """Keep a weights file as an artifact: its tensors, with the hash that the plan was made with, and its name."""
    import torch

    from testbed.models.weights import read

    if digest_file(path) != job.recipe["content"]:
        raise UsageError(f"{path} changed while the plan was being made; run again")
    tensors = read(path)
    with store.writer(job) as writer:
        writer.meta["name"] = path.name
        exact = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in tensors.items()}
        writer.tensors("weights", {name: value.numpy() for name, value in exact.items()})


def executor(plan: Plan, store: Store, settings: Settings, folder: Path) -> driver.Executor:
    """The executor that the settings name."""
    from testbed.runner.serial import Serial

    setting = Setting(OPERATION, store.url, settings.max_disk)
    if choose(plan, settings) == "serial":
        return Serial(setting, settings.timeout)
    from testbed.runner.ray import Ray

    return Ray(setting, address=settings.address, workers=settings.workers, timeout=settings.timeout, logs=folder)


def choose(plan: Plan, settings: Settings) -> Literal["ray", "serial"]:
    """Serial for small grids, because Ray takes six seconds to start; Ray for grids of real size."""
    if settings.executor != "auto":
        return settings.executor
    cost = plan.cost()
    return "ray" if settings.address or cost["forward"] + 3 * cost["gradient"] >= RAY_FROM else "serial"


def write_folder(plan: Plan, store: Store, folder: Path, outcome: Outcome, page: bool) -> Any:
    """All tables of a run, and its page, where something changed; returns the table of results if it was made."""
    table = None
    before, costs = read_made(folder), folder / "jobs.parquet"
    absent = {job: list(why) for job, why in outcome.absent().items()}
    of = digest([digest_file(folder / "plan.json"), contents(plan, outcome), absent])
    if before.of != of or outcome.count()["cached"] < len(outcome.records) or not costs.is_file():
        write_jobs(outcome, costs)
    parts = before.parts
    there = states(folder, TABLES)
    if before.of != of or before.files != there or "results.parquet" not in there:
        table = rows.write_results(plan, store, folder, outcome.absent())
        parts = rows.write_samples(plan, store, folder, outcome.contents, before)
        write_regressions(plan, store, folder)
        rows.write_images(plan, store, folder)
    files = states(folder, TABLES)
    if page and (before.files != files or before.page != states(folder, PAGE)):
        from testbed.report.load import read_run
        from testbed.report.page import write_page

        write_page(read_run(folder))
    write_made(folder, Made(of, files, states(folder, PAGE) if page else before.page, parts))
    return table


def contents(plan: Plan, outcome: Outcome) -> dict[str, str]:
    """Content hashes of all that the tables and the image strip are made of, by digest."""
    shown = (d for one in plan.previews for d in (*one.clean, *one.perturbed))
    return {d: outcome.contents[d] for d in (*plan.wanted, *shown) if d in outcome.contents}


class _Watch:
    """Passes events on, keeps them in events.jsonl, and refreshes results.parquet with what is there."""

    def __init__(self, plan: Plan, store: Store, folder: Path, listener: Listener) -> None:
        self.plan, self.store, self.folder, self.listener = plan, store, folder, listener
        self.scores = rows.Scores()
        self.due = time.monotonic() + REFRESH_SECONDS

    def __call__(self, event: Event) -> None:
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event.plain(), default=str) + "\n")
        self.listener(event)
        begin = time.monotonic()
        if event.name == "finished" and begin > self.due:
            with suppress(OSError):  # the page is then refreshed later; the run itself goes on
                rows.write_results(self.plan, self.store, self.folder, {}, self.scores)
            end = time.monotonic()
            self.due = end + max(REFRESH_SECONDS, (end - begin) / REFRESH_SHARE)

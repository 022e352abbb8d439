"""From a stream file to its folder: plan, run what is missing, write the table and the page.

    DIR/plan.json  stream.parquet  jobs.parquet  monitor.html

The rows lie in the store in blocks; stream.parquet is written block by block and moved into its place when whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.grid.plan import Plan
from testbed.runner.costs import write_jobs
from testbed.runner.events import Listener, silent
from testbed.runner.files import replace
from testbed.runner.outcome import Outcome
from testbed.runner.run import Settings, free_folder, run_jobs
from testbed.store import Store, default_url
from testbed.types import STREAM, STREAM_VERSION, arrow_schema


@dataclass(frozen=True)
class Monitored:
    """A replayed stream: its folder, how each job went, what ended it early, and how often the examples came round."""

    folder: Path
    outcome: Outcome
    cause: BaseException | None
    passes: int = 0


def run_stream(plan: Plan, settings: Settings, listener: Listener = silent) -> Monitored:
    """Run what is missing of a stream's plan and write its folder."""
    store = Store(settings.store or default_url(), max_disk=settings.max_disk)
    folder = settings.out or free_folder(plan, Path("runs") / plan.name)
    outcome, cause = run_jobs(plan, store, settings, folder, lambda: listener)
    write_jobs(outcome, folder / "jobs.parquet")
    (cell,) = plan.cells
    if cause is not None or not outcome.ok:
        return Monitored(folder, outcome, cause)
    replace(folder / "stream.parquet", lambda path: write_stream(plan, store, path))
    if settings.page:
        from testbed.report.stream import read_stream
        from testbed.report.stream_page import write_stream_page

        write_stream_page(read_stream(folder))
    return Monitored(folder, outcome, None, int(store.require(cell.digest).meta["passes"]))


def write_stream(plan: Plan, store: Store, path: Path) -> None:
    """stream.parquet, a row group a block of the replay, so that no more than a block is in memory."""
    import pyarrow.parquet as pq

    schema = arrow_schema(STREAM, STREAM_VERSION)
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for table in stream_blocks(plan, store):
            file.write_table(table)


def stream_blocks(plan: Plan, store: Store) -> Iterator[Any]:
    """The blocks of a finished replay with the columns that name the run."""
    import pyarrow as pa

    (cell,) = plan.cells
    schema = arrow_schema(STREAM, STREAM_VERSION)
    named = {name: cell.row[name] for name in ("run", "dataset", "model", "train_seed", "seed")}
    for position in range(int(store.require(cell.digest).meta["blocks"])):
        block = store.table(cell.digest, f"stream-{position:05d}")
        columns = [
            pa.array([named[f.name]] * block.num_rows, f.type) if f.name in named else block.column(f.name)
            for f in schema
        ]
        yield pa.table(columns, schema=schema)

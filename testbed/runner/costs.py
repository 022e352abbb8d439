"""jobs.parquet: what the jobs of a run folder took, merged run by run.

A job that was started in this run has this run's row. One that was there already keeps the row of the run that made
it, with its status and times. Rows of jobs that this run did not ask for stay as they are where they tell what a job
took: of earlier steps of this plan, and of an earlier plan in this folder (a grid that was shortened may grow again).
Whoever reads the table for this plan's numbers takes the digests of plan.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from testbed.runner.files import replace
from testbed.runner.outcome import Outcome

#: Statuses of rows that hold a measurement.
_MEASURED = ("done", "cached")


def write_jobs(outcome: Outcome, path: Path) -> None:
    """Write jobs.parquet, with what is there; the file stays as it is where no job was started or met for the first
    time."""
    import pyarrow.parquet as pq

    table = merged(outcome.table(), path, outcome.jobs)
    replace(path, lambda fresh: pq.write_table(table, fresh))


def merged(table: Any, path: Path, planned: Iterable[str] = ()) -> Any:
    """The rows of this run and those that stay of the file, in the order of the plan, then those of other plans."""
    import pyarrow as pa

    earlier = _read(path, table.schema)
    now = {row["digest"]: row for row in table.to_pylist()}
    found = {**earlier, **now}
    for digest, row in now.items():
        before = earlier.get(digest)
        if row["status"] == "cached" and before is not None and before["status"] in _MEASURED:
            found[digest] = before
    kept = [row for digest, row in found.items() if digest in now or row["status"] in _MEASURED]
    order = {digest: place for place, digest in enumerate(planned)}
    kept.sort(key=lambda row: order.get(row["digest"], len(order)))
    return pa.Table.from_pylist(kept, schema=table.schema)


def _read(path: Path, schema: Any) -> dict[str, dict[str, Any]]:
    """The rows that are there by digest; none where the file is absent or is not such a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, schema=schema).to_pylist() if path.is_file() else []
    except (pa.ArrowException, OSError):
        return {}
    return {row["digest"]: row for row in rows if row["digest"] is not None and row["status"] is not None}

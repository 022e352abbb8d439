"""jobs.parquet of a rerun keeps what the jobs took when they ran."""

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.runner.rows import with_earlier_costs
from testbed.types import JOBS, JOBS_VERSION, arrow_schema


def table(*rows):
    filled = [dict.fromkeys(JOBS) | row for row in rows]
    return pa.Table.from_pylist(filled, schema=arrow_schema(JOBS, JOBS_VERSION))


def test_cached_jobs_keep_their_times_and_others_have_their_own(tmp_path):
    path = tmp_path / "jobs.parquet"
    ran = {"status": "done", "seconds": 2.0, "forwards": 10, "host": "a"}
    pq.write_table(table({"digest": "x", **ran}, {"digest": "y", **ran}, {"digest": "z", **ran}), path)
    now = table(
        {"digest": "x", "status": "cached", "seconds": 0.0, "forwards": 0},
        {"digest": "y", "status": "done", "seconds": 3.0, "forwards": 10},
        {"digest": "new", "status": "cached", "seconds": 0.0, "forwards": 0},
    )
    found = {row["digest"]: row for row in with_earlier_costs(now, path).to_pylist()}
    assert (found["x"]["status"], found["x"]["seconds"], found["x"]["forwards"]) == ("cached", 2.0, 10)
    assert found["y"]["seconds"] == 3.0
    assert found["new"]["seconds"] == 0.0
    assert "z" not in found


def test_a_first_run_or_a_damaged_file_changes_nothing(tmp_path):
    now = table({"digest": "x", "status": "cached", "seconds": 0.0})
    assert with_earlier_costs(now, tmp_path / "absent.parquet") is now
    (tmp_path / "jobs.parquet").write_bytes(b"PAR1 not")
    assert with_earlier_costs(now, tmp_path / "jobs.parquet") is now


def test_a_grid_run_again_still_says_what_its_passes_took(tiny, runs):
    def seconds(finished):
        rows = pq.read_table(finished.folder / "jobs.parquet").to_pylist()
        return {r["digest"]: r["seconds"] for r in rows if r["kind"] == "forward"}

    tiny["conditions"] = [{"shift": "fog", "severity": 2.5}]
    first = runs(tiny)
    before = seconds(first)
    again = seconds(runs(tiny, out=first.folder))
    assert sum(value > 0 for value in before.values()) >= 1
    assert all(again[digest] == value for digest, value in before.items() if digest in again and value > 0)

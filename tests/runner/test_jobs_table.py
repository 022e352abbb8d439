"""jobs.parquet gathers what the jobs of a run folder took; a rerun that finds nothing new writes nothing."""

import errno
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.errors import EnvironmentProblem
from testbed.grid.planner import plan
from testbed.runner.costs import merged
from testbed.runner.run import Settings, run_plan
from testbed.types import JOBS, JOBS_VERSION, arrow_schema


def table(*rows):
    filled = [dict.fromkeys(JOBS) | row for row in rows]
    return pa.Table.from_pylist(filled, schema=arrow_schema(JOBS, JOBS_VERSION))


def test_rows_are_merged_by_what_ran(tmp_path):
    path = tmp_path / "jobs.parquet"
    ran = {"status": "done", "seconds": 2.0, "forwards": 10, "host": "a"}
    earlier = [{"digest": d, **ran} for d in ("other", "x", "y", "step")]
    lost = [{"digest": d, "status": "failed", "error": "bad"} for d in ("mended", "old failure", "again")]
    pq.write_table(table(*earlier, *lost), path)
    not_run = {"status": "cached", "seconds": 0.0, "forwards": 0}
    now = table(
        {"digest": "x", **not_run},
        {"digest": "y", "status": "done", "seconds": 3.0, "forwards": 10},
        {"digest": "mended", **not_run},
        {"digest": "again", "status": "failed", "error": "worse"},
        {"digest": "new", **not_run},
    )
    rows = merged(now, path, planned=["new", "x", "step", "y", "mended", "again"]).to_pylist()
    found = {row["digest"]: row for row in rows}

    assert (found["x"]["status"], found["x"]["seconds"], found["x"]["forwards"]) == ("done", 2.0, 10)
    assert found["y"]["seconds"] == 3.0  # it ran again
    assert found["step"]["seconds"] == 2.0  # this run did not ask for it
    assert found["mended"]["status"] == "cached" and found["again"]["error"] == "worse"
    assert found["other"]["seconds"] == 2.0  # of an earlier plan in this folder
    assert [row["digest"] for row in rows] == ["new", "x", "step", "y", "mended", "again", "other"]


def test_a_first_run_or_a_damaged_file_changes_nothing(tmp_path):
    now = table({"digest": "x", "status": "cached", "seconds": 0.0})
    assert merged(now, tmp_path / "absent.parquet") == now
    (tmp_path / "jobs.parquet").write_bytes(b"PAR1 not")
    assert merged(now, tmp_path / "jobs.parquet") == now
    pq.write_table(pa.table({"foreign": [1]}), tmp_path / "jobs.parquet")
    assert merged(now, tmp_path / "jobs.parquet") == now


def files(folder):
    """Bytes and time of change of all files, but the log of the last run."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "events.jsonl"
    }


def test_a_rerun_that_finds_nothing_new_writes_nothing(tiny, runs):
    first = runs(tiny, page=True)
    before = files(first.folder)
    rows = pq.read_table(first.folder / "jobs.parquet").to_pylist()
    again = runs(tiny, out=first.folder, page=True)

    assert {r["status"] for r in rows} <= {"done", "cached"} and sum(r["forwards"] for r in rows) >= 0
    assert {"results.parquet", "jobs.parquet", "report.html", ".made.json"} <= before.keys()
    assert files(first.folder) == before
    assert again.outcome.ok and again.table == first.table


def test_a_table_that_somebody_changed_is_made_again_and_the_others_stay(tiny, runs):
    first = runs(tiny)
    before = files(first.folder)
    (first.folder / "results.parquet").write_bytes(b"not a table")
    runs(tiny, out=first.folder)
    after = files(first.folder)

    assert after["results.parquet"][0] == before["results.parquet"][0]
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"results.parquet", ".made.json"}


def test_a_grid_that_shrinks_and_grows_again_keeps_what_its_jobs_took(tiny, runs_alone):
    runs = runs_alone
    whole = runs(tiny)
    took = {r["digest"]: r["seconds"] for r in pq.read_table(whole.folder / "jobs.parquet").to_pylist()}
    attack = tiny["conditions"].pop()
    small = runs(tiny, out=whole.folder)
    tiny["conditions"].append(attack)
    again = runs(tiny, out=whole.folder)
    found = {r["digest"]: r for r in pq.read_table(again.folder / "jobs.parquet").to_pylist()}

    assert len(small.table) < len(again.table) == len(whole.table)
    assert {digest: row["seconds"] for digest, row in found.items()} == took
    assert {row["status"] for row in found.values()} == {"done"}


def test_a_new_condition_leaves_the_parts_of_samples_that_are_there(tiny, runs):
    first = runs(tiny)
    before = {p.read_bytes(): p.stat().st_mtime_ns for p in (first.folder / "samples.parquet").iterdir()}
    tiny["conditions"].insert(1, {"shift": "fog", "severity": 2.5})
    runs(tiny, out=first.folder)
    parts = sorted((first.folder / "samples.parquet").iterdir())
    after = {p.read_bytes(): p.stat().st_mtime_ns for p in parts}

    assert len(parts) == len(before) + 1 and before.items() <= after.items()
    labels = [pq.read_table(p)["condition"][0].as_py() for p in parts]
    assert labels == ["clean", "fog s2.5", "fgsm linf 0.1"]


def test_a_rerun_of_a_finished_grid_imports_neither_torch_nor_ray(tiny, runs, run_python):
    """Both runs are processes of their own: this one's packages may be others, for what tests put on the path.

    The rerun names Ray: one that names serial would import no ray whatever it did.
    """
    grid, folder = runs.write(tiny), runs.folder / "again"
    command = ["run", str(grid), "--out", str(folder), "--store", str(runs.store), "--executor"]
    code = """
import sys
from testbed.cli import main
try:
    main({})
except SystemExit as end:
    assert not end.code, end.code
print("imported:", sorted(set(("torch", "ray", "pyarrow", "jinja2")) & set(sys.modules)))
"""
    first, second = (run_python(code.format([*command, executor])) for executor in ("serial", "ray"))
    assert first.returncode == 0 and "'pyarrow'" in first.stdout, first.stdout + first.stderr
    assert second.returncode == 0 and "imported: []" in second.stdout, second.stdout + second.stderr


def test_runs_that_write_one_folder_at_a_time_leave_whole_tables(tiny, runs):
    """Each writes under names of its own and moves; the last one's stay, and none falls over another's."""
    first = runs(tiny)
    planned = plan(runs.write(tiny))

    def again(number):
        (first.folder / "results.parquet").unlink(missing_ok=True)  # so that each has something to write
        return run_plan(planned, Settings(out=first.folder, store=str(runs.store), executor="serial", page=False))

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(again, range(8)))

    assert all(one.outcome.ok and one.cause is None for one in ended)
    assert pq.read_table(first.folder / "results.parquet") == first.table
    assert [p.name for p in sorted(first.folder.glob(".*"))] == [".made.json"]
    assert len(list((first.folder / "samples.parquet").iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_a_clear_error(tiny, runs, monkeypatch):
    first = runs(tiny)
    (first.folder / "results.parquet").unlink()

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(EnvironmentProblem, match=r"cannot write the run folder .*No space left.*--out"):
        runs(tiny, out=first.folder)

"""Reading a run folder: parts, runs in progress, damage, old mistakes."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.cli import app, guarded
from testbed.errors import DataError, UsageError
from testbed.report.load import find_run, read_run
from testbed.report.page import page
from testbed.report.payload import read_events
from testbed.report.selection import selections


def test_a_folder_of_part_files_reads_like_one_file(write_run, tmp_path) -> None:
    folder = write_run(tmp_path / "r", images=False)
    one = read_run(folder).select("SELECT * FROM samples ORDER BY ALL")
    table = pq.read_table(folder / "samples.parquet")
    (folder / "samples.parquet").unlink()
    (folder / "samples.parquet").mkdir()
    for part in range(3):
        pq.write_table(
            table.slice(part * 1000, 1000 if part < 2 else None), folder / "samples.parquet" / f"part-{part}.parquet"
        )
    assert read_run(folder).select("SELECT * FROM samples ORDER BY ALL") == one


def test_a_run_that_has_only_begun_has_empty_tables(tmp_path) -> None:
    (tmp_path / "plan.json").write_text('{"name": "young"}')
    (tmp_path / "samples.parquet").mkdir()
    run = read_run(tmp_path)
    assert run.name == "young" and run.rows == []
    assert run.select("SELECT * FROM samples") == [] == run.select("SELECT started FROM jobs")


def test_a_quote_in_a_path_is_no_sql(write_run, tmp_path) -> None:
    assert read_run(write_run(tmp_path / "it's", images=False)).rows


def test_a_file_inside_a_run_names_the_run(synthetic_run) -> None:
    assert find_run(synthetic_run / "results.parquet") == synthetic_run


def test_a_damaged_table_is_named(write_run, tmp_path) -> None:
    folder = write_run(tmp_path / "r", images=False)
    (folder / "results.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read"):
        _ = read_run(folder).rows


def test_a_damaged_plan_is_named(write_run, tmp_path) -> None:
    folder = write_run(tmp_path / "r", images=False)
    (folder / "plan.json").write_text("{")
    with pytest.raises(DataError, match=r"plan\.json: not JSON"):
        read_run(folder)


def test_the_newest_run_is_found(write_run, tmp_path) -> None:
    import os

    for age, name in ((100, "old"), (0, "new")):
        folder = write_run(tmp_path / name, images=False)
        os.utime(folder / "plan.json", (1e9 - age, 1e9 - age))
    assert find_run(None, tmp_path).name == "new"


def test_nothing_there_is_a_usage_error(tmp_path) -> None:
    with pytest.raises(UsageError, match="no run here"):
        find_run(tmp_path)


def test_rows_are_in_file_order(synthetic_run) -> None:
    table = pq.read_table(synthetic_run / "results.parquet").to_pylist()
    rows = [{name: row[name] for name in table[0]} for row in read_run(synthetic_run).rows]
    assert json.dumps([row | {"condition_id": None} for row in rows]) == json.dumps(table)


def test_tables_of_an_earlier_version_open(synthetic_run, tmp_path) -> None:
    """Without the columns that came later: conditions are told by what the other columns say of them."""
    for name in ("results", "samples", "jobs"):
        table = pq.read_table(synthetic_run / f"{name}.parquet")
        later = {"condition_id", "metric_params", "model"} if name == "jobs" else {"condition_id", "metric_params"}
        pq.write_table(table.drop_columns(later & set(table.column_names)), tmp_path / f"{name}.parquet")
    (tmp_path / "plan.json").write_text((synthetic_run / "plan.json").read_text())
    old = read_run(tmp_path)
    assert {row["label"] for row in old.rows} == {"clean", "fog s1", "fog s3", "fog s5",
                                                  "pgd linf 0.1", "pgd linf 0.2", "pgd linf 0.3"}  # fmt: skip
    assert len({row["condition_id"] for row in old.rows}) == 7
    assert old.select("SELECT count(*) AS n FROM results WHERE metric_params IS NULL")[0]["n"] == len(old.rows)
    assert page(old).count("pgd linf 0.2") > 0 and len(selections(old, 50)) == 1


@pytest.mark.parametrize("name", ["a [1]", "all*", "who?", "it's"])
@pytest.mark.parametrize("parts", [False, True])
def test_a_folder_may_have_any_name(synthetic_run, tmp_path, name, parts):
    folder = tmp_path / name
    shutil.copytree(synthetic_run, folder)
    shutil.copytree(synthetic_run, tmp_path / "a 1")  # what a pattern would find
    if parts:
        (folder / "samples.parquet").rename(folder / "whole")
        (folder / "samples.parquet").mkdir()
        (folder / "whole").rename(folder / "samples.parquet" / "part-00000.parquet")
    run, plain = read_run(folder), read_run(synthetic_run)

    assert run.rows == plain.rows
    assert run.select("SELECT count(*) AS n FROM samples") == plain.select("SELECT count(*) AS n FROM samples")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.parquet", b"PAR1 damaged"),
        ("results.parquet", None),
        ("samples.parquet", None),
        ("jobs.parquet", None),
        ("plan.json", b"\xff\xfe"),
        ("plan.json", b"[1]"),
        ("plan.json", b"{"),
        ("images/index.json", b"{}"),
        ("images/index.json", b"[{}]"),
        ("images/index.json", b"nothing"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(synthetic_run, tmp_path, name, content, capsys):
    folder = tmp_path / "run"
    shutil.copytree(synthetic_run, folder)
    if content is None:
        pq.write_table(pa.table({"foreign": [1]}), folder / name)
    else:
        (folder / name).write_bytes(content)

    assert guarded(lambda: app(args=["report", str(folder)], prog_name="testbed")) == 1
    said = capsys.readouterr().err
    assert name in said and "run the grid again" in said and "internal" not in said


def test_events_that_were_cut_short_are_no_events(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text('{"event": "planned", "total": 2}\n{"event": "fini\n[1]\n{"event": "ended"}\n{"event"')
    assert [event["event"] for event in read_events(file)] == ["planned", "ended"]

"""Reading a run folder: parts, runs in progress, damage, old mistakes."""

import json

import pyarrow.parquet as pq
import pytest

from testbed.errors import DataError, UsageError
from testbed.report.load import find_run, read_run


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
    assert json.dumps(read_run(synthetic_run).rows) == json.dumps(table)

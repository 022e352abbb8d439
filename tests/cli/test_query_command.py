"""`testbed query`: SQL over a run, as a table, CSV or JSON."""

import csv
import io
import json
import math
import shutil

import pytest


def test_counts_match_the_tables(testbed_command, synthetic_run) -> None:
    counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name[0]}" for name in ("results", "samples", "jobs"))
    rows = json.loads(testbed_command("query", f"SELECT {counts}", synthetic_run, "--json").out)
    # 2 models x 7 conditions x 3 calibrators x 3 metrics, and 13 sound sets x 2 detectors x 2 OOD sets x 2 metrics
    assert rows == [{"r": 2 * 7 * 9 + 13 * 8, "s": 13 * 200 + 4 * 200, "j": 14}]


def test_csv_reads_back(testbed_command, synthetic_run) -> None:
    ended = testbed_command(
        "query", "SELECT model, condition, eps FROM results WHERE kind = 'attack' LIMIT 2", synthetic_run, "--csv"
    )
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [row["condition"] for row in rows] == ["pgd", "pgd"] and rows[0]["eps"] == "0.1"


def test_json_has_no_nan(testbed_command, synthetic_run) -> None:
    ended = testbed_command(
        "query", "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b, NULL AS c, 0.5::DOUBLE AS d", synthetic_run, "--json"
    )
    assert json.loads(ended.out, parse_constant=lambda text: math.nan) == [{"a": None, "b": None, "c": None, "d": 0.5}]


def test_piped_table_is_as_wide_as_it_needs(testbed_command, synthetic_run) -> None:
    ended = testbed_command("query", "SELECT * FROM results LIMIT 1", synthetic_run)
    assert ended.code == 0
    head = ended.out.splitlines()[1]
    assert all(name in head for name in ("protocol", "ood_condition", "digest"))
    assert ended.out.rstrip().endswith("1 row")


def test_times_are_utc_without_a_zone_library(testbed_command, synthetic_run) -> None:
    ended = testbed_command("query", "SELECT typeof(started) AS t FROM jobs LIMIT 1", synthetic_run, "--json")
    assert json.loads(ended.out) == [{"t": "TIMESTAMP"}]


@pytest.mark.parametrize("sql", ["SELECT nope FROM results", "SELEC 1", "SELECT * FROM nowhere"])
def test_wrong_sql_is_wrong_usage(testbed_command, synthetic_run, sql) -> None:
    ended = testbed_command("query", sql, synthetic_run)
    assert ended.code == 2 and ended.err.startswith("error: SQL: ")


def test_two_formats_are_refused(testbed_command, synthetic_run) -> None:
    assert testbed_command("query", "SELECT 1", synthetic_run, "--csv", "--json").code == 2


def test_no_run_says_what_to_do(testbed_command, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = testbed_command("query", "SELECT 1")
    assert ended.code == 2 and "testbed run" in ended.err


def test_the_newest_run_is_the_default_and_names_work(testbed_command, write_run, tmp_path, monkeypatch) -> None:
    write_run(tmp_path / "runs" / "one", images=False)
    monkeypatch.chdir(tmp_path)
    assert testbed_command("query", "SELECT 1").code == 0
    assert testbed_command("query", "SELECT 1", "one").code == 0
    ended = testbed_command("query", "SELECT 1", "onee")
    assert ended.code == 2 and "did you mean 'one'" in ended.err


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT * FROM read_text('{other}')", "--external"),
        ("SELECT * FROM read_csv('{other}')", "--external"),
        ("SELECT * FROM '{other}'", "--external"),
        ("SELECT * FROM glob('{folder}/*')", "--external"),
        ("SELECT * FROM read_text('{run}/plan.json')", "--external"),
        ("COPY (SELECT 1) TO '{folder}/new.csv'", "expected SELECT, got COPY"),
        ("COPY (SELECT 1) TO '{run}/results.parquet'", "expected SELECT, got COPY"),
        ("ATTACH '{folder}/new.db' AS d", "expected SELECT, got ATTACH"),
        ("INSTALL httpfs", "expected SELECT, got"),
        ("LOAD httpfs", "expected SELECT, got"),
        ("SET enable_external_access = true", "expected SELECT, got SET"),
        ("SELECT 1; COPY (SELECT 1) TO '{folder}/new.csv'", "expected SELECT, got COPY"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/new.csv'", ""),
        ("SELECT * FROM 'https://localhost:9/a.csv'", "--external"),
        ("SELECT 1; SELECT 2", "expected one SELECT, got 2"),
        (" ", "expected one SELECT, got 0"),
    ],
)
def test_a_query_reads_the_run_and_nothing_else(testbed_command, synthetic_run, tmp_path, sql, says) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a\nhunter2\n")
    held = (synthetic_run / "results.parquet").stat()
    ended = testbed_command("query", sql.format(other=other, folder=tmp_path, run=synthetic_run), synthetic_run)
    assert ended.code == 2 and says in ended.err and "hunter2" not in ended.out + ended.err
    assert list(tmp_path.iterdir()) == [other]
    assert (synthetic_run / "results.parquet").stat() == held


def test_external_opens_a_query(testbed_command, synthetic_run, tmp_path) -> None:
    (tmp_path / "other.csv").write_text("a\nhere\n")
    sql = f"SELECT a FROM read_csv('{tmp_path}/other.csv')"
    assert json.loads(testbed_command("query", sql, synthetic_run, "--external", "--json").out) == [{"a": "here"}]


def test_a_table_in_parts_can_be_queried(testbed_command, synthetic_run, tmp_path, monkeypatch) -> None:
    run = tmp_path / "a [1]*"
    shutil.copytree(synthetic_run, run)
    held = run / "samples.parquet"
    if held.is_file():
        held.rename(run / "part")
        held.mkdir()
        (run / "part").rename(held / "0.parquet")
    monkeypatch.chdir(tmp_path)
    for named in (run, "a [1]*"):
        ended = testbed_command("query", "SELECT count(*) AS n FROM samples", named, "--json")
        assert json.loads(ended.out) == [{"n": 17 * 200}]

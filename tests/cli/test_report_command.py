"""`testbed report`: the page or the tables, and what goes with what."""

import shutil

import pytest


def test_page_is_written_and_named(testbed_command, synthetic_run, tmp_path) -> None:
    ended = testbed_command("report", synthetic_run, "--out", tmp_path / "deep" / "page.html")
    assert ended.code == 0 and ended.out.strip() == str(tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(("table", "mark"), [("terminal", "model"), ("markdown", "| model |"), ("latex", "\\toprule")])
def test_tables_go_to_stdout(testbed_command, synthetic_run, tmp_path, table, mark) -> None:
    own = shutil.copytree(synthetic_run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    ended = testbed_command("report", own, "--table", table)
    assert ended.code == 0 and mark in ended.out
    assert not (own / "report.html").exists()


@pytest.mark.parametrize(
    "more",
    [["--table", "latex", "--live"], ["--table", "latex", "--out", "x"], ["--live", "--out", "x"], ["--table", "pdf"]],
)
def test_what_does_not_go_together_is_wrong_usage(testbed_command, synthetic_run, more) -> None:
    assert testbed_command("report", synthetic_run, *more).code == 2


def test_an_unwritable_place_is_an_environment_problem(testbed_command, synthetic_run, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    ended = testbed_command("report", synthetic_run, "--out", tmp_path / "file" / "page.html")
    assert ended.code == 3 and "--out" in ended.err

"""The example of docs/data.md: two systems of which only the outputs are known."""

import re
from pathlib import Path

import pyarrow.parquet as pq
from typer.testing import CliRunner

from testbed.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8").partition("## Outputs without")[2]


def test_the_files_and_the_grid_of_the_page_run_and_make_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TESTBED_STORE", str(tmp_path / "store"))
    exec(re.search(r"```python\n(.*?)```", PAGE, re.S)[1], {})
    Path("vendors.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.S)[1], encoding="utf-8")

    done = CliRunner().invoke(app, ["run", "vendors.yaml", "--out", "run", "--executor", "serial"])

    assert done.exit_code == 0, done.output
    rows = pq.read_table("run/results.parquet").to_pylist()
    assert {row["model"] for row in rows} == {"vendor_a", "the other"}
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["n"] for row in rows if row["metric"] == "accuracy"} == {250}
    accuracy = {row["model"]: row["value"] for row in rows if row["metric"] == "accuracy"}
    assert accuracy["vendor_a"] > accuracy["the other"]
    assert "vendor_a" in Path("run/report.html").read_text(encoding="utf-8")

    compared = ["compare", "run", "run", "--store", "store", "--before", "model=the other", "--after", "model=vendor_a"]
    shown = CliRunner().invoke(app, compared)
    assert shown.exit_code == 0
    assert "0 of 8 significantly worse" in shown.output

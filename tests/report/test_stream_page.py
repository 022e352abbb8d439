"""The page of a stream: all of its data inside, thinned where the stream is long, and nothing fetched."""

import io
import json
import re
import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from testbed.cli import app, guarded
from testbed.errors import UsageError
from testbed.report import stream
from testbed.report.stream import read_stream
from testbed.report.stream_page import segments, stream_payload, write_stream_page
from testbed.report.stream_terminal import show_stream
from testbed.types import STREAM, STREAM_VERSION, arrow_schema

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NAME = "</script><script>alert(1)</script>"


def row(step, scope, **more):
    given = {"run": "s", "dataset": "digits", "model": "net", "seed": 0, "step": step, "segment": 0, "scope": scope}
    return {**dict.fromkeys(STREAM), **given, "condition": "clean", "value": 0.5, "n": 10, **more}


@pytest.fixture
def folder(tmp_path):
    rows = [row(i, "rolling", calibrator=NAME, metric="ece", ci_low=0.4, ci_high=0.6) for i in range(1, 1001)]
    rows += [row(i, "drift", detector="ks", metric="p_value", alarm=False) for i in range(100, 1001, 100)]
    rows += [row(500, "episode", detector="ks", metric="delay", value=float("nan"), event="missed")]
    measures = ("accuracy", "ece", "nll", "coverage", "coverage_adaptive", "set_size_adaptive")
    rows += [row(1000, "segment", calibrator=NAME, metric=metric, n=1000) for metric in measures]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(STREAM, STREAM_VERSION))
    pq.write_table(table, tmp_path / "stream.parquet")
    asked = {"label_delay": 3, "rollback": None, "rolling": {"window": 10}, "conformal": {"alpha": 0.1}}
    plan = {"name": "my <stream>", "grid": {"stream": asked}, "provenance": {}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    return tmp_path


def test_a_page_is_one_file_that_fetches_nothing(folder):
    path = write_stream_page(read_stream(folder))
    text = path.read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert path.name == "monitor.html"
    assert "<title>my &lt;stream&gt; · testbed</title>" in text
    assert "alert(1)</script>" not in text
    assert data["rolling"][0]["calibrator"] == NAME
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_a_long_stream_is_thinned_evenly_and_its_events_are_not(folder, monkeypatch):
    monkeypatch.setattr(stream, "MOST_POINTS", 100)
    data = stream_payload(read_stream(folder))
    assert [r["step"] for r in data["rolling"]] == list(range(10, 1001, 10))
    assert len(data["drift"]) == 10 and len(data["events"]) == 1
    assert "value" not in data["events"][0]
    json.dumps(data, allow_nan=False)


def test_segments_know_where_drift_is():
    titles = ["clean", "clean, 40% wrong labels", "fog s3 mixed into clean", "clean mixed into fog s3", "clean, dark"]
    rows = [row(10 * (i + 1), "segment", segment=i, condition=title) for i, title in enumerate(titles)]
    assert [s["drifted"] for s in segments(rows)] == [False, False, True, True, True]
    assert [(s["first"], s["last"]) for s in segments(rows)] == [(10 * i, 10 * i + 10) for i in range(5)]


def test_report_and_query_know_a_stream(folder, capsys):
    def ended(*given):
        return guarded(lambda: app(args=[*map(str, given)], prog_name="testbed")), capsys.readouterr().out

    assert ended("report", folder) == (0, f"{folder / 'monitor.html'}\n")
    code, out = ended("report", folder, "--table", "terminal")
    assert code == 0 and "By true labels" in out
    assert ended("report", folder, "--table", "latex")[0] == 2
    assert ended("report", folder, "--weights", "equal")[0] == 2
    code, out = ended("query", "select count(*) as n from stream where scope = 'rolling'", folder, "--csv")
    assert (code, out) == (0, "n\n1000\n")


@pytest.mark.parametrize("width", [40, 160])
def test_a_piped_summary_is_not_cut(folder, width):
    """Into a pipe every number is printed whole and on one line, however narrow the console thinks it is."""
    out = io.StringIO()
    show_stream(read_stream(folder), Console(file=out, width=width))
    text = out.getvalue()
    assert "…" not in text
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if "calibrator" in line and "accuracy" in line)
    assert any(NAME in line and line.count("0.500") == 6 for line in lines[head:])


def test_a_folder_without_a_stream_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="testbed monitor STREAM"):
        read_stream(tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to draw the page with")
def test_a_browser_draws_it_and_runs_nothing_of_the_data(folder, tmp_path):
    path = write_stream_page(read_stream(folder))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=20000"]
    flags += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1600,6000"]
    done = subprocess.run([CHROMIUM, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    body = done.stdout[done.stdout.index("<body") :]
    shown = re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    assert re.findall(r'<section id="([\w-]+)"', body) == ["happened", "rolling", "drift", "numbers", "provenance"]
    assert shown.count("<svg") >= 7 and "could not be drawn" not in shown
    assert "&lt;script&gt;alert" in shown and "<script>alert" not in shown

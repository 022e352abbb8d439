"""The page: self-contained, escaped, and drawn by a real browser where there is one."""

import json
import re
import shutil
import subprocess

import pytest
import vl_convert

from testbed.report.charts import specs
from testbed.report.load import read_run
from testbed.report.page import as_json, page, write_page
from testbed.report.payload import columns, commands, payload, progress

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = "<script>alert('x')</script>"


def block(text: str) -> dict:
    """The data of a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def browsed(path, width: int, tmp_path) -> str:
    """The page as a browser leaves it."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    command = [
        CHROMIUM,
        *flags.split(),
        "--disable-component-update",
        "--disable-background-networking",
        "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [*command, f"--window-size={width},4000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


@pytest.fixture(scope="module")
def text(synthetic_run) -> str:
    return page(read_run(synthetic_run))


def test_nothing_is_fetched(text) -> None:
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)\s*=", text.split("</head>")[0])
    assert not re.search(r"@import|url\(", text.split("</style>")[0])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "http" not in policy


def test_every_row_is_in_the_page_with_its_digest(text, synthetic_run) -> None:
    data, rows = block(text), read_run(synthetic_run).rows
    assert data["rows"]["length"] == len(rows)
    digests = data["rows"]["columns"]["digest"]
    assert [digests["values"][code] for code in digests["codes"]] == [r["digest"] for r in rows]
    assert data["commands"] == {"redo": "testbed run GRID --redo", "explain": "testbed plan GRID --explain"}


def test_names_cannot_become_markup(write_run, tmp_path) -> None:
    folder = write_run(tmp_path / "r", models=(EVIL, "b"))
    (folder / "plan.json").write_text(json.dumps({"name": EVIL, "notes": [EVIL], "provenance": {EVIL: EVIL}}))
    text = page(read_run(folder))
    assert EVIL not in text
    assert block(text)["name"] == EVIL
    assert "<title>&lt;script&gt;" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to draw the page with")
def test_a_browser_draws_it_and_runs_nothing_of_the_data(write_run, tmp_path) -> None:
    folder = write_run(tmp_path / "r", models=(EVIL, "b"))
    dom = browsed(write_page(read_run(folder)), 1600, tmp_path)
    body = dom[dom.index("<body") :]
    ids = re.findall(r'<section id="([\w-]+)"', body)
    assert ids == [
        "overview",
        "curves",
        "selection",
        "reliability",
        "images",
        "detection",
        "detection-curves",
        "scores",
        "fooled",
        "numbers",
        "provenance",
    ]
    shown = re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    assert shown.count("<svg") >= 10 and "could not be drawn" not in shown
    assert "&lt;script&gt;alert" in shown and "<script>alert" not in shown
    assert shown.count('class="number failed"') >= 3 and "left the ball" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to draw the page with")
def test_an_empty_run_has_a_page(tmp_path) -> None:
    (tmp_path / "plan.json").write_text('{"name": "young"}')
    dom = browsed(write_page(read_run(tmp_path)), 420, tmp_path)
    assert "No result yet" in dom and "young" in dom


@pytest.mark.parametrize("name", specs())
def test_charts_are_vega_lite(name) -> None:
    spec = specs()[name] | {"width": 300}
    assert vl_convert.vegalite_to_vega(spec)["$schema"].startswith("https://vega.github.io/schema/vega/")


def test_json_in_a_script_element_cannot_end_it() -> None:
    value = {"a": "</script><!-- & \u2028"}
    assert "<" not in as_json(value) and json.loads(as_json(value)) == value


def test_columns_keep_types_and_spell_what_is_not_finite() -> None:
    rows = [{"a": None, "b": float("nan"), "c": 1}, {"a": "x", "b": 0.123456789, "c": 2}]
    found = columns(rows, ["a", "b", "c"])["columns"]
    assert found["a"] == {"values": [None, "x"], "codes": [0, 1]}
    assert found["b"] == {"values": ["NaN", 0.123457]} and found["c"] == {"values": [1, 2]}


def test_a_grid_with_a_space_is_quoted() -> None:
    assert commands({"file": "my grid.yaml"})["redo"] == "testbed run 'my grid.yaml' --redo"


def test_payload_is_json_without_nan(synthetic_run) -> None:
    json.dumps(payload(read_run(synthetic_run)), allow_nan=False)


def test_progress_follows_the_events(tmp_path) -> None:
    events = [
        {"event": "planned", "total": 3, "cached": 1},
        {"event": "started", "digest": "a", "label": "train"},
        {"event": "started", "digest": "b", "label": "attack"},
        {"event": "finished", "digest": "a", "status": "failed"},
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(e) + "\n" for e in events) + '{"event": "finis')
    assert progress(file) == {
        "total": 3,
        "cached": 1,
        "finished": 1,
        "failed": 1,
        "skipped": 0,
        "missing": 0,
        "running": ["attack"],
        "ended": False,
    }
    file.write_text(file.read_text().rpartition("\n")[0] + '\n{"event": "ended"}\n')
    assert progress(file)["ended"] and progress(file)["running"] == []
    assert progress(tmp_path / "absent")["total"] == 0

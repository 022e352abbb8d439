"""The page of a replayed stream: monitor.html, one file that opens offline, in the style of a run's page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.report.page import filled, put
from testbed.report.stream import Row, StreamRun
from testbed.report.stream_charts import stream_specs

SCRIPTS = ("base.js", "charts.js", "stream.js")

#: Rolling measures on the page, in order, with their titles.
MEASURES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "ece": "ECE",
    "nll": "NLL, nats",
    "coverage": "coverage of split conformal sets",
    "coverage_adaptive": "coverage of adaptive conformal sets",
    "set_size_adaptive": "size of adaptive conformal sets",
}

#: Columns of a row that the page needs.
KEPT = ("step", "segment", "condition", "scope", "calibrator", "detector", "metric", "convention", "value", "ci_low",
        "ci_high", "n", "alarm", "event")  # fmt: skip


def write_stream_page(run: StreamRun, path: Path | None = None) -> Path:
    """Write the page (default: monitor.html in the run's folder)."""
    return put(path or run.folder / "monitor.html", stream_page(run))


def stream_page(run: StreamRun) -> str:
    """The page as text."""
    return filled(run.name, stream_payload(run), SCRIPTS, ("style.css", "stream.css"))


def stream_payload(run: StreamRun) -> dict[str, Any]:
    """The JSON object of the page."""
    stream = run.stream
    return {
        "name": run.name,
        "rows": {"length": 0, "columns": {}},
        "measures": MEASURES,
        "segments": segments(run.summary),
        "rolling": plain(run.over_time("rolling", list(MEASURES))),
        "drift": plain(run.over_time("drift", ["p_value"])),
        "events": plain(run.events),
        "summary": plain(run.summary),
        "settings": {key: stream.get(key) for key in ("batch", "label_delay", "conformal", "rolling", "rollback")}
        | {"level": (stream.get("drift") or {}).get("level"), "window": (stream.get("drift") or {}).get("window")},
        "named": {key: run.summary[0][key] for key in ("dataset", "model", "train_seed", "seed")},
        "provenance": dict(run.plan.get("provenance") or {}),
        "file": str(run.plan.get("file") or ""),
        "specs": stream_specs(),
    }


def segments(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """First and last step and title of each segment, and whether anything but clean data comes in it.

    >>> row = {"scope": "segment", "segment": 0, "step": 10, "condition": "clean", "n": 10}
    >>> segments([row])
    [{'first': 0, 'last': 10, 'title': 'clean', 'drifted': False}]
    """
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["scope"] == "segment" and row["segment"] not in found:
            title = row["condition"]
            drifted = re.fullmatch(r"clean(, \d+% wrong labels)?", title) is None
            found[row["segment"]] = {
                "first": row["step"] - row["n"], "last": row["step"], "title": title, "drifted": drifted,
            }  # fmt: skip
    return list(found.values())


def plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows with what the page needs: six digits, no NaN, nothing that is None."""
    return [{key: _short(row[key]) for key in KEPT if _short(row[key]) is not None} for row in rows]


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value

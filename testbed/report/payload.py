"""Everything the page shows, as one JSON object; the page's script only filters and draws.

Rows are stored by column, texts once each. Numbers keep six digits; one that is not finite is a text ("NaN"), since
JSON has no word for it.
"""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.condition import family, label
from testbed.report.charts import specs
from testbed.report.doubt import DOUBT, SAYS, doubts
from testbed.report.fooled import what_fooled
from testbed.report.images import read_strip
from testbed.report.load import Run
from testbed.report.model_notes import model_notes
from testbed.report.reliability import reliability
from testbed.report.scores import score_charts
from testbed.report.selection import page_tables
from testbed.report.table import ood_label, too_small
from testbed.types import REGRESSIONS, RESULTS

#: Pairs of images a (model, condition), and in the whole page: a page must stay small enough to mail.
MOST_A_CONDITION, MOST_IMAGES = 8, 480
#: Changes by calibrators in the page; all are in regressions.parquet.
MOST_REGRESSIONS = 3000


def payload(run: Run, live: bool = False) -> dict[str, Any]:
    """The JSON object of the page of a run; `live` makes the page look for a newer one."""
    charts, left_out = score_charts(run)
    return {
        "name": run.name,
        "live": live,
        "rows": columns(
            [{**row, **labels(row)} for row in run.rows], (*RESULTS, "label", "over", "family", "doubts", "small")
        ),
        "reliability": reliability(run),
        "selection": page_tables(run),
        "doubt": {"mark": DOUBT, "says": SAYS},
        "scores": {"charts": charts, "left_out": left_out},
        "regressions": regressions(run),
        "fooled": what_fooled(run),
        "images": images(run),
        "jobs": dict(Counter(row["status"] for row in run.own_jobs())),
        "progress": progress(run.folder / "events.jsonl"),
        "commands": commands(run.plan),
        "notes": [*(run.plan.get("notes") or ()), *model_notes(run.rows)],
        "provenance": dict(run.plan.get("provenance") or {}),
        "specs": specs(),
    }


def regressions(run: Run) -> dict[str, Any]:
    """What calibrators changed, as the page shows it: whole sets, and of their parts what changed significantly."""
    found = run.select(
        "SELECT * FROM regressions WHERE part = 'all' OR verdict IN ('better', 'worse') ORDER BY silent DESC, p_holm"
    )
    shown = [{**row, "label": run.labels.get(row["condition_id"]) or label(row)} for row in found[:MOST_REGRESSIONS]]
    families = run.select(
        "SELECT part = 'all' AS whole, count(*) AS size, count(*) FILTER (verdict = 'too few to tell') AS few "
        "FROM regressions GROUP BY 1 ORDER BY 1 DESC"
    )
    left = len(found) - len(shown)
    return {"rows": columns(shown, (*REGRESSIONS, "label")), "left_out": left, "families": families}


def labels(row: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for a row's condition and OOD set wherever the page names them, and the curve it is a point of."""
    over = ood_label(row) if row.get("ood_set") is not None else None
    return {
        "label": label(row),
        "over": over,
        "family": family(row),
        "doubts": "\n".join(doubts(row)) or None,
        "small": too_small(row),
    }


def columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The rows by column: a column of texts as its distinct values and an index into them, another as its values.

    >>> columns([{"a": "x", "b": 1.0}, {"a": "x", "b": None}], ["a", "b"])
    {'length': 2, 'columns': {'a': {'values': ['x'], 'codes': [0, 0]}, 'b': {'values': [1.0, None]}}}
    """
    found: dict[str, Any] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, str) for value in values):
            distinct = list(dict.fromkeys(values))
            place = {value: i for i, value in enumerate(distinct)}
            found[name] = {"values": distinct, "codes": [place[value] for value in values]}
        else:
            found[name] = {"values": [_short(value) for value in values]}
    return {"length": len(rows), "columns": found}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else {"nan": "NaN", "inf": "∞", "-inf": "−∞"}[str(value)]


def images(run: Run) -> dict[str, Any]:
    """The strip of clean and perturbed images: its rows, each file once as a data URI, and how many were left out."""
    shown: Counter[tuple[str, str]] = Counter()
    rows: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    folder = run.folder / "images"
    all_rows = read_strip(folder)
    for row in all_rows:
        row["condition"] = run.labels.get(row.get("condition_id", ""), row["condition"])
        key = (row["model"], row["condition"])
        if shown[key] < MOST_A_CONDITION and len(rows) < MOST_IMAGES:
            shown[key] += 1
            rows.append(row)
            for role in ("clean", "perturbed"):
                files.setdefault(row[role], data_uri(folder, row[role]))
    return {"rows": rows, "files": files, "left_out": len(all_rows) - len(rows)}


def data_uri(folder: Path, name: str) -> str:
    """A PNG file of `folder` as a data URI; an empty text where the file is not there or not in the folder."""
    path = folder / name
    if Path(name).name != name or not path.is_file():
        return ""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def progress(events: Path) -> dict[str, Any]:
    """How far a run is, from the events it appends: total, cached, finished and running jobs, and whether it ended."""
    counts = {"cached": 0, "finished": 0, "failed": 0, "skipped": 0, "missing": 0}
    found: dict[str, Any] = {"total": 0, **counts, "running": [], "ended": False}
    running: dict[str, str] = {}
    for event in read_events(events):
        name = event.get("event")
        if name == "planned":
            found |= {**counts, "total": event.get("total", 0), "cached": event.get("cached", 0), "ended": False}
            running.clear()
        elif name == "started":
            running[event.get("digest", "")] = event.get("label", "")
        elif name == "finished":
            running.pop(event.get("digest", ""), None)
            status = event.get("status")
            found["finished"] += status != "missing"
            found["failed"] += status in ("failed", "timeout")
            found["skipped"] += status == "skipped"
            found["missing"] += status == "missing"
        elif name == "ended":
            found["ended"] = True
            running.clear()
    return found | {"running": list(running.values())[:8]}


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events appended so far; a line that is still being written, or was cut short, is not one."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.exists() else []
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return [event for event in found if isinstance(event, dict)]


def commands(plan: Mapping[str, Any]) -> dict[str, str]:
    """What redoes a number and what explains it, ready for the digest to be appended."""
    file = str(plan.get("file") or "")
    grid = shlex.quote(file) if file.endswith((".yaml", ".yml")) else "GRID"
    return {"redo": f"testbed run {grid} --redo", "explain": f"testbed plan {grid} --explain"}

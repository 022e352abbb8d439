"""A replayed stream on one screen: calibrators by segment, detectors, and what was rolled back."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from testbed.report.stream import Row, StreamRun
from testbed.report.terminal import put

#: Measures of the summary, how they are headed, and whether there is room for their interval.
SHOWN = {
    "accuracy": ("accuracy", True), "ece": ("ece", True), "nll": ("nll", True), "coverage": ("coverage\nsplit", False),
    "coverage_adaptive": ("coverage\nadaptive", True), "set_size_adaptive": ("set size\nadaptive", False),
}  # fmt: skip


def show_stream(run: StreamRun, console: Console) -> None:
    """Print the summary of a stream."""
    rows = run.summary
    put(console, calibrators(rows))
    console.print()
    put(console, detectors(rows, run.events))
    console.print()
    undone = [r for r in run.events if r["scope"] == "update" and r["alarm"]]
    counts = [r for r in rows if r["metric"] == "rollbacks"]
    for r in counts:
        console.print(f"{r['calibrator']}: {r['value']:.0f} of {r['n']} updates rolled back", markup=False)
    for r in undone[:10]:
        console.print(f"  step {r['step']}: {r['calibrator']} {r['event']}, {r['metric']} {spell(r)}", markup=False)
    if len(undone) > 10:
        console.print(f"  and {len(undone) - 10} more")
    console.print(f"every number with its interval and convention: {run.folder}/stream.parquet", markup=False)


def calibrators(rows: Sequence[Row]) -> Table:
    """One line a segment and calibrator, and the whole stream last; judged by the true labels."""
    table = _table("By true labels", ["", "calibrator"], [head for head, _ in SHOWN.values()])
    last = ""
    for (scope, segment, name), found in _groups(rows).items():
        here = "whole stream" if scope == "stream" else f"{segment + 1} {found['accuracy']['condition']}"
        cells = [spell(found[metric], wide) for metric, (_, wide) in SHOWN.items()]
        if here != last:
            table.add_row(Text(here, style="bold"))
        table.add_row("", Text(name), *cells)
        last = here
    return table


def detectors(rows: Sequence[Row], events: Sequence[Row]) -> Table:
    """One line a detector: episodes found, delays, false alarms."""
    table = _table("Drift detectors", ["detector"], ["episodes\ndetected", "mean delay\nsteps", "false alarm rate"])
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["scope"] == "detector":
            found.setdefault(row["detector"], {})[row["metric"]] = row
    for name, by in found.items():
        share, delay, false = by.get("detected"), by.get("mean_delay"), by.get("false_alarm_rate")
        table.add_row(
            name,
            f"{share['value'] * share['n']:.0f} of {share['n']}" if share else "no drift",
            f"{delay['value']:.0f}" if delay else "–",
            f"{spell(false)} n={false['n']}" if false else "no window without drift",
        )
    return table


def spell(row: Row, interval: bool = True) -> str:
    """A value with its interval.

    >>> spell({"value": 0.5, "ci_low": 0.4, "ci_high": 0.61})
    '0.500 [0.400, 0.610]'
    """
    ends = "" if row["ci_low"] is None or not interval else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    return f"{row['value']:.3f}{ends}"


def _groups(rows: Sequence[Row]) -> dict[tuple[str, int, str], dict[str, Row]]:
    found: dict[tuple[str, int, str], dict[str, Row]] = {}
    for row in rows:
        if row["scope"] in ("segment", "stream") and row["metric"] != "rollbacks":
            key = (row["scope"], -1 if row["segment"] is None else row["segment"], row["calibrator"])
            found.setdefault(key, {})[row["metric"]] = row
    return found


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table

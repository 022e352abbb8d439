"""`testbed compare`: paired comparison of two runs, to guard a deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import UsageError, nearest

if TYPE_CHECKING:
    from testbed.cli.paired import Compared
    from testbed.metrics.comparison import Difference, Threshold

#: Comparisons from which on only the significant ones are listed.
MANY = 60

HEAD = ("cell", "part", "metric", "n", "before", "after", "change", "p", "")


def compare(
    before: Annotated[Path, typer.Argument(help="Run folder.")],
    after: Annotated[Path, typer.Argument(help="Run folder; the same one to compare inside it.")],
    pick_before: Annotated[list[str] | None, typer.Option("--before", help="Which cells: calibrator=none")] = None,
    pick_after: Annotated[list[str] | None, typer.Option("--after", help="Which cells: calibrator=isotonic")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Cells of both: kind=clean, dataset=mnist5k")] = None,
    fail_on: Annotated[list[str] | None, typer.Option(help="ece:+0.01, accuracy:-0.02; may be repeated.")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="YAML: metric: change, such as ece: +0.01")] = None,
    store: Annotated[str | None, typer.Option(help="Store of both runs; default $TESTBED_STORE, else .testbed")] = None,
    store_after: Annotated[str | None, typer.Option(help="Store of the second run, where it is another.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown, for a pull request.")] = False,
) -> None:
    """Paired comparison of two runs on the same examples, with intervals and Holm-corrected tests.

    Exit code 1 where a change goes beyond a threshold and is significant (only the metrics of the thresholds are then
    compared); without thresholds, where anything got significantly worse on a whole set.
    """
    from testbed.cli.paired import WHERE, Side, compared, picks
    from testbed.report.load import read_run
    from testbed.store import Store, default_url

    limits = [*parsed(fail_on or []), *(from_file(thresholds) if thresholds else [])]
    url = store or default_url()
    both = picks(where or [], WHERE)
    first = Side(read_run(before), Store(url), picks(pick_before or []), both)
    second = Side(read_run(after), Store(store_after or url), picks(pick_after or []), both)
    known = {row["metric"] for row in first.run.rows} | {"worst_group_accuracy"}
    for limit in limits:
        if limit.metric not in known:
            raise UsageError(f"--fail-on {limit.metric}: no such metric in {before}; {nearest(limit.metric, known)}")
    found, same = compared(first, second, frozenset(limit.metric for limit in limits))
    broken = regressions(found, limits)
    write(found, same, broken, bool(limits), markdown)
    if broken:
        raise typer.Exit(1)


def parsed(texts: Sequence[str]) -> list[Threshold]:
    """Thresholds from the command line."""
    from testbed.metrics.comparison import parse_threshold

    return [parse_threshold(text) for text in texts]


def from_file(path: Path) -> list[Threshold]:
    """Thresholds from a YAML file that maps metrics to changes."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        raise UsageError(f"--thresholds {path}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(v, (int, float)) for v in found.values()):
        raise UsageError(f"--thresholds {path}: expected a mapping of metrics to changes, for example `ece: +0.01`")
    return parsed([f"{name}:{value:+}" for name, value in found.items()])


def regressions(found: Sequence[Compared], limits: Sequence[Threshold]) -> list[tuple[str, Difference]]:
    """Where and what got worse: beyond a limit, or at all where there are no limits. Whole sets only."""
    from testbed.metrics.comparison import breaches

    whole = [(one.where, d) for one in found for d in one.differences if d.part == "all"]
    if not limits:
        return [(where, d) for where, d in whole if d.verdict == "worse"]
    return [(where, d) for where, d in whole if any(breaches(limit, [d]) for limit in limits)]


def write(found: Sequence[Compared], same: int, broken: Sequence[Any], limited: bool, markdown: bool) -> None:
    """Print every part of the comparison."""
    from testbed.metrics.comparison import silent_regressions
    from testbed.report.doubt import DOUBT, NOTE

    whole = [(one.where, d) for one in found for d in one.differences if d.part == "all"]
    silent = [(one.where, d) for one in found for d in silent_regressions(one.differences)]
    put = _markdown if markdown else _terminal
    told = whole if len(whole) <= MANY else [(where, d) for where, d in whole if d.verdict != "unclear"]
    left = f" ({len(whole) - len(told)} that are not significant are left out)" if len(told) < len(whole) else ""
    put(f"Whole sets{left}", HEAD, [line(where, d) for where, d in told])
    put("Silent regressions: parts that got worse although the whole did not", HEAD, [line(w, d) for w, d in silent])
    put(
        "Changed predictions",
        ("cell", "right to wrong", "wrong to right", "wrong to wrong", "n", "p"),
        list(flipped(found)),
    )
    bar = "beyond its threshold" if limited else "significantly worse on a whole set"
    print(f"{len(found)} cells compared, {same} identical; change is after - before")
    print("p is Holm's, over all whole sets and over all parts apart")
    if any(one.where.endswith(DOUBT) for one in found):
        print(NOTE)
    print(f"{len(broken)} of {len(whole)} {bar}")
    for where, d in broken[:MANY]:
        print(f"regression: {where}: {d.metric} {d.before:.4f} -> {d.after:.4f} ({span(d)})")


def line(where: str, d: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table."""
    p = "" if d.p_holm != d.p_holm else f"{d.p_holm:.2g}"
    return (
        where,
        d.part,
        d.metric,
        str(d.n),
        f"{d.before:.4f}",
        f"{d.after:.4f}",
        span(d),
        p,
        "" if d.verdict == "unclear" else d.verdict,
    )


def span(d: Difference) -> str:
    """A change with its interval."""
    return f"{d.change:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"


def flipped(found: Sequence[Compared]) -> Iterator[tuple[str, ...]]:
    """Changed predictions of each cell that has any."""
    for one in found:
        if one.flips and (one.flips.lost or one.flips.gained or one.flips.moved):
            lost, gained, moved, n, p = one.flips
            yield (one.where, str(lost), str(gained), str(moved), str(n), f"{p:.2g}")


def _terminal(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console

    if not rows:
        print(f"{title}: none\n")
        return
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, justify="left" if name in ("cell", "part", "metric", "") else "right", overflow="fold")
    for row in rows:
        style = {"worse": "red", "better": "green"}.get(row[-1], "")
        table.add_row(*(Text(text, style=style) for text in row))
    console().print(table)
    print()


def _markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from testbed.report.markdown import escape

    print(f"### {title}\n")
    if not rows:
        print("None.\n")
        return
    for row in (head, ["---"] * len(head), *(list(map(escape, row)) for row in rows)):
        print("| " + " | ".join(row) + " |")
    print()

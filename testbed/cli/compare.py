"""`testbed compare`: paired comparison of two runs, to guard a deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import UsageError, nearest

if TYPE_CHECKING:
    from testbed.metrics.comparison import Difference, Threshold
    from testbed.results.paired import Comparison

#: Comparisons from which on only the significant ones are listed.
MANY = 60

FLIPPED = ("cell", "right to wrong", "wrong to right", "wrong to wrong", "n")
HEAD = ("cell", "part", "metric", "n", "before", "after", "change", "p", "verdict")


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
    """Paired comparison of two runs on the same examples, with intervals and tests corrected over the whole command.

    Where no difference is found, the smallest one that these examples show (power 0.8) is said beside it. Exit code 1
    where a change goes beyond a threshold and is significant (only the metrics of the thresholds are then compared);
    without thresholds, where anything got significantly worse on a whole set.
    """
    from testbed.report.load import read_run
    from testbed.results.paired import WHERE, Side, compared, picks
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
    found = compared(first, second, frozenset(limit.metric for limit in limits))
    broken = regressions(found, limits)
    write(found, broken, limits, markdown)
    if broken:
        raise typer.Exit(1)


def parsed(texts: Sequence[str]) -> list[Threshold]:
    """Thresholds from the command line."""
    from testbed.metrics.comparison import parse_threshold

    return [parse_threshold(text) for text in texts]


def from_file(path: Path) -> list[Threshold]:
    """Thresholds from a YAML file that maps metrics to changes."""
    from testbed.grid.reader import read_file
    from testbed.metrics.comparison import Threshold
    from testbed.parameters import short

    document = read_file(path, "thresholds")
    if not isinstance(document.value, dict):
        says = f"expected a mapping of metrics to changes, for example `ece: +0.01`, got {short(document.value)}"
        raise UsageError([document.problem((), says)])
    problems, found = [], []
    for name, value in document.value.items():
        if name.startswith("x-"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            says = f"expected the change that is allowed, a number such as +0.01, got {short(value)}"
            problems.append(document.problem((name,), says))
            continue
        found.append(Threshold(name, float(value)))
    if problems:
        raise UsageError(problems)
    return found


def regressions(found: Comparison, limits: Sequence[Threshold]) -> list[tuple[str, Difference]]:
    """Where and what got worse: beyond a limit, or at all where there are no limits. Whole sets only."""
    from testbed.metrics.comparison import breaches

    if not limits:
        return [(where, d) for where, d in whole(found) if d.verdict == "worse"]
    return [(where, d) for where, d in whole(found) if any(breaches(limit, [d]) for limit in limits)]


def whole(found: Comparison) -> list[tuple[str, Difference]]:
    """Every difference on a whole set, with where it is."""
    return [(one.where, d) for one in found.cells for d in one.differences if d.part == "all"]


def write(found: Comparison, broken: Sequence[Any], limits: Sequence[Threshold], markdown: bool) -> None:
    """Print every part of the comparison."""
    from testbed.metrics.comparison import silent_regressions
    from testbed.report.doubt import notes as doubt_notes

    every = whole(found)
    levels = {True: found.level(whole=True), False: found.level(whole=False)}
    silent = [(one.where, d) for one in found.cells for d in silent_regressions(one.differences)]
    put = _markdown if markdown else _terminal
    listed = every if len(every) <= MANY else [(where, d) for where, d in every if d.verdict in ("better", "worse")]
    left = f" ({len(every) - len(listed)} without a finding are left out)" if len(listed) < len(every) else ""
    put(f"Whole sets{left}", HEAD, [line(where, d, levels[True]) for where, d in listed])
    title = "Silent regressions: parts that got worse although the whole did not"
    put(title, HEAD, [line(where, d, levels[False]) for where, d in silent])
    changed = list(flipped(found))
    put("Changed predictions", FLIPPED, changed)
    for note in notes(found, limits, levels[True]):
        print(note)
    named = {where for where, _ in (*listed, *silent, *broken[:MANY])} | {where for where, *_ in changed}
    for note in doubt_notes(one.doubts for one in found.cells if one.where in named):
        print(note)
    bar = "beyond its threshold" if limits else "significantly worse on a whole set"
    print(f"{len(broken)} of {len(every)} {bar}")
    for where, d in broken[:MANY]:
        print(f"regression: {where}: {d.metric} {d.before:.4f} -> {d.after:.4f} ({span(d)})")


def notes(found: Comparison, limits: Sequence[Threshold], level: float) -> Iterator[str]:
    """What stands below the tables: families and their sizes, power against the thresholds, CPU classes."""
    yield f"{len(found.cells)} cells compared, {found.same} of one recipe; change is after - before"
    for name, one in (("whole sets", True), ("parts", False)):
        family = found.family(one)
        few = sum(d.verdict == "too few to tell" for d in family)
        yield f"family of {name}: {len(family)} tests, {few} too few to tell; p is Holm's over those that can reject"
    for limit in limits:
        for where, d in whole(found):
            if d.metric == limit.metric and d.verdict not in ("better", "worse"):
                power = chance(d, limit, level)
                yield f"{where}: a change of {limit.metric} by {limit.change:+g} is found with power {power}"
    before, after = found.classes
    if found.elsewhere:
        yield f"{found.elsewhere} of one recipe hold other bytes in the other store (another CPU rounds so): not tested"
    if before != after and before and after:
        yield f"CPU classes differ ({before}; {after}): differences of 1e-5 per example are rounding and count as none"


def chance(d: Difference, limit: Threshold, level: float) -> str:
    """The power against a threshold, in two digits."""
    power = d.power(limit.change, level)
    return "none: too few examples" if power != power else f"{power:.2f}"


def line(where: str, d: Difference, level: float) -> tuple[str, ...]:
    """A difference as the cells of a table; `level` is what its family leaves for one test."""
    return (where, d.part, d.metric, str(d.n), f"{d.before:.4f}", f"{d.after:.4f}", span(d), spelled(d.p_holm),
            told(d, level))  # fmt: skip


def spelled(p: float) -> str:
    """A p-value in two digits, empty where there is none.

    >>> spelled(0.0123), spelled(1e-40), spelled(float("nan"))
    ('0.012', '<1e-15', '')
    """
    return "" if p != p else "<1e-15" if p < 1e-15 else f"{p:.2g}"


def told(d: Difference, level: float) -> str:
    """The verdict; where nothing was found, the smallest change that as many examples show."""
    if d.verdict in ("better", "worse"):
        return d.verdict
    visible = d.visible(level)
    said = "no difference found" if d.verdict == "unclear" else d.verdict
    return said + ("" if visible != visible else f"; shows {visible:.2g}")


def span(d: Difference) -> str:
    """A change with its interval."""
    return f"{d.change:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"


def flipped(found: Comparison) -> Iterator[tuple[str, ...]]:
    """Changed predictions of each cell that has any."""
    for one in found.cells:
        if one.flips and (one.flips.lost or one.flips.gained or one.flips.moved):
            lost, gained, moved, n, _ = one.flips
            yield (one.where, str(lost), str(gained), str(moved), str(n))


def _terminal(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console
    from testbed.report.terminal import put

    if not rows:
        print(f"{title}: none\n")
        return
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(
            name, justify="left" if name in ("cell", "part", "metric", "verdict") else "right", overflow="fold"
        )
    for row in rows:
        style = {"worse": "red", "better": "green"}.get(row[-1], "")
        table.add_row(*(Text(text, style=style) for text in row))
    put(console(), table)
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

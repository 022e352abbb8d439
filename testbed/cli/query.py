"""`testbed query`: SQL over the rows of a run."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.errors import UsageError


def query(
    sql: Annotated[str, typer.Argument(help="For example: SELECT model, avg(value) FROM results GROUP BY model")],
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest under runs/ if left out.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="Let the SQL read and write other files, and load extensions.")
    ] = False,
) -> None:
    """SQL (DuckDB's) over the rows of a run: views results, samples, jobs, regressions and stream.

    It reads the tables of the run and nothing else: no other file, no server, no extension, and it changes nothing.
    """
    import duckdb

    from testbed.report.load import confined, connect, find_run

    if as_csv and as_json:
        raise UsageError("--csv and --json together: choose one")
    try:
        folder = find_run(run)
        cursor = connect(folder).execute(sql) if external else confined(folder, sql)
        names = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchall()
    except duckdb.Error as error:
        raise UsageError(f"SQL: {_reason(error)}") from None
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *([_plain(v) for v in row] for row in rows)])
    elif as_json:
        print(json.dumps([dict(zip(names, map(_finite, row), strict=True)) for row in rows], default=str, indent=1))
    else:
        _show(names, rows)


def _reason(error: Exception) -> str:
    """DuckDB's words; where they are about files or extensions, with the option that opens them."""
    closed = any(word in str(error) for word in ("Permission Error", "disabled", "extension"))
    return f"{error}" + ("\n--external lets a query reach beyond the tables of the run" if closed else "")


def _show(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table; where the window is too narrow for it, a block of `name value` lines for each row."""
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console

    texts = [[_short(value) for value in row] for row in rows]
    table = Table()
    for name in names:
        table.add_column(Text(name), no_wrap=True)
    for row in texts:
        table.add_row(*map(Text, row))
    out = console()
    need = Measurement.get(out, out.options.update(width=100_000), table).maximum
    if need <= out.width or not out.is_terminal:
        console(width=max(need, out.width)).print(table)
    else:
        longest = max(map(len, names))
        for row in texts:
            out.print(
                "\n".join(f"{name:<{longest}}  {text}" for name, text in zip(names, row, strict=True)) + "\n",
                markup=False,
            )
    print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(_plain(value))


def _plain(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, (dict, list)) else value


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: null instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

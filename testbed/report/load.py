"""A run folder as the report reads it: plan.json, and the tables through DuckDB.

DuckDB reads a parquet file or a folder of part files alike, streams samples.parquet instead of loading it, and imports
faster than pyarrow. The views are `results`, `samples`, `jobs`, `regressions` and `stream`; one that is absent has its
columns and no rows, so that a run in progress can be looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from testbed.condition import base_label, identified
from testbed.errors import DataError, UsageError, nearest
from testbed.types import JOBS, REGRESSIONS, RESULTS, SAMPLES, STREAM

TABLES: Mapping[str, Mapping[str, str]] = {
    "results": RESULTS,
    "samples": SAMPLES,
    "jobs": JOBS,
    "regressions": REGRESSIONS,
    "stream": STREAM,
}

#: Columns without which a table is not one of a run, of whatever version.
_CORE: Mapping[str, tuple[str, ...]] = {
    "results": ("dataset", "model", "condition", "metric", "value", "status"),
    "samples": ("dataset", "model", "condition", "id"),
    "jobs": ("digest", "kind", "status"),
    "regressions": ("dataset", "metric", "verdict"),
    "stream": ("step", "metric", "value"),
}

#: Where `testbed run` puts runs, and where a name without a path is looked up.
RUNS = Path("runs")

_SQL_TYPES = {
    "string": "VARCHAR", "int64": "BIGINT", "int32": "INTEGER", "float64": "DOUBLE", "float32": "FLOAT",
    "bool": "BOOLEAN", "timestamp[ms, UTC]": "TIMESTAMP",
    "map<string,int64>": "MAP(VARCHAR, BIGINT)",
    "map<string,float32>": "MAP(VARCHAR, FLOAT)", "map<string,float64>": "MAP(VARCHAR, DOUBLE)",
}  # fmt: skip


def find_run(ref: str | Path | None = None, runs: Path = RUNS) -> Path:
    """The run folder that `ref` names: a path, a file inside one, a name under `runs`, or None for the newest one."""
    if ref is None:
        found = sorted(runs.glob("*/plan.json"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise UsageError(f"no run in {runs}/; give the folder of one, or make one with `testbed run GRID`")
        return found[-1].parent
    path = Path(ref)
    path = path.parent if path.is_file() else path
    for folder in (path, runs / ref):
        if any((folder / name).exists() for name in ("plan.json", "results.parquet")):
            return folder
    known = [p.parent.name for p in runs.glob("*/plan.json")]
    hint = f"; {nearest(str(ref), known)}" if known else ""
    raise UsageError(f"{ref}: no run here (a run folder holds plan.json and results.parquet){hint}")


def connect(folder: Path) -> Any:
    """An in-memory DuckDB connection with the tables of the run as views."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET enable_progress_bar = false")  # it would be printed among the rows
    for name, columns in TABLES.items():
        file = folder / f"{name}.parquet"
        try:
            connection.execute(f"CREATE VIEW {name} AS {_select(connection, file, columns, _CORE[name])}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{file}: cannot be read ({reason}); run the grid again to rewrite it") from None
    return connection


def confined(folder: Path, sql: str) -> Any:
    """The cursor of one SELECT over the tables of a run, which can reach nothing else.

    No other file is read and none is written, no server is asked, no extension is installed or loaded, and the query
    cannot change these settings. UsageError for a statement that is no SELECT.
    """
    connection = connect(folder)
    kinds = [str(statement.type).rpartition(".")[2] for statement in connection.extract_statements(sql)]
    if other := [kind for kind in kinds if kind not in ("SELECT", "EXPLAIN")]:
        raise UsageError(f"SQL: expected SELECT, got {other[0]}; a query only reads. --external allows everything")
    if len(kinds) != 1:
        raise UsageError(f"SQL: expected one SELECT, got {len(kinds)} statements")
    tables = [folder / f"{name}.parquet" for name in TABLES]
    for setting, places in (
        ("allowed_paths", [path for path in tables if path.is_file()]),
        ("allowed_directories", [path for path in tables if path.is_dir()]),
    ):
        connection.execute(f"SET {setting} = {_texts(places)}")
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"):
        connection.execute(f"SET {setting} = false")
    connection.execute("SET lock_configuration = true")
    return connection.execute(sql)


def _texts(paths: Sequence[Path]) -> str:
    """Paths as a list of SQL, as given and absolute, and as a pattern names them, which is what DuckDB checks first."""
    both = {text for path in paths for one in (path, path.absolute()) for text in (str(one), _literally(one, one))}
    return "[" + ", ".join("'" + one.replace("'", "''") + "'" for one in sorted(both)) + "]"


def _select(connection: Any, path: Path, columns: Mapping[str, str], core: Sequence[str]) -> str:
    """The query of a view: what the files hold, and without values what an earlier version did not write.

    Raises DataError where a column of `core`, which every version wrote, is not there.
    """
    if path.is_dir():
        source = path / "**" / "*.parquet" if any(path.rglob("*.parquet")) else None
    else:
        source = path if path.exists() else None
    if source is None:
        empty = ", ".join(f'NULL::{_SQL_TYPES[kind]} AS "{name}"' for name, kind in columns.items())
        return f"SELECT {empty} WHERE false"
    quoted = _literally(path, source).replace("'", "''")
    source_sql = f"read_parquet('{quoted}', union_by_name = true, hive_partitioning = false)"
    there = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source_sql}").fetchall()}
    if lacking := [name for name in core if name not in there]:
        raise DataError(
            f"{path}: expected a table that a run wrote, got one without the columns {', '.join(lacking)}; "
            "run the grid again to rewrite it"
        )
    # A time with a zone needs a time-zone library in Python; every time here is UTC, so the zone can go.
    utc = [name for name, kind in columns.items() if "UTC" in kind and name in there]
    zoned = [f"make_timestamp(epoch_us({name})) AS {name}" for name in utc]
    replace = f" REPLACE ({', '.join(zoned)})" if zoned else ""
    added = [f'NULL::{_SQL_TYPES[kind]} AS "{name}"' for name, kind in columns.items() if name not in there]
    return f"SELECT {', '.join([f'*{replace}', *added])} FROM {source_sql}"


def _literally(path: Path, source: Path) -> str:
    """The path to read, so that a `[`, `*` or `?` in the name of a folder stands for itself.

    >>> _literally(Path("runs/a [1]*"), Path("runs/a [1]*/**/*.parquet"))
    'runs/a [[]1][*]/**/*.parquet'
    """
    escaped = "".join(f"[{c}]" if c in "[*?" else c for c in str(path))
    return escaped + str(source)[len(str(path)) :]


@dataclass(frozen=True)
class Run:
    """One run folder. `rows` are the rows of results.parquet as dicts, in file order."""

    folder: Path
    plan: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def connection(self) -> Any:
        """Views `results`, `samples`, `jobs`."""
        return connect(self.folder)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """results.parquet; each row has its condition's id, derived for files without one, and its `label`."""
        return identified(self.select("SELECT * FROM results"))

    @cached_property
    def labels(self) -> dict[str, str]:
        """condition_id -> label."""
        return {row["condition_id"]: row["label"] for row in self.rows}

    @cached_property
    def of_condition(self) -> Literal["condition_id", "condition"]:
        """The column of samples.parquet that names a condition: files of earlier versions have the label alone."""
        (named,) = self.connection.execute("SELECT count(condition_id) FROM (SELECT * FROM samples LIMIT 1)").fetchone()
        return "condition_id" if named else "condition"

    def sample_condition(self, row: Mapping[str, Any]) -> str:
        """The condition of a row of results.parquet as that column has it."""
        return str(row["condition_id"]) if self.of_condition == "condition_id" else base_label(row)

    def select(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query as dicts."""
        cursor = self.connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def own_jobs(self) -> list[dict[str, Any]]:
        """What the jobs of this run's plan took; jobs.parquet may hold others that ran into this folder."""
        own = {job.get("digest") for job in self.plan.get("jobs") or () if isinstance(job, dict)}
        rows = self.select("SELECT digest, kind, label, model, status, seconds, forwards FROM jobs")
        return [row for row in rows if not own or row["digest"] in own]

    @property
    def name(self) -> str:
        """The grid's name, or the folder's where the plan says none."""
        return str(self.plan.get("name") or self.folder.resolve().name)


def read_run(ref: str | Path | None = None) -> Run:
    """The run that `ref` names; see `find_run`."""
    folder = find_run(ref)
    file = folder / "plan.json"
    try:
        plan = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON ({error}); run the grid again to rewrite it") from None
    if not isinstance(plan, dict):
        raise DataError(
            f"{file}: expected a JSON object, got a {type(plan).__name__}; run the grid again to rewrite it"
        )
    return Run(folder, plan)

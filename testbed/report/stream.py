"""A replayed stream as the report reads it: stream.parquet through DuckDB, thinned to what a page can show.

A page has room for some hundred points a line, so of a long stream every m-th evaluation is read; summaries, episodes
and updates are all read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from testbed.errors import DataError, UsageError

#: Points a line on the page.
MOST_POINTS = 400

Row = dict[str, Any]


@dataclass(frozen=True)
class StreamRun:
    """One folder of `testbed monitor`."""

    folder: Path
    plan: Mapping[str, Any] = field(default_factory=dict)

    def select(self, where: str) -> list[Row]:
        """The rows of stream.parquet that fit, in order."""
        return self._ask(f"SELECT * FROM rows WHERE {where}")

    @cached_property
    def summary(self) -> list[Row]:
        """Segments, whole stream and detectors."""
        return self.select("scope IN ('segment', 'stream', 'detector')")

    @cached_property
    def events(self) -> list[Row]:
        """Drifts detected or missed, and trials of online calibrators."""
        return self.select("scope IN ('episode', 'update')")

    def over_time(self, scope: str, metrics: Sequence[str]) -> list[Row]:
        """Rows of these metrics at about `MOST_POINTS` steps: every m-th evaluation of the scope."""
        named = ", ".join(f"'{name}'" for name in metrics)
        mine = f"scope = '{scope}' AND metric IN ({named})"
        (count,) = self._ask(f"SELECT count(DISTINCT step) AS steps FROM rows WHERE {mine}")
        every = max(1, -(-int(count["steps"]) // MOST_POINTS))
        place = f"SELECT *, dense_rank() OVER (ORDER BY step) AS place FROM rows WHERE {mine}"
        return self._ask(f"SELECT * EXCLUDE place FROM ({place}) WHERE place % {every} = 0 ORDER BY step")

    def _ask(self, sql: str) -> list[Row]:
        import duckdb

        file = str(self.folder / "stream.parquet").replace("'", "''")
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET enable_progress_bar = false")
            cursor = connection.execute(f"WITH rows AS (FROM read_parquet('{file}')) {sql}")
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.plan.get("name") or self.folder.resolve().name)

    @property
    def stream(self) -> Mapping[str, Any]:
        """The stream as resolved."""
        return dict((self.plan.get("grid") or {}).get("stream") or {})


def read_stream(folder: Path) -> StreamRun:
    """The replay in a folder."""
    if not (folder / "stream.parquet").is_file():
        raise UsageError(f"{folder}: no stream here; make one with `testbed monitor STREAM --out {folder}`")
    file = folder / "plan.json"
    try:
        return StreamRun(folder, json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: not JSON ({error}); run the stream again to rewrite it") from None

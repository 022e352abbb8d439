"""A metric that fails has a row with its error; the others of its cell keep their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from testbed.errors import DataError
from testbed.metrics.estimate import Estimate
from testbed.runner import rows
from testbed.runner.operations import access
from testbed.runner.operations.scores import each_metric, estimate_rows, write_rows


@dataclass
class Metric:
    """Gives 0.5, or raises `error`."""

    error: Exception | None = None

    def __call__(self) -> Estimate:
        if self.error:
            raise self.error
        return Estimate(0.5, 0.4, 0.6, "words", 10)


def job(monkeypatch: pytest.MonkeyPatch, *metrics: Metric) -> Any:
    plugin = lambda m: SimpleNamespace(build=lambda: m, facts={"needs": "scores"})
    monkeypatch.setattr(access, "code", lambda kind, recipe, store: plugin(recipe["metric"]))
    return SimpleNamespace(recipe={"metrics": [{"metric": m, "params": {}} for m in metrics]})


def one(position: int, plugin: Any, metric: Any) -> list[dict[str, Any]]:
    return estimate_rows(position, metric())


def test_the_others_keep_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job(monkeypatch, Metric(), Metric(OverflowError("math range error")), Metric())

    found = each_metric(asked, None, 10, one)  # type: ignore[arg-type]

    assert [row["value"] for row in found][::2] == [0.5, 0.5] and np.isnan(found[1]["value"])
    assert [row.get("error") for row in found] == [None, "OverflowError: math range error", None]


def test_a_job_fails_where_all_do_or_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="first"):
        each_metric(job(monkeypatch, Metric(DataError("first")), Metric(DataError("second"))), None, 10, one)  # type: ignore[arg-type]
    with pytest.raises(MemoryError):
        each_metric(job(monkeypatch, Metric(), Metric(MemoryError())), None, 10, one)  # type: ignore[arg-type]


def test_the_row_is_failed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    found = each_metric(job(monkeypatch, Metric(), Metric(DataError("no rank"))), None, 10, one)  # type: ignore[arg-type]
    write_rows(SimpleNamespace(table=lambda name, table: kept.update({name: table})), found)  # type: ignore[arg-type]
    cells = [SimpleNamespace(row={"metric": name, "flags": ""}, digest="d", metric=i) for i, name in enumerate("ab")]

    (first,), (second,) = (rows.cell_rows(cell, kept["rows"].to_pylist(), None, "") for cell in cells)  # type: ignore[arg-type]

    assert (first["status"], first["value"], first.get("error")) == ("ok", 0.5, None)
    assert (second["status"], second["value"], second["error"]) == ("failed", None, "DataError: no rank")


def test_a_table_without_failures_has_no_column_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    write_rows(SimpleNamespace(table=lambda name, table: kept.update({name: table})),  # type: ignore[arg-type]
               each_metric(job(monkeypatch, Metric()), None, 10, one))  # type: ignore[arg-type]  # fmt: skip

    assert "error" not in kept["rows"].column_names

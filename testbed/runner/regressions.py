"""regressions.parquet: what every calibrator changed against the grid's `compare`, and what got worse unseen.

P-values are corrected by Holm over the whole run, in two families: whole sets, and their parts (classes, groups). A
change is silent where it is worse although what one usually looks at is not:

    a part      significantly worse in a metric that did not get significantly worse on its whole set
    a condition significantly worse in a metric whose mean change over all conditions of that model is no worse
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed.grid.plan import Plan
from testbed.metrics.bootstrap import LEVEL
from testbed.metrics.comparison import holm
from testbed.metrics.recalibration import LARGER_IS_BETTER
from testbed.runner.files import replace
from testbed.store import Store
from testbed.types import REGRESSIONS, REGRESSIONS_VERSION, arrow_schema

#: Columns that name one model with one calibrator, over all conditions.
OWNER = ("dataset", "model", "variant", "train_seed", "seed", "calibrator", "fit")


def write_regressions(plan: Plan, store: Store, folder: Path) -> None:
    """Write regressions.parquet; a grid without `compare` has none, nor one that an earlier grid left."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not plan.comparisons:
        (folder / "regressions.parquet").unlink(missing_ok=True)
        return
    there = store.manifests(one.digest for one in plan.comparisons)
    rows: list[dict[str, Any]] = []
    for one in plan.comparisons:
        if one.digest in there:
            named = {name: one.row.get(name) for name in REGRESSIONS if name in one.row}
            named |= {"before_calibrator": plan.grid["compare"], "digest": one.digest}
            rows += [{**named, **found} for found in store.table(one.digest, "rows").to_pylist()]
    table = pa.Table.from_pylist(judged(rows), schema=arrow_schema(REGRESSIONS, REGRESSIONS_VERSION))
    replace(folder / "regressions.parquet", lambda path: pq.write_table(table, path, compression="zstd"))


def judged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with corrected p-values, verdicts, and whether each is a silent regression."""
    out = [dict(row) for row in rows]
    for whole in (True, False):
        family = [row for row in out if (row["part"] == "all") == whole]
        corrected = holm([float("nan") if row["p"] is None else row["p"] for row in family]).tolist()
        for row, p in zip(family, corrected, strict=True):
            row["p_holm"] = None if p != p else p
            row["verdict"] = "unclear" if not p < 1 - LEVEL else "better" if gain(row) > 0 else "worse"
    sets: dict[tuple[Any, ...], str] = {}
    gains: dict[tuple[Any, ...], list[float]] = {}
    for row in (row for row in out if row["part"] == "all"):
        sets[row["digest"], row["metric"]] = row["verdict"]
        gains.setdefault(_owner(row), []).append(gain(row))
    mean = {owner: float(np.mean(found)) for owner, found in gains.items()}
    for row in out:
        seen_worse = sets[row["digest"], row["metric"]] == "worse" if row["part"] != "all" else (
            mean[_owner(row)] < 0
        )  # fmt: skip
        row["silent"] = row["verdict"] == "worse" and not seen_worse
    return out


def gain(row: Mapping[str, Any]) -> float:
    """How much better a change made its metric.

    >>> gain({"metric": "nll", "change": 0.25}), gain({"metric": "accuracy", "change": 0.25})
    (-0.25, 0.25)
    """
    return float(row["change"] if row["metric"] in LARGER_IS_BETTER else -row["change"])


def _owner(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(row.get(name) for name in OWNER), row["metric"])

"""regressions.parquet: what every calibrator changed against the grid's `compare`, and what got worse unseen.

P-values are corrected over the whole run (`testbed.metrics.families`), in two families: whole sets, and their parts
(classes, groups). `visible` is the smallest change that a whole set where none was found shows with power 0.8. A
change is silent where it is worse although what one usually looks at is not:

    a part      significantly worse in a metric that did not get significantly worse on its whole set
    a condition significantly worse in a metric whose mean change over all conditions of that model is no worse
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from testbed.grid.plan import Plan
from testbed.metrics import comparison
from testbed.metrics.families import ALPHA
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
    """The rows with corrected p-values, verdicts, visible changes, and whether each is a silent regression."""
    out = [dict(row) for row in rows]
    gains: list[float] = [0.0] * len(out)
    for whole in (True, False):
        places = [i for i, row in enumerate(out) if (row["part"] == "all") == whole]
        family = comparison.judged([difference(out[i]) for i in places])
        level = ALPHA / max(1, sum(d.p_holm == d.p_holm for d in family))
        for i, d in zip(places, family, strict=True):
            gains[i] = d.gain
            visible = d.visible(level) if whole and d.verdict not in ("better", "worse") else float("nan")
            found = {"p": d.p, "p_holm": d.p_holm, "visible": visible}
            out[i] |= {name: None if value != value else value for name, value in found.items()}
            out[i]["verdict"] = d.verdict
    sets = {(row["digest"], row["metric"]): row["verdict"] for row in out if row["part"] == "all"}
    of_owner: dict[tuple[Any, ...], list[float]] = {}
    for row, gain in zip(out, gains, strict=True):
        if row["part"] == "all":
            of_owner.setdefault(_owner(row), []).append(gain)
    mean = {owner: float(np.mean(found)) for owner, found in of_owner.items()}
    for row in out:
        seen_worse = sets[row["digest"], row["metric"]] == "worse" if row["part"] != "all" else (
            mean[_owner(row)] < 0
        )  # fmt: skip
        row["silent"] = row["verdict"] == "worse" and not seen_worse
    return out


def difference(row: Mapping[str, Any]) -> comparison.Difference:
    """A row of the job's table as the difference it was made of."""
    known = {field.name: row[field.name] for field in fields(comparison.Difference)}
    values: dict[str, Any] = {name: float("nan") if value is None else value for name, value in known.items()}
    return comparison.Difference(**values)


def _owner(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(row.get(name) for name in OWNER), row["metric"])

"""What fooled the examples of each attacked set, from samples.parquet: parts of a cascade, or one of several attacks.

Counts of one set add up: wrong before any attack, first fooled by each part, standing at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.report.doubt import doubts
from testbed.report.load import Run

_SETS = """
SELECT dataset, model, train_seed, seed, condition, condition_id, fooled_by,
       count(*) FILTER (first_step = 0) AS before, count(*) FILTER (NOT success) AS standing, count(*) AS n
FROM samples WHERE first_step IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""


def what_fooled(run: Run) -> list[dict[str, Any]]:
    """One entry a set of a cascade or of a worst case: n, `before`, `standing`, `parts` name -> count, and
    `doubts`, what speaks against the accuracy.

    Empty for a run whose samples do not say it.
    """
    found = run.select(_SETS)
    if all(row["fooled_by"] is None for row in found):
        return []
    known = {run.sample_condition(row): row for row in run.rows}
    against = _against(run)
    sets: dict[tuple[Any, ...], dict[str, Any]] = {}
    worst: set[tuple[Any, ...]] = set()
    for row in found:
        about = known.get(row[run.of_condition], {})
        if str(about.get("victim")).startswith("detector:"):
            continue  # the ledger is of the detector's verdict
        place = {name: row[name] for name in ("dataset", "model", "train_seed", "seed")}
        place["condition"] = about.get("label", row["condition"])
        key = (*place.values(), row[run.of_condition])
        one = sets.setdefault(
            key,
            {
                **place,
                "doubts": against.get((*_place(row), row[run.of_condition]), ()),
                "n": 0,
                "before": 0,
                "standing": 0,
                "parts": {},
            },
        )
        worst |= {key} if about.get("kind") == "worst" else set()
        for name in ("n", "before", "standing"):
            one[name] += row[name]
        if row["fooled_by"] is not None:
            one["parts"][row["fooled_by"]] = row["n"]
    several = (one for key, one in sets.items() if key in worst or len(one["parts"]) > 1 or _of_cascade(one))
    return sorted(several, key=lambda one: [str(one[name]) for name in ("model", "train_seed", "seed", "condition")])


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("dataset", "model", "train_seed", "seed"))


def _against(run: Run) -> dict[tuple[Any, ...], tuple[str, ...]]:
    """What speaks against the accuracy of each set, under the grid's first calibrator."""
    found: dict[tuple[Any, ...], tuple[str, ...]] = {}
    for row in run.rows:
        if row["metric"] == "accuracy" and row["group"] is None:
            found.setdefault((*_place(row), run.sample_condition(row)), doubts(row))
    return found


def _of_cascade(one: dict[str, Any]) -> bool:
    """Whether the names are those of the parts of a cascade."""
    return any(":" in name for name in one["parts"])

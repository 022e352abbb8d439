"""What fooled the examples of each attacked set, from samples.parquet: parts of a cascade, or one of several attacks.

Counts of one set add up: wrong before any attack, first fooled by each part, standing at the end.
"""

from __future__ import annotations

from typing import Any

from testbed.report.load import Run

_SETS = """
SELECT dataset, model, train_seed, seed, condition, fooled_by,
       count(*) FILTER (first_step = 0) AS before, count(*) FILTER (NOT success) AS standing, count(*) AS n
FROM samples WHERE first_step IS NOT NULL AND condition NOT LIKE '% on detector:%'
GROUP BY ALL ORDER BY ALL
"""


def what_fooled(run: Run) -> list[dict[str, Any]]:
    """One entry a set of a cascade or of a worst case: n, `before`, `standing`, and `parts` name -> count.

    Empty for a run whose samples do not say it.
    """
    if "fooled_by" not in {row["column_name"] for row in run.select("DESCRIBE samples")}:
        return []
    sets: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in run.select(_SETS):
        place = {name: row[name] for name in ("dataset", "model", "train_seed", "seed", "condition")}
        one = sets.setdefault(tuple(place.values()), {**place, "n": 0, "before": 0, "standing": 0, "parts": {}})
        for name in ("n", "before", "standing"):
            one[name] += row[name]
        if row["fooled_by"] is not None:
            one["parts"][row["fooled_by"]] = row["n"]
    shown = [one for one in sets.values() if len(one["parts"]) > 1 or _of_parts(one)]
    return sorted(shown, key=lambda one: [str(one[name]) for name in ("model", "train_seed", "seed", "condition")])


def _of_parts(one: dict[str, Any]) -> bool:
    """Whether the names say that there were several: `worst` cases, and parts of a cascade."""
    return str(one["condition"]).startswith("worst ") or any(":" in name for name in one["parts"])

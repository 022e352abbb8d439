"""Choosing a combination: the table of criteria, its Pareto front, and who wins under the user's weights, how surely.

A criterion is scaled by its range over the combinations, as measured, and weighted; the largest sum wins. The
probability of being best is the share of paired resamples in which a combination wins: 0.5 between two means that this
test set cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.errors import UsageError, nearest
from testbed.metrics.bootstrap import bounds
from testbed.metrics.selection import pareto, probability_best, utility
from testbed.report.candidates import CRITERIA, Candidate, Pool, pools
from testbed.report.load import Run
from testbed.types import Array, Float64

#: Combinations on the page, resamples that it carries, and combinations that a text table lists.
ON_PAGE, PAGE_REPLICATES, LISTED = 40, 200, 25
_VALUES_A_BLOCK = 2**22


@dataclass(frozen=True)
class Selection:
    """The combinations of one pool as a table `[m, c]`, with the replicates `[r, m, c]` behind it."""

    pool: Pool
    criteria: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    values: Float64
    low: Float64
    high: Float64
    replicates: Float64

    @property
    def higher(self) -> list[bool]:
        """Whether more is better, by criterion."""
        return [CRITERIA[name] for name in self.criteria]

    def front(self) -> Array:
        """bool `[m]`: no other combination is at least as good in everything and better in something."""
        return pareto(self.values, self.higher)

    def utilities(self, weights: Mapping[str, float]) -> Float64:
        """Weighted sum of scaled criteria `[m]`."""
        return utility(self.values, self.higher, self.weighing(weights))

    def best(self, weights: Mapping[str, float]) -> Float64:
        """Probability of being best `[m]`, sums to 1."""
        given = self.weighing(weights)
        step = max(1, _VALUES_A_BLOCK // max(1, self.values.size))
        parts = [self.replicates[i : i + step] for i in range(0, len(self.replicates), step)]
        shares = [len(p) * probability_best(self.values, p, self.higher, given) for p in parts]
        return np.asarray(np.sum(shares, axis=0) / len(self.replicates))

    def weighing(self, weights: Mapping[str, float]) -> list[float]:
        """The weight of each criterion: 1 each where none are given, else 0 for those left out."""
        return [weights.get(name, 0.0) if weights else 1.0 for name in self.criteria]


def selections(run: Run, replicates: int = 1000) -> list[Selection]:
    """The selection table of each data set and seed of a run."""
    return [table for pool in pools(run, replicates) if (table := selection(pool)) is not None]


def selection(pool: Pool) -> Selection | None:
    """The table of a pool: criteria that some combination has, and the combinations that have them all."""
    having = {name: [name in c.measured for c in pool.candidates] for name in CRITERIA}
    criteria = tuple(name for name, has in having.items() if (all(has) if name == "latency" else any(has)))
    kept = tuple(c for c in pool.candidates if all(name in c.measured for name in criteria))
    if not kept:
        return None
    values = np.array([[c.measured[name].value for name in criteria] for c in kept])
    replicates = np.stack(
        [np.stack([c.measured[name].replicates for name in criteria], axis=1) for c in kept], axis=1
    ).astype(np.float64)
    ends = np.full((2, *values.shape), np.nan)
    for (i, j), value in np.ndenumerate(values):
        kind: Any = "basic" if criteria[j] == "ece" else "percentile"
        if criteria[j] != "latency":
            ends[:, i, j] = bounds(float(value), replicates[:, i, j], interval=kind)
    return Selection(pool, criteria, kept, values, ends[0], ends[1], replicates)


def nothing_to_choose(run: Run, found: Sequence[Pool], most: int = 12) -> str:
    """Why a run has no combination to choose: the reason of each that was left out."""
    reasons = list(dict.fromkeys(reason for pool in found for reason in pool.left_out))
    reasons += [f"{pool.dataset}: no combination has all criteria" for pool in found if pool.candidates]
    more = [f"and {len(reasons) - most} more"] if len(reasons) > most else []
    why = reasons[:most] + more or ["results.parquet has no row of clean data"]
    return "\n  ".join([f"{run.folder}: no combination to choose from", *why])


def parse_weights(text: str) -> dict[str, float]:
    """Weights from `accuracy=1,auroc=0.5`; empty (all equal) for `equal`.

    >>> parse_weights("accuracy=1, auroc=0.5"), parse_weights("equal")
    ({'accuracy': 1.0, 'auroc': 0.5}, {})
    """
    if text.strip() == "equal":
        return {}
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or name not in CRITERIA:
            known = nearest(name, CRITERIA)
            raise UsageError(f"--weights {text!r}: expected equal, or criterion=weight with commas between; {known}")
        try:
            found[name] = float(number)
        except ValueError:
            raise UsageError(f"--weights {text!r}: {number!r} is not a number") from None
        if not 0 <= found[name] < float("inf"):
            raise UsageError(f"--weights {text!r}: a weight is at least 0 (the direction is the criterion's own)")
    if not any(found.values()):
        raise UsageError(f"--weights {text!r}: at least one weight must be above 0")
    return found


HEAD = ("", "model", "calibrator", "detector")


def table_rows(table: Selection, weights: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the text table, best first; a star stands before combinations on the Pareto front."""
    asked = [name for name in weights if name not in table.criteria]
    if asked:
        reason = f"this run has {', '.join(table.criteria)}"
        raise UsageError(f"--weights: {table.pool.dataset} has no {', '.join(asked)} for its combinations; {reason}")
    front, score, best = table.front(), table.utilities(weights), table.best(weights)
    order = np.lexsort((-score, -best))[:LISTED]
    head = [*HEAD, *table.criteria, "utility", "P(best)"]
    rows = []
    for i in order.tolist():
        one = table.candidates[i]
        seed = f" #{one.train_seed}" if one.train_seed not in (None, 0) else ""
        cells = [spell(*triple) for triple in zip(table.values[i], table.low[i], table.high[i], strict=True)]
        rows.append(["*" if front[i] else "", one.model + seed, one.calibrator, one.detector or "–", *cells,
                     f"{score[i]:.3f}", f"{best[i]:.3f}"])  # fmt: skip
    return head, rows


def notes(table: Selection, weights: Mapping[str, float]) -> list[str]:
    """What stands below the table."""
    given = ", ".join(f"{n} {w:g}" for n, w in zip(table.criteria, table.weighing(weights), strict=True))
    found = [f"weights: {given}; * on the Pareto front ({int(table.front().sum())} of {len(table.candidates)})"]
    found.append(f"P(best): share of {len(table.replicates)} paired resamples in which the weighted sum is the largest")
    found += [f"{name}: {table.pool.conventions[name]}" for name in table.criteria]
    if "latency" not in table.criteria:
        found.append("latency: not of every model (forward passes that were in the store already are not timed)")
    hidden = len(table.candidates) - LISTED
    found += [f"{hidden} more combinations are not listed"] if hidden > 0 else []
    return found + [f"left out: {reason}" for reason in table.pool.left_out]


def spell(value: float, low: float, high: float) -> str:
    """A value with its interval, where it has one.

    >>> spell(0.5, 0.4, 0.6), spell(1.25, float("nan"), float("nan"))
    ('0.500 [0.400, 0.600]', '1.250')
    """
    return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def page_tables(run: Run) -> list[dict[str, Any]]:
    """The selection tables as the page takes them: it weighs and counts wins itself, so that weights can be moved."""
    return [on_page(table) for table in selections(run, PAGE_REPLICATES) if len(table.candidates) > 1]


def on_page(table: Selection) -> dict[str, Any]:
    """One table with its resamples: the Pareto front first, then the best under equal weights, at most `ON_PAGE`."""
    front, score = table.front(), table.utilities({})
    order = np.lexsort((-score, ~front))[:ON_PAGE].tolist()
    return {
        "dataset": table.pool.dataset,
        "seed": table.pool.seed,
        "criteria": [
            {"name": n, "higher": CRITERIA[n], "convention": table.pool.conventions[n]} for n in table.criteria
        ],
        "candidates": [
            {"model": c.model, "train_seed": c.train_seed, "calibrator": c.calibrator, "detector": c.detector,
             "front": bool(front[i]), "values": _short(table.values[i]), "low": _short(table.low[i]),
             "high": _short(table.high[i])}
            for i in order for c in (table.candidates[i],)
        ],
        "replicates": [[_short(table.replicates[r, i]) for i in order] for r in range(len(table.replicates))],
        "not_shown": len(table.candidates) - len(order),
        "left_out": list(table.pool.left_out),
    }  # fmt: skip


def _short(values: Sequence[float] | Float64) -> list[float | None]:
    return [None if np.isnan(v) else float(f"{float(v):.4g}") for v in values]

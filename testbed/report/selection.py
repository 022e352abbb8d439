"""Choosing a combination: the table of criteria, its Pareto front, and who wins under the user's weights, how surely.

A criterion is scaled by its range over the combinations, as measured, and weighted; the largest sum is the best. What
leads is the set of combinations that may be the best one (Hsu 1984); where it holds two, this test set names no winner.
The probability of being best is shrunk (`testbed.metrics.selection`). Combinations that are equal in all weighted
criteria are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.errors import UsageError, nearest
from testbed.metrics.bootstrap import bounds
from testbed.metrics.selection import equals, may_be_best, pareto, probability_best, scores, utility
from testbed.report.candidates import CRITERIA, Candidate, Pool, pools
from testbed.report.doubt import marked
from testbed.report.doubt import notes as doubt_notes
from testbed.report.load import Run
from testbed.types import Array, Float64, Ints

#: Combinations on the page, resamples that it carries, and combinations that a text table lists.
ON_PAGE, PAGE_REPLICATES, LISTED = 40, 200, 25
_VALUES_A_BLOCK = 2**22


@dataclass(frozen=True)
class Choice:
    """What the weights say of each combination `[m]`: utility, may it be the best, how surely it is, whom it equals."""

    utility: Float64
    may_be_best: Array
    probability: Float64
    equals: Ints

    @property
    def best(self) -> tuple[int, ...]:
        """The combinations that may be the best one, those with the larger utility first; equals count once."""
        first = np.flatnonzero(self.may_be_best & (self.equals == np.arange(len(self.equals))))
        return tuple(first[np.argsort(-self.utility[first], kind="stable")].tolist())


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

    def chosen(self, weights: Mapping[str, float]) -> Choice:
        """The choice under these weights; equal combinations share one probability, which sums to 1 over the others."""
        given = self.weighing(weights)
        step = max(1, _VALUES_A_BLOCK // max(1, self.values.size))
        parts = [self.replicates[i : i + step] for i in range(0, len(self.replicates), step)]
        drawn = np.concatenate([scores(self.values, part, self.higher, given)[1] for part in parts])
        mine, same = self.utilities(weights), equals(self.values, self.replicates, given)
        first, place = np.unique(same, return_inverse=True)
        kept = may_be_best(mine[first], drawn[:, first])
        return Choice(mine, kept[place], probability_best(mine[first], drawn[:, first])[place], same)

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


HEAD = ("may be best", "front", "model", "calibrator", "detector")


def table_rows(table: Selection, weights: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the text table: the combinations that may be the best one first, then by utility."""
    asked = [name for name in weights if name not in table.criteria]
    if asked:
        reason = f"this run has {', '.join(table.criteria)}"
        raise UsageError(f"--weights: {table.pool.dataset} has no {', '.join(asked)} for its combinations; {reason}")
    front, found = table.front(), table.chosen(weights)
    head = [*HEAD, *table.criteria, "utility", "P(best)"]
    rows = []
    for i in order_of(table, weights):
        one = table.candidates[i]
        triples = zip(table.criteria, table.values[i], table.low[i], table.high[i], strict=True)
        cells = [marked(spell(*triple), one.measured[name].doubts) for name, *triple in triples]
        mark = "" if not found.may_be_best[i] else "yes" if found.equals[i] == i else "yes ="
        rows.append([mark, "*" if front[i] else "", numbered(one), one.calibrator, one.detector or "–", *cells,
                     f"{found.utility[i]:.3f}", f"{found.probability[i]:.3f}"])  # fmt: skip
    return head, rows


def order_of(table: Selection, weights: Mapping[str, float]) -> list[int]:
    """The positions of the combinations that are listed, in the order of the list."""
    found = table.chosen(weights)
    listed: list[int] = np.lexsort((found.equals, -found.utility, ~found.may_be_best))[:LISTED].tolist()
    return listed


def numbered(one: Candidate) -> str:
    """The model's name, with its training seed unless that is 0."""
    return one.model + (f" #{one.train_seed}" if one.train_seed not in (None, 0) else "")


def verdict(table: Selection, weights: Mapping[str, float]) -> str:
    """One line: the best combination where there is one, else how many may be, without a name."""
    best = table.chosen(weights).best
    if len(best) > 1:
        of = len(set(table.chosen(weights).equals.tolist()))
        return f"no winner: {len(best)} of {of} combinations may be the best one (95 %), on this test set"
    one = table.candidates[best[0]]
    named = " · ".join(filter(None, (numbered(one), one.calibrator, one.detector)))
    return f"best: {named}; no other may be (95 %), under these weights on this test set"


def notes(table: Selection, weights: Mapping[str, float]) -> list[str]:
    """What stands below the table."""
    given = ", ".join(f"{n} {w:g}" for n, w in zip(table.criteria, table.weighing(weights), strict=True))
    found = [verdict(table, weights)]
    found.append(f"weights: {given}; * on the Pareto front ({int(table.front().sum())} of {len(table.candidates)})")
    found.append("may be best: the set that holds the best one in 95 of 100 test sets (Hsu)")
    same = table.chosen(weights).equals
    if (equal := int((same != np.arange(len(same))).sum())) > 0:
        found.append(f"=: equal to another in all weighted criteria, and one with it ({equal} combinations)")
    found.append(f"P(best): shrunk chance of the largest weighted sum, from {len(table.replicates)} paired resamples")
    found += [f"{name}: {table.pool.conventions[name]}" for name in table.criteria]
    listed = (table.candidates[i] for i in order_of(table, weights))
    found += doubt_notes(one.measured[name].doubts for one in listed for name in table.criteria)
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
    """The selection tables as the page takes them: it weighs and finds the set itself, so that weights can be moved."""
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
             "high": _short(table.high[i]), "doubts": [list(c.measured[name].doubts) for name in table.criteria]}
            for i in order for c in (table.candidates[i],)
        ],
        "replicates": [[_short(table.replicates[r, i]) for i in order] for r in range(len(table.replicates))],
        "not_shown": len(table.candidates) - len(order),
        "left_out": list(table.pool.left_out),
    }  # fmt: skip


def _short(values: Sequence[float] | Float64) -> list[float | None]:
    return [None if np.isnan(v) else float(f"{float(v):.4g}") for v in values]

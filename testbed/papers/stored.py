"""Figures that need more than one row of a run: ensembles, failure prediction, ratios, and claims with a test.

Each function takes the cells of a run and the words of the line (see `testbed.papers.cells`), reads probabilities from
the store, and computes nothing that a network would have to run for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from testbed.errors import DataError
from testbed.metrics import delong, ood
from testbed.metrics.comparison import Difference, judged
from testbed.metrics.comparison import difference as compared
from testbed.papers.cells import Cells, Scored, named, parse

LEVEL: Final = 0.05


class Found(NamedTuple):
    """A value, its 95 % interval (twice the value where there is none), the number of examples, and a remark."""

    value: float
    low: float
    high: float
    n: int
    note: str = ""


def metric(cells: Cells, text: str) -> Found:
    """One metric of one side on one set; with `members=all` of the ensemble over training seeds."""
    pick, sides = parse(text)
    _sides(sides, 0, text)
    side = cells.only(pick)
    found = side.metric(side.p, side.y, draws=side.draws)
    note = f"{side.members} members" if pick.get("members") == "all" else ""
    low, high = (found.value if np.isnan(end) else end for end in (found.low, found.high))
    return Found(found.value, low, high, len(side.y), note)


def ratio(cells: Cells, text: str) -> Found:
    """The metric of the first side over that of the second on the same examples; percentile bootstrap of the ratio."""
    first, second = _two(cells, text)
    top, bottom = (side.metric.measure(side.p, side.y, first.draws) for side in (first, second))
    if top.replicates is None or bottom.replicates is None or bottom.value == 0:
        raise DataError(f"ratio {text}: the metric has no replicates, or is 0 on the second side")
    low, high = np.quantile(top.replicates / np.maximum(bottom.replicates, 1e-12), [LEVEL / 2, 1 - LEVEL / 2])
    note = f"{top.value:.4f} over {bottom.value:.4f}"
    return Found(top.value / bottom.value, float(low), float(high), len(first.y), note)


def flips(cells: Cells, text: str) -> Found:
    """The number of examples whose predicted label differs between the two sides."""
    first, second = _two(cells, text)
    changed = float((first.p.argmax(1) != second.p.argmax(1)).sum())
    return Found(changed, changed, changed, len(first.y))


def failure(cells: Cells, text: str) -> Found:
    """Right against wrong predictions by the largest probability: `area` = auroc, aupr_right or aupr_wrong.

    AUROC has DeLong's interval; the other two the binomial one of their positives.
    """
    pick, sides = parse(text)
    _sides(sides, 0, text)
    area = pick.pop("area", "auroc")
    side = cells.only(pick)
    doubt = -side.p.max(1)
    right = side.p.argmax(1) == side.y
    if right.all() or not right.any():
        raise DataError(f"failure {text}: every prediction is {'right' if right.all() else 'wrong'}")
    note = f"{int((~right).sum())} errors"
    if area == "auroc":
        parts = delong.components(doubt[right], doubt[~right])
        return Found(parts.auroc, *delong.interval(parts), len(right), note)
    metric = ood.AUPRIn() if area == "aupr_right" else ood.AUPROut()
    found = metric(doubt[right], doubt[~right], draws=None)
    return Found(found.value, found.low, found.high, len(right), note)


def lower(cells: Cells, text: str) -> Found:
    """On how many sets the first side, claimed to have the lower metric, is significantly above the second.

    Paired tests on the same examples of each set (`testbed.metrics.comparison`), corrected over the sets, 5 %.
    """
    pick, sides = parse(text)
    _sides(sides, 2, text)
    apart = sorted({*sides[0], *sides[1]})
    picks = [{**pick, **side} for side in sides]
    first, second = (cells.groups(one, apart) for one in picks)
    shared = [key for key in first if key in second]
    if not shared:
        raise DataError(f"lower {text}: the two sides share no set")
    found: list[Difference] = []
    for key in shared:
        a, b = (cells.scored(one, groups[key]) for one, groups in zip(picks, (first, second), strict=True))
        found.append(compared("metric", a.metric, "all", a.p, b.p, a.y, a.draws))
    family = judged(found)
    wrong = [named(k) for k, d in zip(shared, family, strict=True) if d.change < 0 and d.verdict in ("better", "worse")]
    proved = sum(d.change > 0 and d.verdict in ("better", "worse") for d in family)
    n = family[-1].n
    note = f"significantly so on {proved} of {len(shared)} sets" + "".join(f"; reversed: {name}" for name in wrong)
    return Found(len(wrong), len(wrong), len(wrong), n, note)


def mean(cells: Cells, text: str) -> Found:
    """The unweighted mean of a metric over all rows that meet the pick: sets of a group, networks.

    The ends are the means of the rows' ends, which holds even where all rows err together.
    """
    pick, sides = parse(text)
    _sides(sides, 0, text)
    rows = cells.rows(pick)
    value, low, high = (float(np.mean([row[name] for row in rows])) for name in ("value", "ci_low", "ci_high"))
    note = "" if len(rows) == 1 else f"mean of {len(rows)}"
    return Found(value, low, high, int(min(row["n"] for row in rows)), note)


def difference(cells: Cells, text: str) -> Found:
    """The first side's value less the second's, of two sets of different examples.

    The interval is Newcombe's (1998) for two samples: the distances of the ends, added in squares.
    """
    pick, sides = parse(text)
    _sides(sides, 2, text)
    ends = []
    for side in sides:
        rows = cells.rows({**pick, **side})
        if len(rows) != 1:
            raise DataError(f"difference {text}: {len(rows)} rows of the run meet one side; name one")
        ends.append(tuple(float(rows[0][name]) for name in ("value", "ci_low", "ci_high")))
        n = int(rows[0]["n"])
    (a, a_low, a_high), (b, b_low, b_high) = ends
    low, high = float(np.hypot(a - a_low, b_high - b)), float(np.hypot(a_high - a, b - b_low))
    return Found(a - b, a - b - low, a - b + high, n)


def ranks(cells: Cells, text: str) -> Found:
    """Spearman's rank correlation between a metric and its printed values over detectors: `... / DETECTOR=PRINTED ...`.

    The interval is Fisher's with Bonett and Wright's (2000) variance (1 + r^2 / 2) / (n - 3).
    """
    from scipy.stats import spearmanr

    pick, sides = parse(text)
    _sides(sides, 1, text)
    printed = {name: float(value) for name, value in sides[0].items()}
    ours = [float(np.mean([row["value"] for row in cells.rows({**pick, "detector": name})])) for name in printed]
    r, n = float(spearmanr(ours, list(printed.values())).statistic), len(printed)
    if n < 4:
        raise DataError(f"ranks {text}: expected at least 4 detectors, got {n}")
    half = 1.959964 * float(np.sqrt((1 + r**2 / 2) / (n - 3)))
    middle = float(np.arctanh(np.clip(r, -0.999999, 0.999999)))
    return Found(r, float(np.tanh(middle - half)), float(np.tanh(middle + half)), n)


def _two(cells: Cells, text: str) -> tuple[Scored, Scored]:
    pick, sides = parse(text)
    _sides(sides, 2, text)
    first, second = (cells.only({**pick, **side}) for side in sides)
    if not np.array_equal(first.y, second.y):
        raise DataError(f"{text}: the two sides were not evaluated on the same examples")
    return first, second


def _sides(sides: list[dict[str, str]], count: int, text: str) -> None:
    if len(sides) != count:
        raise DataError(f"stored: {text!r}: expected {count} sides behind slashes, got {len(sides)}")


FUNCTIONS: Final[dict[str, Callable[[Cells, str], Any]]] = {
    "metric": metric,
    "ratio": ratio,
    "flips": flips,
    "failure": failure,
    "lower": lower,
    "mean": mean,
    "difference": difference,
    "ranks": ranks,
}

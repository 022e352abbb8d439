"""Orders of methods in a printed table, and whether ours contradicts them.

A pair of methods with two different printed figures is a strict order. Ours reverses it where the method printed as the
lower one is higher here, by a paired test on the same examples, with Holm's correction over all pairs that can reject.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

from testbed.errors import DataError


def parse(text: str) -> tuple[str, str, dict[str, float]]:
    """`MODEL METRIC CALIBRATOR=PRINTED ...` as model, metric, and printed figure by calibrator.

    >>> parse("net ece none=4.6 temperature=0.83")
    ('net', 'ece', {'none': 4.6, 'temperature': 0.83})
    """
    try:
        model, metric, *pairs = text.split()
        return model, metric, {name: float(value) for name, _, value in (pair.partition("=") for pair in pairs)}
    except ValueError:
        raise DataError(f"order: {text!r}: expected MODEL METRIC CALIBRATOR=PRINTED ...") from None


def strict(printed: Mapping[str, float]) -> list[tuple[str, str]]:
    """(lower, higher) of every pair with two different figures.

    >>> strict({"a": 1.0, "b": 2.0, "c": 1.0})
    [('a', 'b'), ('c', 'b')]
    """
    return [(a, b) for a, b in permutations(printed, 2) if printed[a] < printed[b]]


def reversed_pairs(text: str, run: Path, store: str | None) -> tuple[list[tuple[str, str]], int, int]:
    """The strict orders that ours reverses significantly, how many there are, and on how many examples."""
    from testbed.metrics.families import ALPHA, corrected

    model, metric, printed = parse(text)
    pairs = strict(printed)
    if not pairs:
        return [], 0, 0
    changes = [_change(run, store, model, metric, *pair) for pair in pairs]
    found = corrected([p for _, p, _, _ in changes], [least for _, _, least, _ in changes]).p
    wrong = [pair for pair, (change, *_), p in zip(pairs, changes, found, strict=True) if change < 0 and p < ALPHA]
    return wrong, len(pairs), min(n for *_, n in changes)


def _change(
    run: Path, store: str | None, model: str, metric: str, low: str, high: str
) -> tuple[float, float, float, int]:
    """Metric of `high` less that of `low` on the whole set, its uncorrected p-value, the least possible one, and n."""
    from testbed.report.load import read_run
    from testbed.results.paired import Side, compared
    from testbed.store import Store, default_url

    loaded, keeper = read_run(run), Store(store or default_url())
    sides = [Side(loaded, keeper, {"calibrator": name}, {"model": model}) for name in (low, high)]
    found = compared(sides[0], sides[1], frozenset({metric}))
    whole = max((d for d in found.family(whole=True) if d.metric == metric), key=lambda d: d.n, default=None)
    if whole is None:
        return 0.0, 1.0, 0.0, 1 if found.same else 0
    return whole.change, whole.p, whole.p_least, whole.n

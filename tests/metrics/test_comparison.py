"""Paired comparisons: values by hand, level under many comparisons, and the regressions an average hides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from testbed import metrics
from testbed.calibration.inputs import softmax
from testbed.calibration.isotonic import Isotonic
from testbed.calibration.temperature import Temperature
from testbed.errors import UsageError
from testbed.metrics.calibration_error import Ece
from testbed.metrics.comparison import (
    Difference,
    breaches,
    compare,
    difference,
    flips,
    judged,
    parse_threshold,
    share_bounds,
    silent_regressions,
)
from testbed.metrics.families import corrected, divisor, holm
from testbed.metrics.paired_tests import changed, mcnemar, sign_flips
from testbed.metrics.power import mcnemar_power, mcnemar_visible, normal_power, normal_visible
from testbed.metrics.scores import Accuracy, Brier, Nll
from testbed.metrics.slices import by_slice, slices, worst


def sample(n: int, seed: int, sharpness: float = 3.0, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k))
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    return sharpness * z, y


def test_holm_by_hand() -> None:
    assert np.allclose(holm([0.04, 0.001, 0.02, 0.5]), [0.08, 0.004, 0.06, 0.5])
    assert np.isnan(holm([0.01, np.nan])[1])
    assert holm([0.01, np.nan])[0] == pytest.approx(0.01)


def test_holm_bounds_the_chance_of_any_false_finding() -> None:
    rng = np.random.default_rng(0)

    false = np.mean([(holm(rng.random(20)) < 0.05).any() for _ in range(2000)])

    assert false < 0.065


def test_a_test_that_cannot_reject_is_left_out_and_costs_the_others_nothing() -> None:
    least = [1e-9, 1e-9, *[0.03] * 50]

    found = corrected([0.01, 0.04, *[0.03] * 50], least)

    assert divisor(np.array(least)) == 2  # .05 / 2 is below .03, so two tests are left
    assert found.size == 2 and found.tested.tolist() == [True, True, *[False] * 50]
    assert found.p[:2] == pytest.approx([0.02, 0.04])
    assert np.isnan(found.p[2:]).all()


def test_tarone_by_brute_force() -> None:
    rng = np.random.default_rng(3)
    for size in (1, 2, 7, 40):
        least = 10 ** -rng.uniform(0, 4, size)
        q = next(q for q in range(1, size + 2) if (least <= 0.05 / q).sum() <= q)
        assert divisor(least) == q


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 11), (20, 20), (1, 9), (5, 0)])
def test_mcnemar_is_the_binomial_mid_p(lost: int, gained: int) -> None:
    from math import comb

    n, small = lost + gained, min(lost, gained)
    tail = sum(comb(n, i) for i in range(small + 1)) / 2**n
    expected = 1.0 if lost == gained else 2 * tail - comb(n, small) / 2**n

    assert mcnemar(lost, gained) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "lost", "p"), [(1, 1, 0.5), (3, 3, 0.125), (4, 3, 0.125), (5, 4, 0.0625)])
def test_a_few_lost_predictions_are_no_finding(n: int, lost: int, p: float) -> None:
    a = np.tile([0.6, 0.4], (n, 1))
    b = a.copy()
    b[:lost] = [0.4, 0.6]

    found = compare(
        {"accuracy": Accuracy(), "brier": Brier(), "ece": Ece()}, a, b, np.zeros(n, int), metrics.Draws(0, n)
    )

    assert found[0].p == found[0].p_least == p
    assert [d.verdict for d in found] == ["too few to tell"] * 3
    assert [d.p_least for d in found[1:]] == [1.0, 1.0]


@pytest.mark.parametrize("k", [1, 4, 9, 14])
def test_sign_flips_are_all_signs(k: int) -> None:
    """Exact up to ten differences; the saddlepoint is within 3 % of the enumeration at fourteen."""
    from itertools import product

    d = np.random.default_rng(k).exponential(size=k) * np.where(np.arange(k) % 5 == 3, -1, 1)
    sums = np.array(list(product((-1, 1), repeat=k))) @ np.abs(d)
    exact = float((np.abs(sums) >= abs(d.sum()) * (1 - 1e-12)).mean())

    assert sign_flips(d).p == pytest.approx(exact, rel=1e-9 if k <= 10 else 0.03)
    assert sign_flips(np.concatenate([d, np.zeros(20)])) == pytest.approx(sign_flips(d))


def test_sign_flips_reach_far_tails_and_are_never_zero() -> None:
    """A thousand differences of one sign: 2^(1 - k), not 0; half of them by hand against the normal law."""
    one_way = sign_flips(np.full(1000, 0.1))
    rng = np.random.default_rng(0)
    d = rng.normal(0.2, 1.0, 2000)
    normal = 2 * stats.norm.sf(abs(d.sum()) / np.sqrt((d * d).sum()))

    assert one_way.p == one_way.least == 2.0**-999
    assert sign_flips(np.full(5000, 0.1)).p > 0
    assert sign_flips(d).p == pytest.approx(normal, rel=0.3)


def test_rounding_is_no_difference() -> None:
    """The same network on another CPU: losses that all moved by 1e-7 in one direction."""
    z, y = sample(300, 0)
    p = softmax(z)
    q = softmax(z + 1e-7 * np.eye(4)[y])

    found = compare(
        {"nll": Nll(), "brier": Brier(), "ece": Ece(), "accuracy": Accuracy()}, p, q, y, metrics.Draws(0, 300)
    )

    assert [d.differing for d in found] == [0, 0, 0, 0]
    assert [d.verdict for d in found] == ["unclear"] * 4
    assert changed(np.array([30.0]), np.array([30.0002])).tolist() == [False]


def test_ece_swaps_are_the_definition() -> None:
    """Nine examples differ: all 2^9 swaps of the two models, each measured anew."""
    from itertools import product

    y = np.zeros(30, int)
    p = np.tile([0.7, 0.3], (30, 1))
    q = p.copy()
    q[:9, 0] = [0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.6]
    q[:9, 1] = 1 - q[:9, 0]
    observed = metrics.ece(q, y) - metrics.ece(p, y)
    values = []
    for signs in product((False, True), repeat=9):
        rows = np.flatnonzero(signs)
        a, b = p.copy(), q.copy()
        a[rows], b[rows] = q[rows], p[rows]
        values.append(metrics.ece(b, y) - metrics.ece(a, y))
    swapped = np.mean(np.abs(values) >= abs(observed) - 1e-12)

    (d,) = compare({"ece": Ece()}, p, q, y, metrics.Draws(0, 30, 200))

    assert d.differing == 9 and d.p < 0.1 and d.p_least == 2.0**-8
    assert d.p == pytest.approx(max(swapped, 2 * stats.norm.sf(abs(d.change) / d.error)), rel=1e-9)


def test_a_metric_without_cells_is_swapped_by_measuring_it() -> None:
    z, y = sample(200, 2)
    plain = type("Plain", (Ece,), {"cells": lambda *_: None})

    whole, slow = (
        difference("ece", one, "all", softmax(z), softmax(0.4 * z), y, metrics.Draws(0, 200, 200))
        for one in (Ece(), plain())
    )

    assert whole.change == slow.change
    assert max(whole.p, slow.p) < 0.01


def test_intervals_of_shares_are_never_empty() -> None:
    assert share_bounds(0, 0, 50) == pytest.approx((-0.0533, 0.0533), abs=1e-4)
    assert share_bounds(50, 0, 50)[0] == -1.0
    low, high = share_bounds(30, 10, 1000)
    assert (low, high) == pytest.approx((-0.0325, -0.0075), abs=2e-3)  # Wald's, of many changes


def test_power_is_that_of_all_tables() -> None:
    """Every number of lost and gained predictions of 20, with its multinomial chance."""
    from scipy.stats import multinomial

    n, lost, gained = 20, 0.05, 0.35
    expected = sum(
        multinomial.pmf([a, b, n - a - b], n, [lost, gained, 1 - lost - gained])
        for a in range(n + 1)
        for b in range(n + 1 - a)
        if mcnemar(a, b) <= 0.05
    )

    assert mcnemar_power(n, lost, gained) == pytest.approx(expected, rel=1e-9)


def test_power_of_five_points_at_three_hundred() -> None:
    """The exact test has .91 where one prediction in a hundred is lost and .56 where five are; mid-p has no less."""
    assert mcnemar_power(300, 0.01, 0.06) == pytest.approx(0.94, abs=0.01)
    assert mcnemar_power(300, 0.05, 0.10) == pytest.approx(0.62, abs=0.01)


def test_the_smallest_visible_change_is_seen_with_power_eight_tenths() -> None:
    for n, k, level in ((50, 3, 0.05), (300, 20, 0.00125), (2000, 100, 0.05)):
        change = mcnemar_visible(n, k, level)
        both = max(k / n, change)
        assert mcnemar_power(n, (both - change) / 2, (both + change) / 2, level) >= 0.8
        smaller = max(k / n, 0.9 * change)
        assert mcnemar_power(n, (smaller - 0.9 * change) / 2, (smaller + 0.9 * change) / 2, level) < 0.83
    assert np.isnan(mcnemar_visible(3, 1))
    assert normal_power(normal_visible(0.01, 0.01), 0.01, 0.01) == pytest.approx(0.8, abs=1e-6)


def test_a_method_against_itself_is_unclear_everywhere() -> None:
    z, y = sample(300, 0)
    p = softmax(z)

    found = compare(
        {"ece": Ece(), "nll": Nll(), "accuracy": Accuracy()}, p, p, y, metrics.Draws(0, 300, 200), slices(y)
    )

    assert {d.verdict for d in found} == {"unclear"}
    assert all(d.change == 0 and d.p == 1 for d in found if d.n >= 20)
    assert all(d.low < 0 < d.high for d in found if d.metric == "accuracy")


def test_difference_is_that_of_the_values_with_its_convention() -> None:
    (z, y), (fit, labels) = sample(1000, 0), sample(1000, 1)
    p, q = softmax(z), Temperature().fit(fit, labels).probs(z)

    (found,) = compare({"ece": Ece(10, "netcal")}, p, q, y, metrics.Draws(0, 1000, 300))

    assert found.before == pytest.approx(metrics.ece(p, y, 10, "netcal"))
    assert found.after == pytest.approx(metrics.ece(q, y, 10, "netcal"))
    assert found.change == pytest.approx(found.after - found.before)
    assert found.low < found.change < found.high < 0
    assert found.verdict == "better"
    assert "netcal, 10 bins" in found.convention
    assert "paired; swaps and bootstrap; bootstrap-percentile" in found.convention


def test_pairing_narrows_the_interval() -> None:
    z, y = sample(1000, 0)
    p, q = softmax(z), softmax(0.98 * z)
    draws = metrics.Draws(0, 1000, 500)
    (found,) = compare({"nll": Nll()}, p, q, y, draws)
    alone = Nll()(p, y, draws=draws)

    assert found.high - found.low < 0.1 * (alone.high - alone.low)


def test_false_regressions_are_rare_under_many_comparisons() -> None:
    alarms = 0
    for seed in range(40):
        z, y = sample(400, seed)
        rng = np.random.default_rng(10_000 + seed)
        p, q = (softmax(z + 0.2 * rng.normal(size=z.shape)) for _ in range(2))
        parts = slices(y, rng.integers(0, 5, 400))
        family = {"nll": Nll(), "brier": Brier(), "accuracy": Accuracy()}
        found = compare(family, p, q, y, metrics.Draws(seed, 400, 100), parts)
        alarms += any(d.verdict in ("better", "worse") for d in found)

    assert alarms <= 6


def test_isotonic_lowers_ece_while_nll_rises() -> None:
    (z, y), (fit, labels) = sample(4000, 0, sharpness=2.0, k=10), sample(400, 1, sharpness=2.0, k=10)
    after = Isotonic().fit(fit, labels).probs(z)

    found = compare({"ece": Ece(), "nll": Nll()}, softmax(z), after, y, metrics.Draws(0, 4000, 300))
    by_metric = {d.metric: d for d in found}

    assert by_metric["ece"].verdict == "better"
    assert by_metric["nll"].verdict == "worse"


def test_a_class_that_got_worse_under_a_better_average_is_found() -> None:
    z, y = sample(3000, 0, sharpness=3.0)
    before, after = softmax(z), softmax(z / 3)
    after[y == 2] = softmax(-z[y == 2])

    found = compare({"nll": Nll()}, before, after, y, metrics.Draws(0, 3000, 200), slices(y))

    assert [d.part for d in silent_regressions(found)] == (["class 2"] if found[0].verdict != "worse" else [])
    assert next(d for d in found if d.part == "class 2").verdict == "worse"


def test_silent_regressions_are_the_worse_parts_of_a_whole_that_is_not() -> None:
    def row(metric: str, part: str, verdict: str) -> Difference:
        return Difference(metric, part, 9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, verdict, "")  # type: ignore[arg-type]

    rows = [row("a", "all", "better"), row("a", "x", "worse"), row("b", "all", "worse"), row("b", "x", "worse")]

    assert silent_regressions(rows) == [rows[1]]


def test_flips_count_every_change() -> None:
    before = np.eye(3)[[0, 0, 0, 1, 1]]
    after = np.eye(3)[[0, 1, 2, 2, 0]]

    found = flips(before, after, np.array([0, 0, 2, 0, 0]))

    assert (found.lost, found.gained, found.moved, found.n) == (1, 2, 1, 5)


@pytest.mark.parametrize(
    ("text", "metric", "change"),
    [("ece:+0.01", "ece", 0.01), ("accuracy:-.02", "accuracy", -0.02), ("nll:+1e-3", "nll", 1e-3)],
)
def test_thresholds_are_read(text: str, metric: str, change: float) -> None:
    found = parse_threshold(text)

    assert (found.metric, found.change) == (metric, change)


@pytest.mark.parametrize("text", ["ece", "ece:0.01", "ece:+x", ":+1"])
def test_unreadable_thresholds_say_what_is_expected(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected METRIC:\+CHANGE"):
        parse_threshold(text)


def test_a_breach_is_beyond_the_threshold_and_significant() -> None:
    z, y = sample(2000, 0)
    found = compare({"nll": Nll(), "accuracy": Accuracy()}, softmax(z / 3), softmax(z), y, metrics.Draws(0, 2000, 200))

    assert [d.metric for d in breaches(parse_threshold("nll:+0.01"), found)] == ["nll"]
    assert breaches(parse_threshold("nll:+5"), found) == []
    assert breaches(parse_threshold("nll:-0.01"), found) == []
    assert breaches(parse_threshold("accuracy:-0.0001"), found) == []


def test_the_rate_of_any_false_finding_is_kept(families) -> None:
    assert families(50, long_tail=False, count=20) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 300, 2000])
@pytest.mark.parametrize("long_tail", [False, True])
def test_family_wise_rate_by_simulation(families, n: int, long_tail: bool) -> None:
    """At most .06 of 100 families of each kind, up to three standard errors (.07)."""
    assert families(n, long_tail=long_tail, count=100) / 100 <= 0.06 + 0.07


@pytest.fixture
def families():
    """`families(n, long_tail, count)`: in how many of `count` families of equal models anything was found."""

    def run(n: int, long_tail: bool, count: int) -> int:
        share = 0.5 ** np.arange(10) if long_tail else np.ones(10)
        found = 0
        for seed in range(count):
            rng = np.random.default_rng([seed, n])
            y = rng.choice(10, size=n, p=share / share.sum())
            z = 2 * (rng.normal(size=(n, 10)) + 2.5 * np.eye(10)[y])
            p, q = (softmax(z + rng.normal(size=z.shape)) for _ in range(2))
            family = {"accuracy": Accuracy(), "nll": Nll(), "brier": Brier(), "ece": Ece()}
            every = compare(family, p, q, y, metrics.Draws(seed, n, 100), slices(y))
            parts = judged([d for d in every if d.part != "all"])
            found += any(d.verdict in ("better", "worse") for d in parts)
        return found

    return run


def test_slices_by_class_and_group() -> None:
    z, y = sample(400, 0)
    groups = np.arange(400) % 3 - 1
    parts = slices(y, groups)

    found = by_slice(Accuracy(), softmax(z), y, parts, metrics.Draws(0, 400, 50))

    assert set(found) == {"class 0", "class 1", "class 2", "class 3", "group 0", "group 1"}
    assert sum(found[f"class {k}"].n for k in range(4)) == 400
    name, estimate = worst(found, higher_is_better=True)
    assert estimate.value == min(e.value for e in found.values())
    assert name in parts

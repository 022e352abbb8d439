"""Paired comparisons: values by hand, level under many comparisons, and the regressions an average hides."""

from __future__ import annotations

import numpy as np
import pytest

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
    flips,
    holm,
    mcnemar,
    parse_threshold,
    should_roll_back,
    silent_regressions,
)
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


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 11), (20, 20), (1, 9)])
def test_mcnemar_is_the_exact_binomial(lost: int, gained: int) -> None:
    from math import comb

    n, small = lost + gained, min(lost, gained)
    tail = sum(comb(n, i) for i in range(small + 1)) / 2**n

    assert mcnemar(lost, gained) == pytest.approx(min(1.0, 2 * tail))


def test_a_method_against_itself_is_unclear_everywhere() -> None:
    z, y = sample(300, 0)
    p = softmax(z)

    found = compare(
        {"ece": Ece(), "nll": Nll(), "accuracy": Accuracy()}, p, p, y, metrics.Draws(0, 300, 200), slices(y)
    )

    assert {d.verdict for d in found} == {"unclear"}
    assert all(d.change == d.low == d.high == 0 for d in found)


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
    assert "holm" in found.convention


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
        alarms += any(d.verdict != "unclear" for d in found)

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


def test_roll_back_only_on_evidence() -> None:
    z, y = sample(2000, 0)
    good, bad, draws = softmax(z / 3), softmax(z), metrics.Draws(0, 2000, 200)

    assert should_roll_back(Nll(), good, bad, y, draws)
    assert not should_roll_back(Nll(), bad, good, y, draws)
    assert not should_roll_back(Nll(), good, good, y, draws)


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

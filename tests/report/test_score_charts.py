"""Histograms and ROC curves of detector scores, against the stated AUROC and by hand."""

import numpy as np
import pytest

from testbed.report.load import read_run
from testbed.report.scores import MOST_PAIRS, histogram, roc, score_charts


@pytest.fixture(scope="module")
def charts(synthetic_run):
    return score_charts(read_run(synthetic_run))


def test_every_scored_pair_has_its_chart_clean_first(charts) -> None:
    found, left_out = charts
    assert len(found) == 13 * 2 * 2 and left_out == 0
    assert [chart["condition"] for chart in found[:8]] == ["clean"] * 8


def test_area_under_the_curve_is_the_stated_auroc(charts, synthetic_run) -> None:
    for row in read_run(synthetic_run).rows:
        if row["metric"] == "auroc" and row["condition"] == "clean":
            key = (row["model"], row["detector"], row["ood_set"], "clean")
            chart = next(c for c in charts[0] if (c["model"], c["detector"], c["ood_set"], c["condition"]) == key)
            assert np.trapezoid(chart["tpr"], chart["fpr"]) == pytest.approx(row["value"], abs=2e-3)


def test_operating_points_by_hand() -> None:
    inside, outside = np.arange(100.0), np.arange(50.0, 150.0)
    first, second = roc(inside, outside)["operating"]
    # 95 of 100 OOD scores are >= 55, as are 45 of 100 ID scores; 5 of 100 ID scores are >= 95, as are 55 OOD scores
    assert (first["tpr"], first["fpr"]) == (0.95, 0.45)
    assert (second["tpr"], second["fpr"]) == (0.55, 0.05)


def test_ties_move_both_rates_together() -> None:
    found = roc(np.zeros(4), np.zeros(4))
    assert found["fpr"] == [0, 1] == found["tpr"]


def test_nan_has_no_place_and_infinity_has() -> None:
    found = roc(np.array([0.0, np.nan]), np.array([np.inf, 1.0]))
    assert (found["fpr"], found["tpr"]) == ([0, 0, 0, 1], [0, 0.5, 1, 1])


def test_histogram_counts_what_it_leaves_out() -> None:
    found = histogram(np.array([0.0, 1.0, np.nan]), np.array([2.0, np.inf, -np.inf]))
    assert found["not_finite"] == 3
    assert sum(found["id"]) == pytest.approx(2 / 3, abs=1e-4) and sum(found["ood"]) == pytest.approx(1 / 3, abs=1e-4)


@pytest.mark.parametrize("scores", [np.zeros(3), np.full(3, np.nan), np.empty(0)])
def test_constant_empty_and_unusable_scores_have_a_histogram(scores) -> None:
    found = histogram(scores, scores)
    assert len(found["edges"]) == 41 and np.all(np.diff(found["edges"]) > 0)


def test_too_many_pairs_are_counted(monkeypatch, synthetic_run) -> None:
    monkeypatch.setattr("testbed.report.scores.MOST_PAIRS", 10)
    found, left_out = score_charts(read_run(synthetic_run))
    assert (len(found), left_out) == (10, 42) and MOST_PAIRS > 10


def test_thinning_keeps_the_ends() -> None:
    rng = np.random.default_rng(0)
    found = roc(rng.normal(size=5000), rng.normal(1, 1, 5000))
    assert len(found["fpr"]) < 200 and (found["fpr"][0], found["tpr"][-1]) == (0, 1)

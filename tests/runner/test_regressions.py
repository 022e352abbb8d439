"""regressions.parquet: what every calibrator changed, corrected over the run, and what got worse unseen."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from testbed.errors import UsageError
from testbed.grid.planner import plan
from testbed.metrics.bootstrap import Draws
from testbed.metrics.comparison import Difference, mean_difference
from testbed.metrics.recalibration import changes
from testbed.runner.regressions import judged


def row(part="all", metric="nll", change=0.1, p=1e-9, digest="a", calibrator="isotonic"):
    d = Difference(metric, part, 500, 0.0, change, change, 0.0, 1.0, p, p, "unclear", "", 1e-30, "sign flips", 0.01, 90)
    return vars(d) | {"digest": digest, "calibrator": calibrator}


def test_a_part_that_got_worse_while_the_whole_did_not_is_silent():
    found = judged([row(change=-0.1), row("class 1"), row("class 2", change=-0.1), row("class 3", p=0.5)])

    assert [one["verdict"] for one in found] == ["better", "worse", "better", "unclear"]
    assert [one["silent"] for one in found] == [False, True, False, False]


def test_a_part_of_a_set_that_got_worse_is_not_silent():
    assert [one["silent"] for one in judged([row(), row("class 1")])] == [False, False]


def test_a_condition_that_got_worse_while_the_mean_did_not_is_silent():
    found = judged(
        [row(change=-0.5), row(digest="b"), row(change=0.5, calibrator="beta"), row(digest="b", calibrator="beta")]
    )

    assert [one["silent"] for one in found] == [False, True, False, False]


def test_correction_is_over_the_run_and_each_family_apart():
    found = judged([row(p=0.02), row(p=0.03, digest="b"), row("class 1", p=0.04)])

    assert [one["p_holm"] for one in found] == pytest.approx([0.04, 0.04, 0.04])


def test_changes_of_means_have_students_interval_and_sign_flips():
    rng = np.random.default_rng(0)
    before, after = rng.exponential(size=80), rng.exponential(size=80) * 0.8

    got = mean_difference("nll", "all", before, after)

    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    flips = rng.choice([-1.0, 1.0], size=(20_000, 80)) @ (after - before)
    assert (got.low, got.high) == pytest.approx((low, high))
    assert got.p == pytest.approx((np.abs(flips) >= abs((after - before).sum())).mean(), abs=0.015)


def test_a_row_says_what_it_could_show():
    found = judged([row(p=0.9), row("class 1", p=0.9), row(p=None) | {"p_least": 1.0}])

    assert found[0]["visible"] == pytest.approx(0.028, abs=1e-3) and found[1]["visible"] is None
    assert found[2]["verdict"] == "too few to tell" and found[2]["p_holm"] is None


def test_under_no_change_false_alarms_stay_at_their_level():
    alarms = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(400, 3))
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        y = (p.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1).clip(0, 2)
        noisy = [np.exp(z + 0.2 * rng.normal(size=z.shape)) for _ in range(2)]
        a, b = (e / e.sum(axis=1, keepdims=True) for e in noisy)
        parts = {f"class {k}": np.flatnonzero(y == k) for k in range(3)}
        kept = np.ones(400, bool)
        found = [vars(d) | {"digest": "a"} for d in changes(a, b, y, parts, Draws(seed, 400, 200), (kept, kept))]
        alarms.append(any(one["verdict"] in ("better", "worse") for one in judged(found)))

    assert np.mean(alarms) < 0.2  # two families at 5 %


def test_a_grid_compares_every_calibrator_and_the_page_shows_it(runs, tiny):
    tiny |= {"compare": "none", "calibrators": ["none", "temperature", "isotonic"]}

    finished = runs(tiny, page=True)

    table = pq.read_table(finished.folder / "regressions.parquet").to_pylist()
    whole = {(one["calibrator"], one["condition"], one["metric"]): one for one in table if one["part"] == "all"}
    assert len(whole) == 2 * 2 * 5
    rows = {(r["calibrator"], r["condition"]): r["value"] for r in finished.table.to_pylist() if r["metric"] == "ece"}
    for (calibrator, condition, metric), one in whole.items():
        if metric == "ece":
            assert one["after"] == pytest.approx(rows[calibrator, condition])
            assert one["before"] == pytest.approx(rows["none", condition])
        if calibrator == "temperature" and metric == "accuracy":
            assert (one["change"], one["lost"], one["gained"]) == (0.0, 0, 0)
    assert {one["part"] for one in table} == {"all", *(f"class {k}" for k in range(10))}
    page = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert '"regressions"' in page and "What recalibration changed against" in page


def test_compare_must_name_a_calibrator_that_is_there(tiny):
    with pytest.raises(UsageError, match=r"compare: no calibrator 'non'.*none"):
        plan(tiny | {"compare": "non"})
    with pytest.raises(UsageError, match="the grid has no other"):
        plan(tiny | {"compare": "none", "calibrators": ["none"]})


def test_compare_adds_its_jobs_and_leaves_all_others(tiny):
    before, after = plan(tiny), plan(tiny | {"compare": "none"})

    assert {after.jobs[d].kind for d in set(after.jobs) - set(before.jobs)} == {"recalibrated"}
    assert set(before.jobs) < set(after.jobs)
    assert json.loads(after.to_json({}))["grid"]["compare"] == "none"

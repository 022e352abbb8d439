"""Which combination to deploy: criteria against the samples they come from, resamples against plain ones."""

import json
import re
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from testbed.cli import app, guarded
from testbed.errors import UsageError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.selection import may_be_best
from testbed.report.candidates import _auroc, latencies, pools
from testbed.report.load import read_run
from testbed.report.page import asset, page
from testbed.report.selection import ON_PAGE, notes, page_tables, parse_weights, selections, table_rows, verdict
from testbed.types import JOBS, JOBS_VERSION, arrow_schema


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_run):
    return write_run(tmp_path_factory.mktemp("run"), models=("standard", "adversarial", "robust"), images=False)


@pytest.fixture(scope="module")
def table(folder):
    return selections(read_run(folder), 400)[0]


def samples(folder, **where):
    rows = pq.read_table(folder / "samples.parquet").to_pylist()
    found = [r for r in rows if all(r[k] == v for k, v in where.items())]
    return sorted(found, key=lambda r: r["id"])


def right(rows, calibrator):
    return np.array([dict(r["decision"])[calibrator] == r["label"] for r in rows])


def measured(table, **where):
    (one,) = [c for c in table.candidates if all(getattr(c, k) == v for k, v in where.items())]
    return {name: m.value for name, m in one.measured.items()}


def test_criteria_are_what_the_samples_say(folder, table):
    of = {"dataset": "mnist5k", "model": "robust"}
    found = measured(table, model="robust", calibrator="temperature", detector="energy")
    clean = right(samples(folder, **of, condition="clean"), "temperature")
    worst = np.all([right(samples(folder, **of, condition=f"pgd linf {e}"), "temperature") for e in (0.1, 0.2, 0.3)], 0)
    eces = []
    for severity in (1, 3, 5):
        rows = samples(folder, **of, condition=f"fog s{severity}")
        p = np.array([dict(r["confidence"])["temperature"] for r in rows], dtype=np.float64)
        hit = right(rows, "temperature")
        gap = np.bincount(np.clip(np.ceil(p * 15).astype(int) - 1, 0, 14), p - hit)
        eces.append(np.abs(gap).sum() / len(p))
    inside = [dict(r["score"])["energy"] for r in samples(folder, **of, condition="clean")]
    aurocs = []
    for name in ("scrambled-patches", "gaussian"):
        outside = [dict(r["score"])["energy"] for r in samples(folder, dataset=name, model="robust", condition="clean")]
        aurocs.append(roc_auc_score([0] * len(inside) + [1] * len(outside), inside + outside))

    assert found["accuracy"] == pytest.approx(clean.mean())
    assert found["robust_accuracy"] == pytest.approx((worst & clean).mean())
    assert found["ece"] == pytest.approx(np.mean(eces))
    assert found["auroc"] == pytest.approx(np.mean(aurocs))


def test_resamples_of_auroc_against_plain_ones():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 6, 40).astype(float), rng.integers(2, 8, 30).astype(float)
    draws = Draws(0, 40, 25, "a")
    other = draws.other(30, "b")

    found = _auroc(inside, outside, draws, other)
    plain = [
        roc_auc_score([0] * 40 + [1] * 30, np.concatenate([inside[i], outside[j]]))
        for i, j in zip(draws.indices(), other.indices(), strict=True)
    ]

    assert found.replicates == pytest.approx(plain)
    assert found.value == pytest.approx(roc_auc_score([0] * 40 + [1] * 30, np.concatenate([inside, outside])))


def test_resamples_are_paired(table):
    """Combinations that differ in the detector alone have the same accuracy in every resample."""
    by = {(c.model, c.calibrator, c.detector): i for i, c in enumerate(table.candidates)}
    one, other = by["robust", "none", "msp"], by["robust", "none", "energy"]
    column = table.criteria.index("accuracy")

    assert np.array_equal(table.replicates[:, one, column], table.replicates[:, other, column])
    assert table.replicates[:, one, column].std() > 0


def test_who_was_not_measured_cannot_win(table):
    assert {c.model for c in table.candidates} == {"adversarial", "robust"}
    assert sum("standard" in reason and "pgd linf 0.3" in reason for reason in table.pool.left_out) == 3


def test_probabilities_sum_to_one_over_those_that_differ_and_follow_the_weights(table):
    for weights in ({}, {"accuracy": 1.0}, {"auroc": 2.0, "ece": 1.0}):
        found = table.chosen(weights)
        first = found.equals == np.arange(len(found.equals))
        assert found.probability[first].sum() == pytest.approx(1.0)
    best = table.chosen({"ece": 1.0}).best[0]
    assert table.values[best, table.criteria.index("ece")] == table.values[:, table.criteria.index("ece")].min()


def test_combinations_equal_in_all_that_counts_are_one(table):
    """By accuracy alone neither a detector nor temperature scaling makes another combination."""
    found = table.chosen({"accuracy": 1.0})
    column = table.values[:, table.criteria.index("accuracy")]
    assert len(set(found.equals.tolist())) == len(set(column.tolist())) < len(table.candidates)
    assert len(found.best) <= len(set(column.tolist()))
    assert "combinations)" in " ".join(n for n in notes(table, {"accuracy": 1.0}) if n.startswith("=:"))


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here to run the page's script")
def test_the_page_finds_the_same_set(table):
    """The script's set of those that may be best against Python's, on drawn utilities."""
    rng = np.random.default_rng(0)
    cases = []
    for m in (2, 5, 9):
        draws = rng.normal(scale=0.1, size=(200, m)) + rng.normal(scale=0.1, size=(200, 1))
        cases.append((rng.normal(scale=0.2, size=m), draws))
    cases.append((np.array([1.0, 2.0, 2.0]), np.zeros((9, 3)) + [1.0, 2.0, 2.0]))
    given = json.dumps([[x.tolist(), draws.tolist()] for x, draws in cases])
    code = f"{asset('selection.js')}\nconsole.log(JSON.stringify({given}.map(([x, d]) => mayBeBest(x, d))));"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [may_be_best(x, draws).tolist() for x, draws in cases]


def test_no_winner_is_named_where_two_may_be_best(table):
    for weights in ({}, {"accuracy": 1.0}, {"ece": 1.0}):
        said, best = verdict(table, weights), table.chosen(weights).best
        assert said.startswith("best: " if len(best) == 1 else f"no winner: {len(best)} of ")
        assert len(best) == 1 or not any(c.model in said for c in table.candidates)


def test_a_combination_beaten_in_everything_is_not_on_the_front(table):
    front = table.front()
    signs = np.where(table.higher, 1, -1)
    for i, values in enumerate(table.values * signs):
        beaten = [(o >= values).all() and (o > values).any() for o in table.values * signs]
        assert front[i] == (not any(beaten))


def test_latency_is_of_forward_passes_and_only_if_all_models_have_it(folder, tmp_path):
    def with_jobs(models):
        target = tmp_path / "-".join(models)
        target.mkdir()
        for name in ("results.parquet", "samples.parquet", "plan.json"):
            (target / name).write_bytes((folder / name).read_bytes())
        rows = [
            dict.fromkeys(JOBS) | {"kind": "forward", "model": m, "seconds": s, "forwards": 200}
            for m in models
            for s in (0.2, 0.4, 9.0)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(JOBS, JOBS_VERSION)), target / "jobs.parquet")
        return selections(read_run(target), 50)[0]

    both, one = with_jobs(["robust", "adversarial", "standard"]), with_jobs(["robust"])
    assert both.values[:, both.criteria.index("latency")] == pytest.approx(2.0)
    assert "latency" not in one.criteria and len(one.candidates) == len(both.candidates)


def test_weights_are_read_and_mistakes_named():
    assert parse_weights("accuracy=1,ece=0.5") == {"accuracy": 1.0, "ece": 0.5}
    assert parse_weights("equal") == {}
    for text, words in {
        "acuracy=1": "did you mean 'accuracy'",
        "accuracy": "criterion=weight",
        "accuracy=much": "'much' is not a number",
        "ece=-1": "at least 0",
        "ece=0": "above 0",
    }.items():
        with pytest.raises(UsageError, match=re.escape(words)):
            parse_weights(text)


def test_the_text_table_is_sorted_and_says_its_conventions(table, folder, capsys):
    head, rows = table_rows(table, {})
    order = [(row[0] == "", -float(row[-2])) for row in rows]
    assert head[0] == "may be best" and head[-2:] == ["utility", "P(best)"] and order == sorted(order)
    code = guarded(lambda: app(args=["report", str(folder), "--weights", "accuracy=2,ece=1"], prog_name="testbed"))
    printed = capsys.readouterr().out
    assert code == 0
    for words in ("may be best", "may be the best one (95 %)", "P(best)", "weights: accuracy 2"):
        assert words in printed
    assert "left out: standard" in printed and "mean over 3 shifts" in printed
    code = guarded(
        lambda: app(args=["report", str(folder), "--weights", "equal", "--table", "markdown"], prog_name="testbed")
    )
    assert code == 0 and "| --- |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given", [["--weights", "acc=1"], ["--weights", "latency=1"], ["--weights", "equal", "--live"]]
)
def test_a_mistake_on_the_command_line_is_exit_code_2(folder, given):
    assert guarded(lambda: app(args=["report", str(folder), *given], prog_name="testbed")) == 2


def test_the_page_has_the_table_with_its_resamples(folder, table):
    data = page_tables(read_run(folder))[0]
    assert data["dataset"] == "mnist5k" and len(data["candidates"]) == min(ON_PAGE, len(table.candidates))
    assert len(data["replicates"]) == 200 and len(data["replicates"][0][0]) == len(data["criteria"])
    assert data["candidates"][0]["front"]
    text = page(read_run(folder))
    inside = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert inside["selection"] == [data]


def test_a_run_without_samples_has_no_candidates_and_says_why(folder, tmp_path, capsys):
    for name in ("results.parquet", "plan.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert pools(read_run(tmp_path)) == []
    assert page_tables(read_run(tmp_path)) == []
    assert guarded(lambda: app(args=["report", str(tmp_path), "--weights", "equal"], prog_name="testbed")) == 2
    said = capsys.readouterr().err
    assert "no combination to choose from" in said and "robust: no samples on clean data" in said


def test_means_over_sets_and_seeds_are_not_sets(folder, table, tmp_path):
    """A group of OOD sets has a row for its mean, several training seeds have rows for theirs: neither has samples."""
    for name in ("samples.parquet", "plan.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    whole = pq.read_table(folder / "results.parquet")
    rows = whole.to_pylist()
    aurocs = [r for r in rows if r["metric"] == "auroc"]
    means = [r | {"ood_set": f"mean({group})", "group": group} for r in aurocs for group in ("near", "far")]
    seeds = [r | {"metric": f"{r['metric']}:seed_mean", "train_seed": None} for r in rows]
    aggregates = [r | {"kind": "aggregate", "condition": "all shifts"} for r in rows if r["ood_set"] is None]
    every = pa.Table.from_pylist([*means, *rows, *seeds, *aggregates], schema=whole.schema)
    pq.write_table(every, tmp_path / "results.parquet")
    (found,) = selections(read_run(tmp_path), 400)

    assert [c.name for c in found.candidates] == [c.name for c in table.candidates]
    assert found.pool.left_out == table.pool.left_out
    assert np.array_equal(found.values, table.values) and np.array_equal(found.replicates, table.replicates)
    assert guarded(lambda: app(args=["report", str(tmp_path), "--weights", "equal"], prog_name="testbed")) == 0


def test_latency_is_of_this_plans_jobs(folder, tmp_path):
    for name in ("results.parquet", "samples.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "plan.json").write_text(json.dumps({"jobs": [{"digest": "own"}, {"digest": "also"}]}))
    forward = dict.fromkeys(JOBS) | {"kind": "forward", "model": "net", "forwards": 100}
    took = [
        forward | {"digest": d, "seconds": s} for d, s in {"own": 1.0, "of another plan": 9.0, "also": None}.items()
    ]
    pq.write_table(pa.Table.from_pylist(took, schema=arrow_schema(JOBS, JOBS_VERSION)), tmp_path / "jobs.parquet")

    assert latencies(read_run(tmp_path)) == {"net": 10.0}

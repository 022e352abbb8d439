"""Detection in whole grids: what a cell holds is what the detector gives by hand on the same examples."""

import numpy as np
import pytest

from testbed.grid.planner import plan
from testbed.metrics.ood import auroc
from testbed.runner.operations import access
from testbed.runner.operations.attacks import picked
from testbed.runner.operations.models import classifier, tensor
from testbed.store import Store


@pytest.fixture
def detection(tiny):
    tiny["models"][0]["train"]["epochs"] = 2
    return tiny | {
        "conditions": ["clean", {"attack": ["fgsm", {"use": "pgd", "steps": 2}], "norm": "linf", "eps": 0.1}],
        "calibrators": ["none"],
        "detectors": [{"use": "odin", "eps": 0.01}],
        "ood": [{"use": "gaussian", "limit": 40, "group": "far"}],
        "metrics": ["auroc"],
    }


def by_label(planned, start):
    return next(job for job in planned.jobs.values() if job.label.startswith(start))


def test_a_network_detector_in_a_grid_is_the_detector_by_hand(detection, runs):
    from testbed.detection.odin import ODIN

    done = runs(detection)
    assert {row["status"] for row in done.table.to_pylist()} == {"ok"}
    planned, store = plan(runs.write(detection)), Store(str(runs.store))
    job = by_label(planned, "score odin on net clean")
    examples = access.whole(store, job.inputs["set"])
    model = classifier(job, store, "cpu")
    hand = ODIN(eps=0.01).score_network(model, tensor(examples), ids=examples.ids, batch=250)
    kept = store.tensors(job.digest, "scores")
    assert np.array_equal(kept["scores"], hand) and np.array_equal(kept["ids"], examples.ids)


def test_the_worst_case_takes_each_examples_score_from_the_attack_that_stands_for_it(detection, runs):
    done = runs(detection)
    planned, store = plan(runs.write(detection)), Store(str(runs.store))
    job = by_label(planned, "pick odin")
    sets = [access.outputs(store, digest) for digest in job.inputs["outputs"]]
    parts = np.stack([store.tensors(digest, "scores")["scores"] for digest in job.inputs["scores"]])
    expected = parts[picked(sets), np.arange(parts.shape[1])]
    assert np.array_equal(store.tensors(job.digest, "scores")["scores"], expected)
    outside = store.tensors(by_label(planned, "score odin on gaussian").digest, "scores")["scores"]
    (row,) = [r for r in done.table.to_pylist() if r["condition"] == "worst"]
    assert row["value"] == auroc(expected, outside)


def test_a_network_that_cannot_serve_a_detector_says_why_in_the_cell(detection, runs):
    done = runs(
        detection | {"detectors": ["mc_dropout", "msp"]},
    )
    rows = done.table.to_pylist()
    assert {r["status"] for r in rows if r["detector"] == "msp"} == {"ok"}
    failed = [r for r in rows if r["detector"] == "mc_dropout"]
    assert all("no dropout module" in r["error"] for r in failed) and failed


def scores(store, planned, label):
    return store.tensors(by_label(planned, label).digest, "scores")["scores"]


def test_means_over_sets_pooled_sets_and_failures_are_what_their_scores_say(detection, runs, look):
    detection |= {
        "conditions": ["clean", {"shift": "gaussian_noise", "severity": 3}],
        "full_spectrum": True,
        "calibrators": ["none", "vector"],
        "detectors": ["msp", "knn"],
        "ood": [{"use": ["gaussian", "uniform"], "limit": 40, "group": "far"}],
        "metrics": ["auroc", "fpr95", "oscr", "aurc_ood"],
    }
    done = runs(detection)
    planned, store = plan(runs.write(detection)), Store(str(runs.store))
    clean, noisy = (scores(store, planned, f"score knn on net {c}") for c in ("clean", "gaussian_noise s3"))
    outside = [scores(store, planned, f"score knn on {name}") for name in ("gaussian", "uniform")]
    mine = {"detector": "knn", "calibrator": "none", "metric": "auroc"}
    (mean,) = look.rows(done, **mine, ood_set="mean(far)", condition="clean")
    assert mean["value"] == pytest.approx(np.mean([auroc(clean, s) for s in outside]), abs=1e-12)
    (pooled,) = look.rows(done, **mine, ood_set="gaussian", condition="full_spectrum")
    assert pooled["value"] == pytest.approx(auroc(np.r_[clean, noisy], outside[0]), abs=1e-12)
    (fpr,) = look.rows(done, **mine | {"metric": "fpr95"}, ood_set="mean(far)", condition="full_spectrum")
    assert "taken as independent" in fpr["flags"] and fpr["n"] == 2 * 100 + 2 * 40
    for calibrator in ("none", "vector"):
        (accuracy,) = look.rows(
            runs(detection | {"metrics": ["accuracy"], "detectors": [], "ood": [], "full_spectrum": False}),
            calibrator=calibrator,
            condition="clean",
        )
        (oscr,) = look.rows(
            done, detector="knn", metric="oscr", ood_set="gaussian", condition="clean", calibrator=calibrator
        )
        assert 0 < oscr["value"] <= accuracy["value"]


def test_seed_rows_are_mean_and_standard_deviation_of_the_seeds_rows(detection, runs, look):
    detection |= {
        "conditions": ["clean"],
        "train_seeds": [0, 1],
        "detectors": ["msp"],
        "metrics": ["accuracy", "auroc"],
    }
    done = runs(detection)
    for metric in ("accuracy", "auroc"):
        values = [row["value"] for row in look.rows(done, metric=metric)]
        (mean,), (std,) = (look.rows(done, metric=f"{metric}:{what}") for what in ("seed_mean", "seed_std"))
        assert mean["value"] == pytest.approx(np.mean(values)) and mean["train_seed"] is None
        assert std["value"] == pytest.approx(np.std(values, ddof=1)) and std["ci_low"] is None


def test_a_tuned_detector_takes_the_best_trial_and_says_so(detection, runs, look):
    from testbed.detection.knn import KNN

    detection |= {
        "conditions": ["clean"],
        "detectors": [{"use": "knn", "tune": {"on": "uniform", "limit": 60, "sweep": {"k": [1, 20, 601]}}}],
    }
    done = runs(detection)
    planned, store = plan(runs.write(detection)), Store(str(runs.store))
    train, inside, outside, test = (
        access.outputs(store, by_label(planned, f"forward net on {name}").digest)
        for name in ("train", "calibration", "uniform", "clean")
    )
    by_hand = {}
    for k in (1, 20):
        fitted = KNN(k=k).fit(train)
        by_hand[k] = auroc(fitted.score(inside), fitted.score(outside))
    best = max(by_hand, key=by_hand.get)
    (row,) = look.rows(done, metric="auroc")
    assert row["flags"] == f"tuned:k={best} (auroc {by_hand[best]:.4f} on the tuning set)"
    assert row["fit"] == "train; tuned on uniform"
    expected = KNN(k=best).fit(train).score(test)
    assert np.array_equal(scores(store, planned, "score knn on net clean"), expected)
    trials = store.require(by_label(planned, "tune knn").digest).meta["trials"]
    assert [t["params"] for t in trials] == [{"k": 1}, {"k": 20}, {"k": 601}]
    assert trials[2]["auroc"] is None and "the bank has 600 rows" in trials[2]["error"]


def test_only_sets_with_scores_of_their_own_have_score_charts(detection, runs):
    from testbed.report.load import read_run
    from testbed.report.scores import score_charts

    shift = {"shift": "gaussian_noise", "severity": 3}
    ood = [{"use": ["gaussian", "uniform"], "limit": 40, "group": "far"}]
    run = runs(detection | {"conditions": ["clean", shift], "full_spectrum": True, "detectors": ["msp"], "ood": ood})
    charts, left_out = score_charts(read_run(run.folder))
    assert left_out == 0
    assert {(c["condition"], c["ood_set"]) for c in charts} == {
        (condition, name) for condition in ("clean", "gaussian_noise s3") for name in ("gaussian", "uniform")
    }

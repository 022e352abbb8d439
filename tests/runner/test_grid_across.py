"""Rows over several conditions, and over groups, in grids: they are what the single rows say."""

import numpy as np
import pytest

from testbed.errors import UsageError

METRICS = [
    "accuracy",
    "ece",
    "mean_error",
    {"use": "mean_over_shifts", "of": "ece"},
    "worst_shift",
    {"use": "mean_corruption_error", "baseline": "net"},
    {"use": "relative_robustness", "baseline": "net"},
    {"use": "worst_group_accuracy", "by": "class"},
]


@pytest.fixture
def shifted(tiny):
    tiny["models"].append({**tiny["models"][0], "name": "wide", "width": 24})
    tiny["conditions"] = ["clean", {"shift": ["gaussian_noise", "contrast"], "severity": [2, 5]}]
    tiny["metrics"] = METRICS
    return tiny


def test_aggregates_are_means_of_the_rows_of_single_conditions(shifted, runs, look):
    finished = runs(shifted)
    assert finished.outcome.ok

    for name in ("none", "temperature"):
        for net in ("net", "wide"):
            mine = {"model": net, "calibrator": name}
            rows = {m: look.rows(finished, kind="shift", metric=m, **mine) for m in ("accuracy", "ece")}
            of = {
                m: look.rows(finished, condition="all shifts", metric=m, **mine)
                for m in (
                    "mean_error",
                    "mean_over_shifts",
                    "worst_shift",
                    "relative_robustness",
                    "mean_corruption_error",
                )
            }
            accuracy = [row["value"] for row in rows["accuracy"]]
            assert len(accuracy) == 4 and all(len(one) == 1 for one in of.values())
            got = {m: one[0]["value"] for m, one in of.items()}
            assert got["mean_error"] == pytest.approx(1 - np.mean(accuracy))
            assert got["mean_over_shifts"] == pytest.approx(np.mean([row["value"] for row in rows["ece"]]))
            assert got["worst_shift"] == pytest.approx(min(np.mean(accuracy[:2]), np.mean(accuracy[2:])))
            if net == "net":
                assert (got["relative_robustness"], got["mean_corruption_error"]) == (0, 1)
            whole = of["mean_error"][0]
            assert whole["kind"] == "aggregate" and whole["ci_low"] < whole["value"] < whole["ci_high"]


def test_a_new_aggregate_runs_no_forward_pass(shifted, runs, look):
    runs(shifted)
    shifted["metrics"] = [*METRICS, {"use": "effective_robustness", "baselines": ["net", "wide"]}]

    assert set(look.started(runs(shifted))) == {"aggregate"}


def test_what_an_aggregate_lacks_is_a_problem_of_the_grid(shifted, runs):
    shifted["metrics"] = [
        {"use": "mean_error", "which": 15},
        {"use": "relative_robustness", "baseline": "wid"},
        {"use": "mean_over_shifts", "of": "auroc"},
        "worst_group_accuracy",
    ]

    with pytest.raises(UsageError) as caught:
        runs(shifted)
    text = str(caught.value)
    for words in (
        "severities 1 to 5 of each of 15 corruptions",
        "no model 'wid' in this grid; did you mean 'wide'",
        "'auroc' is not a metric of one condition",
        "data set 'digits' has no groups",
    ):
        assert words in text


def test_groups_of_a_users_file_are_scored(shifted, runs, look, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8), "labels": rng.integers(0, 3, 300)}
    np.savez(tmp_path / "mine.npz", **arrays, place=np.arange(300) % 2)
    shifted |= {
        "data": [{"use": "npz", "path": str(tmp_path / "mine.npz"), "groups": "place", "train": 100, "test": 100,
                  "calibration": 50}],
        "metrics": ["worst_group_accuracy"],
    }  # fmt: skip
    found = look.rows(runs(shifted), condition="clean", calibrator="none", model="net")[0]

    assert found["status"] == "ok" and "lowest of 2 by group" in found["convention"] and found["n"] == 100


def test_a_second_set_stands_for_the_first_in_a_chain_of_shifts_and_an_attack(tiny, runs, look):
    second = {"shift": {"use": "second_set", "of": "mnist5k", "limit": 60}}
    fog, fgsm = {"shift": "fog", "severity": 1}, {"attack": "fgsm", "eps": 0.05}
    tiny["conditions"] = [
        "clean",
        {**second, "name": "mnist"},
        {"chain": [second, fog, {"shift": "contrast", "severity": 1}, fgsm], "name": "mnist, fog, contrast, fgsm"},
        {"chain": [{"shift": {"use": "class_subset", "classes": [1, 2]}, "severity": 5}, fgsm], "name": "two classes"},
    ]
    tiny["ood"] = [{"use": "gaussian", "limit": 30, "condition": fog}]
    tiny |= {"detectors": ["msp"], "metrics": ["accuracy", "subset_accuracy", "auroc"], "runtime": {"shard": 25}}
    finished = runs(tiny)

    assert finished.outcome.ok
    rows = {row["condition"]: row for row in look.rows(finished, metric="accuracy", calibrator="none")}
    assert rows["mnist"]["n"] == rows["mnist, fog, contrast, fgsm"]["n"] == 60 and rows["mnist"]["severity"] is None
    assert rows["mnist, fog, contrast, fgsm"]["value"] <= rows["mnist"]["value"]
    subset = look.rows(finished, metric="subset_accuracy", calibrator="none", condition="two classes")[0]
    assert subset["value"] >= rows["two classes"]["value"] and subset["n"] < 60


@pytest.fixture
def filmed(tiny):
    tiny["models"].append({**tiny["models"][0], "name": "wide", "width": 24})
    tiny["data"][0]["test"] = 30
    tiny["conditions"] = ["clean", {"shift": ["tilt_sequence", "gaussian_noise_sequence"]}]
    tiny["metrics"] = ["accuracy", "flip_probability", "top5_distance", "mean_flip_probability"]
    tiny["metrics"] += [{"use": "mean_flip_rate", "baseline": "net"}, {"use": "mean_top5_distance", "baseline": "net"}]
    return tiny


def test_sequences_run_end_to_end(filmed, runs, look):
    finished = runs(filmed)
    assert finished.outcome.ok

    flips = {
        (row["model"], row["condition"]): row
        for row in look.rows(finished, metric="flip_probability", calibrator="none")
    }
    assert len(flips) == 4 and all(row["n"] == 30 and row["severity"] is None for row in flips.values())
    for net in ("net", "wide"):
        mine = [row["value"] for (model, _), row in flips.items() if model == net]
        mean = look.rows(finished, metric="mean_flip_probability", model=net, calibrator="none")[0]
        assert mean["condition"] == "all sequences" and mean["value"] == pytest.approx(np.mean(mine))
    assert look.rows(finished, metric="mean_flip_rate", model="net", calibrator="none")[0]["value"] == 1
    assert not look.rows(finished, metric="accuracy", condition="tilt_sequence")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ["accuracy"]}, "of which no metric is asked for; add flip_probability"),
        ({"conditions": ["clean"], "metrics": ["flip_probability"]}, "needs a perturbation sequence"),
        ({"conditions": [{"chain": [{"shift": "tilt_sequence"}, {"shift": "fog"}]}]}, "must be the last step"),
        (
            {"calibrators": [{"use": "temperature", "fit": {"shift": "tilt_sequence"}}]},
            "be a condition of the test",
        ),
    ],
)
def test_what_cannot_be_done_with_a_sequence_is_a_problem_of_the_grid(filmed, runs, changes, words):
    with pytest.raises(UsageError, match=words):
        runs({**filmed, **changes})

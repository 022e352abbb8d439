"""Figures from the probabilities behind a run: ensembles, failure prediction, ratios, flips and claims."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import testbed
from testbed.errors import DataError
from testbed.papers import stored
from testbed.papers.cells import Cells, parse

GRID = {
    "name": "cells",
    "data": [{"use": "digits", "train": 300, "calibration": 100, "test": 200}],
    "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}}],
    "train_seeds": [0, 1, 2],
    "conditions": ["clean", {"shift": "gaussian_noise", "severity": 5, "name": "noisy"}],
    "calibrators": ["none", {"use": "histogram", "bins": 2}],
    "detectors": ["msp", "energy", "maxlogit", "entropy"],
    "ood": [{"use": "gaussian", "n": 100, "group": "far"}, {"use": "uniform", "n": 100, "group": "far"}],
    "metrics": ["accuracy", "nll", "brier", "auroc"],
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The cells of a small run."""
    folder = tmp_path_factory.mktemp("cells")
    testbed.evaluate(GRID, out=folder / "run", store=str(folder / "store"), executor="serial")
    return Cells.of(folder / "run", str(folder / "store"))


def probabilities(cells, seed, condition="clean"):
    side = cells.only({"metric": "nll", "train_seed": str(seed), "calibrator": "none", "condition": condition})
    return side.p, side.y


def test_words_of_a_line() -> None:
    assert parse("metric=nll 'condition=rotated 15' / members=all") == (
        {"metric": "nll", "condition": "rotated 15"},
        [{"members": "all"}],
    )
    with pytest.raises(DataError, match="expected COLUMN=PATTERN"):
        parse("nll")


def test_an_ensemble_is_the_mean_of_probabilities(cells) -> None:
    members = [probabilities(cells, seed) for seed in (0, 1, 2)]
    p, y = np.mean([p for p, _ in members], axis=0), members[0][1]

    found = stored.metric(cells, "metric=nll calibrator=none condition=clean members=all")
    alone = stored.metric(cells, "metric=nll calibrator=none condition=clean train_seed=1")

    assert found.value == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean()) and found.n == 200
    assert found.low < found.value < found.high and found.note == "3 members"
    assert alone.value == pytest.approx(-np.log(members[1][0][np.arange(len(y)), y]).mean()) and alone.note == ""


def test_failure_prediction_against_sklearn(cells) -> None:
    p, y = probabilities(cells, 0, "noisy")
    wrong, doubt = p.argmax(1) != y, -p.max(1)
    words = "metric=nll calibrator=none train_seed=0 condition=noisy"

    auroc = stored.failure(cells, words)
    assert auroc.value == pytest.approx(roc_auc_score(wrong, doubt)) and auroc.low < auroc.value < auroc.high
    assert auroc.note == f"{wrong.sum()} errors"
    right = average_precision_score(~wrong, -doubt)
    assert stored.failure(cells, words + " area=aupr_wrong").value == pytest.approx(
        average_precision_score(wrong, doubt)
    )
    assert stored.failure(cells, words + " area=aupr_right").value == pytest.approx(right)


def test_ratio_and_flips(cells) -> None:
    words = "metric=brier calibrator=none train_seed=0 / condition=noisy / condition=clean"
    (p, y), (q, _) = probabilities(cells, 0, "noisy"), probabilities(cells, 0)
    brier = [((one - np.eye(10)[y]) ** 2).sum(1).mean() for one in (p, q)]

    found = stored.ratio(cells, words)
    assert found.value == pytest.approx(brier[0] / brier[1]) and found.low < found.value < found.high
    assert stored.flips(cells, words).value == (p.argmax(1) != q.argmax(1)).sum() > 0
    same = "metric=brier calibrator=none train_seed=0 / condition=clean / condition=clean"
    assert stored.flips(cells, same).value == 0 and stored.ratio(cells, same)[:3] == (1, 1, 1)


def test_a_claim_is_reversed_only_where_the_test_says_so(cells) -> None:
    """Noise raises Brier; that the noisy set has the lower one is reversed, that the clean one has is proved."""
    words = "metric=brier calibrator=none train_seed=0 / condition={} / condition={}"
    wrong = stored.lower(cells, words.format("noisy", "clean"))
    assert wrong.value == 1 and wrong.note == "significantly so on 0 of 1 sets; reversed: digits"
    right = stored.lower(cells, words.format("clean", "noisy"))
    assert right.value == 0 and right.note == "significantly so on 1 of 1 sets"
    tied = stored.lower(cells, "metric=brier calibrator=none / train_seed=0 / train_seed=0")
    assert tied.value == 0 and tied.note == "significantly so on 0 of 2 sets"


def test_a_difference_of_two_sets_has_newcombes_interval(cells) -> None:
    """Against the intervals of the two rows; swapped sides swap and change the sign of the ends."""
    words = "metric=accuracy calibrator=none train_seed=0 / condition={} / condition={}"
    pick = {"metric": "accuracy", "calibrator": "none", "train_seed": "0"}
    a, b = (cells.rows({**pick, "condition": name})[0] for name in ("clean", "noisy"))

    found, back = (stored.difference(cells, words.format(*p)) for p in (("clean", "noisy"), ("noisy", "clean")))

    assert found.value == pytest.approx(a["value"] - b["value"]) and found.n == 200
    squares = (a["value"] - a["ci_low"]) ** 2 + (b["ci_high"] - b["value"]) ** 2
    assert found.low == pytest.approx(found.value - squares**0.5)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    with pytest.raises(DataError, match="3 rows of the run meet one side"):
        stored.difference(cells, "metric=accuracy calibrator=none / condition=clean / condition=noisy")


def test_means_over_sets_and_ranks_against_a_printed_column(cells) -> None:
    """Over two sets and three seeds; detectors printed in our own order agree by 1, in the opposite one by -1."""
    names = ("msp", "energy", "maxlogit", "entropy")
    words = "metric=auroc 'ood_set=mean(far)' calibrator=none condition=clean detector="
    ours = {name: stored.mean(cells, words + name) for name in names}
    pick = {"metric": "auroc", "detector": "msp", "calibrator": "none", "condition": "clean", "ood_set": "[gu]*"}
    rows = [row["value"] for row in cells.rows(pick)]
    assert len(rows) == 6 and ours["msp"].value == pytest.approx(np.mean(rows)) and ours["msp"].note == "mean of 3"
    assert ours["msp"].low < ours["msp"].value < ours["msp"].high and len({f.value for f in ours.values()}) == 4
    for sign in (1, -1):
        printed = " ".join(f"{name}={sign * found.value}" for name, found in ours.items())
        found = stored.ranks(cells, f"metric=auroc 'ood_set=mean(far)' calibrator=none condition=clean / {printed}")
        assert found.value == pytest.approx(sign) and found.n == 4
    with pytest.raises(DataError, match="at least 4 detectors"):
        stored.ranks(cells, "metric=auroc / msp=1")


@pytest.mark.parametrize(
    ("function", "words", "says"),
    [
        ("metric", "metric=nll calibrator=none condition=clean", "3 cells of the run meet"),
        ("metric", "metric=nll calibrator=none train_seed=0", "2 sets of the run meet"),
        ("metric", "metric=nll model=other", "no row of the run meets"),
        ("metric", "metric=nll / train_seed=0", "expected 0 sides behind slashes, got 1"),
        ("lower", "metric=nll / train_seed=0", "expected 2 sides behind slashes, got 1"),
        ("metric", "calibrator=none train_seed=0 condition=clean ood_set=", "expected one of accuracy, nll, brier"),
    ],
)
def test_words_that_mean_nothing_are_errors(cells, function, words, says) -> None:
    with pytest.raises(DataError, match=says):
        stored.FUNCTIONS[function](cells, words)

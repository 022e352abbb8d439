"""`testbed compare` on a real small run: what is paired, what is a regression, and which exit code follows."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from testbed.cli import app, guarded
from testbed.errors import UsageError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.comparison import Difference
from testbed.results import paired
from testbed.store import Store

GRID = """
name: small
data: [{use: digits, train: 300, calibration: 300, test: 400}]
models: [{use: small-cnn, name: net, train: {recipe: standard, epochs: 2}}]
conditions: [clean, {shift: gaussian_noise, severity: 5}]
calibrators: [none, temperature, {use: histogram, bins: 2, name: coarse}]
detectors: [msp]
ood: [{use: gaussian, limit: 200}]
metrics: [accuracy, ece, nll, brier, auroc]
intervals: {replicates: 300}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Run folder and store of the grid above."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "grid.yaml").write_text(GRID)
    paths = ["--out", str(folder / "run"), "--store", str(folder / "store")]
    arguments = ["run", str(folder / "grid.yaml"), *paths, "--executor", "serial", "--no-report"]
    assert guarded(lambda: app(args=arguments, prog_name="testbed")) == 0
    return folder


@pytest.fixture
def compare(small, testbed_command):
    """`compare("none", "coarse", ...)`: the two calibrators of the run."""

    def run(before: str, after: str, *more: str):
        sides = ["--before", f"calibrator={before}", "--after", f"calibrator={after}", "--store", small / "store"]
        return testbed_command("compare", small / "run", small / "run", *sides, *more)

    return run


def test_a_run_is_identical_to_itself(small, testbed_command) -> None:
    ended = testbed_command("compare", small / "run", small / "run", "--store", small / "store")
    assert ended.code == 0 and "0 cells compared" in ended.out


def test_a_calibrator_that_ruins_nll_fails_the_pipeline(compare) -> None:
    """Two bins for ten classes: NLL rises beyond any doubt."""
    ended = compare("none", "coarse", "--fail-on", "nll:+0.05")
    assert ended.code == 1
    assert re.search(r"regression: digits · net · clean( †)?: nll", ended.out)


def test_a_threshold_that_is_not_reached_passes(compare) -> None:
    assert compare("none", "coarse", "--fail-on", "nll:+50").code == 0


def test_the_way_back_is_no_regression(compare) -> None:
    assert compare("coarse", "none", "--fail-on", "nll:+0.05").code == 0


def test_temperature_keeps_accuracy_exactly(compare) -> None:
    ended = compare("none", "temperature", "--fail-on", "accuracy:-0.0001", "--fail-on", "worst_group_accuracy:-0.0001")
    assert ended.code == 0 and "+0.0000 [-0.0069, +0.0069]" in ended.out
    assert "Changed predictions: none" in ended.out


def test_values_are_those_of_results(compare, small, testbed_command) -> None:
    sql = "SELECT calibrator, value FROM results WHERE metric = 'brier' AND condition = 'clean'"
    stated = {
        r["calibrator"]: r["value"] for r in json.loads(testbed_command("query", sql, small / "run", "--json").out)
    }
    ended = compare("none", "coarse", "--where", "kind=clean", "--fail-on", "brier:+9")
    assert f"{stated['none']:.4f}" in ended.out and f"{stated['coarse']:.4f}" in ended.out
    assert "1 cells compared" in ended.out


def test_markdown_has_tables(compare) -> None:
    ended = compare("none", "coarse", "--markdown", "--where", "kind=clean")
    assert "### Whole sets" in ended.out and "| --- |" in ended.out and "auroc" in ended.out


def test_thresholds_from_a_file(compare, tmp_path) -> None:
    (tmp_path / "bars.yaml").write_text("nll: +0.05\nece: 0.5\n")
    assert compare("none", "coarse", "--thresholds", tmp_path / "bars.yaml").code == 1
    (tmp_path / "bars.yaml").write_text("- nll")
    assert compare("none", "coarse", "--thresholds", tmp_path / "bars.yaml").code == 2
    assert compare("none", "coarse", "--thresholds", tmp_path / "absent.yaml").code == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--fail-on", "eec:+0.1"], "did you mean 'ece'"),
        (["--fail-on", "ece 0.1"], "METRIC:+CHANGE"),
        (["--where", "knd=clean"], "'kind'"),
        (["--where", "kind"], "name=value"),
    ],
)
def test_wrong_usage_says_what_is_right(compare, more, says) -> None:
    ended = compare("none", "coarse", *more)
    assert ended.code == 2 and says in ended.err


def test_nothing_shared_says_what_to_pick(small, testbed_command) -> None:
    sides = ["--before", "calibrator=none", "--after", "calibrator=absent"]
    ended = testbed_command("compare", small / "run", small / "run", *sides, "--store", small / "store")
    assert ended.code == 2 and "share no cell" in ended.err


def test_cells_that_are_not_told_apart_are_refused(small, testbed_command) -> None:
    ended = testbed_command(
        "compare", small / "run", small / "run", "--after", "calibrator=none", "--store", small / "store"
    )
    assert ended.code == 2 and "pick one calibrator" in ended.err


def test_another_store_is_a_clear_error(small, testbed_command, tmp_path) -> None:
    sides = ["--before", "calibrator=none", "--after", "calibrator=coarse"]
    ended = testbed_command("compare", small / "run", small / "run", *sides, "--store", tmp_path / "empty")
    assert ended.code == 1 and "--store" in ended.err


def test_worst_group_by_hand() -> None:
    """Class 0: 1 of 2 right; class 1: 2 of 2. Group 5: 2 of 3; group 6: 1 of 1; a negative group is none."""
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.2, 0.8], [0.4, 0.6], [0.9, 0.1]])
    labels = np.array([0, 0, 1, 1, 1])
    assert paired.WorstGroup().measure(probs[:4], labels[:4], Draws(0, 4, 50)).value == 0.5
    measured = paired.WorstGroup((5, 5, 5, 6, -1)).measure(probs, labels, Draws(0, 5, 50))
    assert measured.value == pytest.approx(2 / 3)
    assert measured.replicates.shape == (50,) and measured.replicates.min() >= 0 and measured.replicates.max() <= 1


def difference(part: str, p: float) -> Difference:
    """A difference with this raw p-value."""
    ends = (0.0, 1.0, 1.0, 0.0, 1.0)
    return Difference("ece", part, 100, *ends, p, p, "unclear", "", 1e-9, "swaps", 0.5, 60)


def test_whole_sets_and_parts_are_two_families() -> None:
    parts = tuple(difference(f"class {k}", 0.04) for k in range(10))
    (one,) = paired.corrected([paired.Compared("x", (difference("all", 0.04), *parts))])
    assert one.differences[0].p_holm == 0.04 and one.differences[0].verdict == "worse"
    assert one.differences[1].p_holm == pytest.approx(0.4) and one.differences[1].verdict == "unclear"


def test_families_and_the_smallest_visible_change_are_said(compare) -> None:
    ended = compare("none", "temperature", "--fail-on", "accuracy:-0.02", "--fail-on", "ece:+0.5")
    assert "family of whole sets: 4 tests, 0 too few to tell" in ended.out
    assert "family of parts: 40 tests, " in ended.out
    assert re.search(r"no difference found; shows 0\.0\d", ended.out)
    assert re.search(r"net · clean( †)?: a change of accuracy by -0\.02 is found with power 0\.\d\d", ended.out)


def test_one_recipe_on_another_cpu_is_no_regression(small, testbed_command, tmp_path) -> None:
    """The same grid in another store, its outputs rounded otherwise: other bytes, one recipe, nothing to report."""
    shutil.copytree(small / "run", tmp_path / "run")
    paths = ["--out", tmp_path / "run", "--store", tmp_path / "store", "--executor", "serial", "--no-report"]
    assert testbed_command("run", small / "grid.yaml", *paths).code == 0
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    plan["provenance"]["cpu"]["vector"] = []
    (tmp_path / "run" / "plan.json").write_text(json.dumps(plan))
    other = Store(str(tmp_path / "store"))
    for row in pq.read_table(tmp_path / "run" / "results.parquet").to_pylist():
        path = tmp_path / "store" / "manifests" / row["digest"][:2] / f"{row['digest']}.json"
        found = other.manifest(row["digest"])
        path.write_bytes(replace(found, meta={**found.meta, "rounded": True}).to_bytes())
    sides = ["--store", small / "store", "--store-after", tmp_path / "store"]
    ended = testbed_command("compare", small / "run", tmp_path / "run", *sides)
    assert ended.code == 0
    assert "0 cells compared, 12 of one recipe" in ended.out and "of one recipe hold other bytes" in ended.out
    assert "CPU classes differ" in ended.out


def test_picks_are_known_columns() -> None:
    with pytest.raises(UsageError, match="'calibrator'"):
        paired.picks(["calibratr=none"])


def test_runs_of_different_protocols_are_refused(small, testbed_command, tmp_path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID.replace("name: small", "name: other\nprotocol: fd-shifts"))
    paths = ["--out", str(tmp_path / "run"), "--store", str(small / "store")]
    assert testbed_command("run", tmp_path / "grid.yaml", *paths, "--executor", "serial", "--no-report").code == 0
    ended = testbed_command("compare", small / "run", tmp_path / "run", "--store", small / "store")
    assert ended.code == 2
    assert "rows of different protocols cannot share a table: none, 'fd-shifts'" in ended.err


def test_rows_over_several_sets_or_seeds_do_not_stand_in_the_way(small, testbed_command, tmp_path) -> None:
    more = GRID.replace("use: gaussian,", "use: [gaussian, uniform], group: far,").replace("auroc]", "auroc, oscr]")
    (tmp_path / "grid.yaml").write_text(more)
    paths = ["--out", str(tmp_path / "run"), "--store", str(small / "store")]
    assert testbed_command("run", tmp_path / "grid.yaml", *paths, "--executor", "serial", "--no-report").code == 0
    ended = testbed_command("compare", tmp_path / "run", tmp_path / "run", "--store", small / "store")
    assert ended.code == 0 and "0 cells compared" in ended.out

"""`testbed reproduce`: what passes, what misses, what is not attempted, and where tables are found."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest

from testbed.metrics.corruption import ALEXNET
from testbed.papers.book import COLUMNS, keys, open_table
from testbed.papers.compute import clopper_pearson

GRID = """
name: tiny
data: [{use: digits, train: 300, calibration: 100, test: 200}]
models: [{use: small-cnn, name: net, train: {recipe: standard, epochs: 2}}]
metrics: [accuracy, ece]
"""
ACCURACY = "rows: model = 'net' AND condition = 'clean' AND metric = 'accuracy'"


@pytest.fixture
def table(tmp_path):
    """`table(rows, grid=...)` writes a paper's folder: rows are dicts over defaults, the path comes back."""

    def write(*rows: dict[str, str], grid: str | None = None, quick: str = ""):
        folder = tmp_path / "mine2026"
        folder.mkdir(exist_ok=True)
        defaults = dict.fromkeys(COLUMNS, "") | {"row": "r", "figure": "f", "unit": "number", "quick": "yes"}
        with (folder / "published.csv").open("w", newline="") as file:
            out = csv.DictWriter(file, COLUMNS)
            out.writeheader()
            out.writerows(defaults | row for row in rows)
        (folder / "README.md").write_text("# Mine 2026, a table\n\nWhat deviates\n- all of it\n")
        if grid:
            (folder / "grid.yaml").write_text(grid)
        if quick:
            (folder / "quick.txt").write_text(quick)
        return folder

    return write


def published(value: str, tolerance: str = "0.5", verified: str = "yes", ours: str = "compute: alexnet_mce"):
    """A judged figure."""
    return {"published": value, "tolerance": tolerance, "verified": verified, "ours": ours}


def test_within_and_missed(testbed_command, table) -> None:
    ended = testbed_command("reproduce", table(published("100.4"), published("100.6")))
    lines = [line for line in ended.out.splitlines() if line.startswith("| r ")]
    assert ended.code == 1 and "within" in lines[0] and "missed" in lines[1] and "-0.600" in lines[1]
    assert testbed_command("reproduce", table(published("100.4"))).code == 0


def test_what_deviates_is_printed(testbed_command, table) -> None:
    assert "- all of it" in testbed_command("reproduce", table(published("100"))).out


def test_an_unverified_figure_is_neither_shown_nor_judged(testbed_command, table) -> None:
    ended = testbed_command("reproduce", table(published("77.5", verified="no")))
    assert ended.code == 0 and "77.5" not in ended.out and "reported" in ended.out


def test_not_attempted_says_why(testbed_command, table, monkeypatch) -> None:
    monkeypatch.delenv("TESTBED_DATA", raising=False)
    absent = published("76.7", ours="compute: imagenet_c_mce resnet50")
    ended = testbed_command("reproduce", table(published("100"), {"ours": "not attempted: no camera"}, absent))
    assert ended.code == 0 and "not attempted: no camera" in ended.out and "set TESTBED_DATA" in ended.out
    nothing = testbed_command("reproduce", table(absent))
    assert nothing.code == 3 and "no figure could be had" in nothing.err


def test_a_grid_and_its_quick_run(testbed_command, table, tmp_path) -> None:
    """The value is that of results.parquet in the paper's unit; `--quick` takes its rows and its overrides."""
    rows = ({"ours": ACCURACY, "unit": "error"}, {"ours": ACCURACY.replace("accuracy", "ece"), "quick": ""})
    folder = table(*rows, grid=GRID, quick="data.0.limit=50")
    arguments = ["reproduce", folder, "--executor", "serial", "--store", tmp_path / "store", "--out", tmp_path / "run"]
    full = testbed_command(*arguments)
    asked = "SELECT value, n FROM results WHERE metric = 'accuracy'"
    value, n = testbed_command("query", asked, tmp_path / "run", "--csv").out.splitlines()[1].split(",")
    assert full.code == 0 and full.out.count("reported") == 2
    assert f"{100 * (1 - float(value)):.2f}" in full.out and n == "200"
    quick = testbed_command(*arguments, "--quick")
    assert quick.code == 0 and quick.out.count("reported") == 1 and "| 50 " in quick.out


def test_a_quick_figure_may_be_shown_and_not_judged(testbed_command, table) -> None:
    folder = table({**published("50"), "quick": "shown"})
    assert testbed_command("reproduce", folder).code == 1
    quick = testbed_command("reproduce", folder, "--quick")
    assert quick.code == 0 and "50.000" in quick.out and "reported" in quick.out


def test_an_override_is_a_deviation_and_the_papers_layout(testbed_command, table, tmp_path) -> None:
    folder = table({"ours": ACCURACY, "unit": "percent"}, grid=GRID)
    where = ["--executor", "serial", "--store", tmp_path / "store", "--out", tmp_path / "run"]
    ended = testbed_command("reproduce", folder, "-o", "data.0.test=50", "--layout", "paper", *where)
    assert ended.code == 0 and "Deviation of this run: data.0.test=50" in ended.out
    assert re.search(r"^\| r +\| \d+\.\d\d \|$", ended.out, re.MULTILINE)


def test_the_plan_scales_the_measured_minutes_by_a_probe(testbed_command, table, tmp_path) -> None:
    """Before a run all is left to do, after it nothing; a table that nobody timed says so."""
    folder = table({"ours": ACCURACY, "unit": "percent"}, grid=GRID.replace("epochs: 2", "epochs: 1"))
    where = ["--store", tmp_path / "store"]
    assert "unmeasured" in testbed_command("reproduce", folder, "--plan", *where).out
    (folder / "needs.yaml").write_text("cpu_minutes: 30\nmeasured_on: a slow one\n")
    before = testbed_command("reproduce", folder, "--plan", *where)
    said = re.search(r"machine about ([\d.]+), about ([\d.]+) left", before.out)
    assert before.code == 0 and "30 where measured (a slow one)" in before.out and said[1] == said[2]
    testbed_command("reproduce", folder, "--executor", "serial", "--out", tmp_path / "run", *where)
    assert "about 0.0 left" in testbed_command("reproduce", folder, "--plan", *where).out


def test_a_grid_of_users_that_cannot_be_run_is_not_attempted(testbed_command, table, tmp_path) -> None:
    """`rows@full` reads the run of full.yaml; where its weights are absent, that is said and the rest goes on."""
    full = ACCURACY.replace("rows:", "rows@full:")
    folder = table({"ours": ACCURACY, "unit": "percent"}, {"ours": full, "unit": "percent"}, grid=GRID)
    (folder / "full.yaml").write_text(
        GRID.replace("train: {recipe: standard, epochs: 2}", "weights: absent.safetensors")
    )
    where = ["--executor", "serial", "--store", tmp_path / "store", "--out", tmp_path / "run"]
    ended = testbed_command("reproduce", folder, *where)
    assert ended.code == 0 and re.search("not attempted: .*absent.safetensors", ended.out)
    (folder / "full.yaml").unlink()
    gone = testbed_command("reproduce", folder, *where)
    assert gone.code == 2 and "full.yaml, which is not there" in gone.err


def test_a_condition_that_meets_no_row_fails(testbed_command, table, tmp_path) -> None:
    folder = table({"ours": "rows: model = 'other'"}, grid=GRID.replace("epochs: 2", "epochs: 1"))
    ended = testbed_command(
        "reproduce", folder, "--executor", "serial", "--store", tmp_path / "s", "--out", tmp_path / "r"
    )
    assert ended.code == 1 and "0 rows of the run meet" in ended.out


def test_an_order_that_ours_reverses(testbed_command, table, tmp_path) -> None:
    """Two bins for ten classes have a far larger NLL: printed as the lower one, it is reversed, else it is not."""
    grid = GRID.replace("[accuracy, ece]", "[accuracy, nll]") + "calibrators: [none, {use: histogram, bins: 2}]\n"
    order = {"published": "0", "tolerance": "0", "verified": "yes"}
    wrong, right, tied = (f"order: net nll histogram={a} none={b}" for a, b in ((1, 2), (2, 1), (1, 1)))
    folder = table({**order, "ours": wrong}, {**order, "ours": right}, {**order, "ours": tied}, grid=grid)
    where = ["--store", tmp_path / "store", "--out", tmp_path / "run"]
    ended = testbed_command("reproduce", folder, "--executor", "serial", *where)
    lines = [line for line in ended.out.splitlines() if line.startswith("| r ")]
    assert ended.code == 1 and "missed: 1 pairs; histogram above none" in lines[0]
    assert "within: 1 pairs" in lines[1] and "within: 0 pairs" in lines[2]


def test_latex(testbed_command, table) -> None:
    out = testbed_command("reproduce", table({**published("100"), "row": "a_b & 5 %"}), "--latex").out
    assert r"a\_b \& 5 \%" in out and out.count(r"\toprule") == 1 and "\n% - all of it" in out


def test_a_function_of_ones_own(testbed_command, table, tmp_path, monkeypatch) -> None:
    (tmp_path / "own_arithmetic.py").write_text("def half(x):\n    return float(x) / 2, 0.0, 1.0, 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ended = testbed_command("reproduce", table(published("1.5", ours="compute: own_arithmetic:half 3")))
    assert ended.code == 0 and "0.000 to 1.000" in ended.out and "+0.000" in ended.out


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (published("1", ours="compute: absent"), "known: "),
        (published("1", ours="compute: absent_module:f"), "absent_module"),
        (published("abc"), "abc"),
        (published("1", verified=""), "verified: expected yes or no"),
        ({"ours": "compute: alexnet_mce", "unit": "parsec"}, "parsec"),
        ({"ours": "guess"}, "guess"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(testbed_command, table, row, says) -> None:
    ended = testbed_command("reproduce", table(row))
    assert ended.code in (1, 2) and says in ended.err and "defect" not in ended.err


def test_unknown_names_and_columns(testbed_command, table) -> None:
    assert "did you mean 'imagenet-c'" in testbed_command("reproduce", "imagenet_c").err
    folder = table(published("1"))
    (folder / "published.csv").write_text("row,figure\n")
    assert "expected the columns" in testbed_command("reproduce", folder).err


def test_mce_from_stored_errors(testbed_command, tmp_path, monkeypatch) -> None:
    """A network with half of AlexNet's errors has an mCE of 50; a file that lacks a severity is refused."""
    lines = [f"{name},{severity},{error / 2}" for name, error in ALEXNET.items() for severity in range(1, 6)]
    (tmp_path / "imagenet-c").mkdir()
    file = tmp_path / "imagenet-c" / "resnet50.csv"
    file.write_text("corruption,severity,error\n" + "\n".join(lines))
    monkeypatch.setenv("TESTBED_DATA", str(tmp_path))
    ended = testbed_command("reproduce", "imagenet-c")
    assert ended.code == 1 and re.search(r"ResNet-50 .* 50\.000 .*missed", ended.out)
    file.write_text("corruption,severity,error\n" + "\n".join(lines[1:]))
    assert "gaussian_noise" in testbed_command("reproduce", "imagenet-c").err


def test_what_holds_by_definition_is_no_reproduction(testbed_command, tmp_path, monkeypatch) -> None:
    """AlexNet's mCE is 100 whatever is there; without a file of errors nothing was reproduced."""
    monkeypatch.setenv("TESTBED_DATA", str(tmp_path))
    ended = testbed_command("reproduce", "imagenet-c")
    assert ended.code == 3 and "no figure could be had" in ended.err


def test_clopper_pearson_covers_exactly() -> None:
    """The ends are where the binomial tail is 2.5 %."""
    from scipy.stats import binom

    low, high = clopper_pearson(17, 60)
    assert binom.sf(16, 60, low) == pytest.approx(0.025) and binom.cdf(17, 60, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 9)[0] == 0 and clopper_pearson(9, 9)[1] == 1


def test_every_installed_table_is_whole(testbed_command) -> None:
    """Each can be read, says what it needs, has a source beside each verified figure and a plan for its grid."""
    assert {"recht2018-cifar10.1", "imagenet-c", "crown-resnets"} <= set(keys())
    for key in keys():
        table = open_table(key)
        assert table.title and (table.needs.data or table.needs.extras), key
        assert all(figure.source for figure in table.figures if figure.verified), key
        assert table.grid().is_file() == ("" in table.runs(quick=False)), key
    listed = testbed_command("ls", "papers")
    assert listed.code == 0 and all(key in listed.out for key in keys())


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("TESTBED_DATA"), reason="needs TESTBED_DATA")
def test_recht_accuracies(testbed_command) -> None:
    """All stated figures within tolerance; an accuracy and the slope as computed from the predictions elsewhere."""
    ended = testbed_command("reproduce", "recht2018-cifar10.1")
    assert ended.code == 0 and "missed" not in ended.out
    assert re.search(r"wrn_28_10 .*original .* 95\.93 ", ended.out)
    stored = np.load(Path(os.environ["TESTBED_DATA"]) / "cifar10.1-predictions" / "cifar10_1_predictions.npz")
    x, y = (100 * (stored[f"pred_{part}"] == stored[f"labels_{part}"]).mean(axis=1) for part in ("original", "v6"))
    found = re.search(r"slope, original to v6 +\| +\| ([\d.]+)", ended.out)
    assert float(found[1]) == pytest.approx(np.polyfit(x, y, 1)[0], abs=6e-4)

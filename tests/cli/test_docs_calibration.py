"""The example of docs/calibration.md: isotonic regression lowers the ECE while the NLL rises, as `compare` shows it."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from testbed.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    from testbed.grid.planner import plan
    from testbed.runner.run import Settings, run_plan

    folder = tmp_path_factory.mktemp("docs")
    (folder / "isotonic.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.S)[1], encoding="utf-8")
    settings = Settings(out=folder / "run", store=str(folder / "store"), executor="serial", page=False)
    run_plan(plan(folder / "isotonic.yaml"), settings)
    return folder


def compare(folder, *more):
    given = [str(folder / "run")] * 2 + ["--store", str(folder / "store"), "--markdown"]
    return CliRunner().invoke(app, ["compare", *given, "--before", "calibrator=none", *more])


def rows(output):
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in output.splitlines() if line.startswith("| mnist")
    ]
    return {(row[1], row[2]): row for row in cells if len(row) == 9}


def test_isotonic_lowers_ece_while_nll_rises_and_a_class_pays(run_folder):
    done = compare(run_folder, "--after", "calibrator=isotonic")

    found = rows(done.output)
    assert done.exit_code == 1
    assert found["all", "ece"][-1] == "better"
    assert found["all", "nll"][-1] == "worse"
    assert any(part.startswith("class") and row[-1] == "worse" for (part, _), row in found.items())
    shown = rows(re.sub(r"^\| ", "| mnist | ", PAGE, flags=re.M))
    for metric in ("accuracy", "ece", "nll", "brier"):  # the page's digits, but for what another CPU changes
        for at in (4, 5):
            assert float(found["all", metric][at]) == pytest.approx(float(shown["all", metric][at]), abs=0.02)


def test_a_threshold_on_ece_alone_lets_it_pass_and_one_on_nll_does_not(run_folder):
    assert compare(run_folder, "--after", "calibrator=isotonic", "--fail-on", "ece:+0.01").exit_code == 0
    assert compare(run_folder, "--after", "calibrator=isotonic", "--fail-on", "nll:+0.1").exit_code == 1


def test_temperature_makes_nothing_worse(run_folder):
    done = compare(run_folder, "--after", "calibrator=temperature")

    assert done.exit_code == 0
    assert rows(done.output)["all", "ece"][-1] == "better"

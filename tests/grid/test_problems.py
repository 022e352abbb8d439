"""Every mistake of a grid at once, each with its place and the nearest name, and never a traceback."""

import pytest

from testbed.errors import UsageError
from testbed.grid.planner import make_plan, plan
from testbed.grid.reader import read_text
from testbed.grid.resolve import resolve

WRONG = """\
name: wrong
data: [{use: digits, calibration: 100, test: 100, tset: 5}]
models:
  - {use: small-cnn, name: net, train: {recipe: standrad, epochs: 0}}
  - {use: smal-cnn, name: other}
conditions:
  - clean
  - {attack: fgsm, epss: 0.1}
  - {attack: {use: pgd, stepz: 3}, eps: 8/255}
  - {attack: pgd, eps: 1/0}
  - {shift: gaussian_noise, severity: 9}
  - {shfit: fog}
calibrators: [none, temprature]
metrics: [accuracy, auroc]
exclude: [{modle: net}]
sede: 3
"""


def lines_of(text, **settings):
    with pytest.raises(UsageError) as error:
        make_plan(resolve(read_text(text, "grid.yaml")))
    return str(error.value).splitlines()


def test_the_schema_pass_reports_all_its_problems_with_places():
    lines = lines_of(WRONG)
    assert "grid.yaml:8:20  conditions[1].epss: unknown key; did you mean 'eps'?" in lines
    assert "grid.yaml:8:5  conditions[1].eps: required, but not given" in lines
    assert any(line.startswith("grid.yaml:10:19  conditions[3].eps: expected a valid number") for line in lines)
    assert "grid.yaml:11:29  conditions[4].severity: expected a severity in [0, 5], got 9" in lines
    assert any(line.startswith("grid.yaml:12:5  conditions[5]: expected clean, {shift: ...}") for line in lines)
    assert any(
        line.startswith("grid.yaml:15:12  exclude[0].modle: unknown key; did you mean 'model'") for line in lines
    )
    assert "grid.yaml:16:1  sede: unknown key; did you mean 'seed'?" in lines
    assert any("models[0].train.epochs" in line and "at least 1" in line for line in lines)


def test_unknown_names_are_told_beside_the_schemas_problems():
    lines = lines_of(WRONG)
    assert (
        "grid.yaml:9:25  conditions[2].attack.stepz: unknown key of attack 'pgd'; did you mean 'steps' or 'step_size'?"
        in lines
    )
    assert any(line.startswith("grid.yaml:5:6  models[1].use: unknown model 'smal-cnn'") for line in lines)
    assert any(line.startswith("grid.yaml:13:21  calibrators[1]: unknown calibrator 'temprature'") for line in lines)
    assert len(lines) == len(set(lines)) and not any("grid needs" in line for line in lines)


def test_the_name_pass_reports_all_its_problems_with_places():
    text = """\
name: names
data: [{use: digits, tset: 5}]
models:
  - {use: small-cnn, name: net, train: {recipe: standrad}}
  - {use: smal-cnn, name: other, weights: absent.safetensors}
conditions:
  - {attack: {use: pgd, stepz: 3}, eps: 8/255}
  - {attack: pgd, eps: 0.1, victim: "surrogate:nte"}
  - {attack: {use: pgd, eps: 0.2}, eps: 0.1}
calibrators: [none, temprature]
metrics: [accuracy, auroc]
exclude: [{model: nte}]
"""
    lines = lines_of(text)
    expected = [
        "grid.yaml:2:22  data[0].tset: unknown key of dataset 'digits'; did you mean 'test'",
        "grid.yaml:4:41  models[0].train.recipe: unknown training recipe 'standrad'; did you mean 'standard'?",
        "grid.yaml:5:6  models[1].use: unknown model 'smal-cnn'; did you mean 'small_cnn'",
        "grid.yaml:7:25  conditions[0].attack.stepz: unknown key of attack 'pgd'; did you mean 'steps'",
        "grid.yaml:8:29  conditions[1].victim: unknown surrogate 'nte'; did you mean 'net'?",
        "grid.yaml:9:25  conditions[2].attack.eps: belongs outside of `use`",
        "grid.yaml:10:21  calibrators[1]: unknown calibrator 'temprature'; did you mean 'temperature'",
        "grid.yaml:11:21  metrics[1]: 'auroc' compares detector scores of two sets",
        "grid.yaml:12:12  exclude[0].model: no model 'nte' in this grid; did you mean 'net'?",
    ]
    for start in expected:
        assert any(line.startswith(start) for line in lines), f"{start!r} not in\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": [{"use": "digits", "calibration": 5000, "test": 100}]}, "has 1797 examples"),
        ({"conditions": [{"attack": "pgd", "norm": "linf", "eps": -0.1}]}, "radius of at least 0, got -0.1"),
        ({"conditions": [{"attack": "pgd", "norm": "linff", "eps": 0.1}]}, "did you mean 'linf'"),
        ({"conditions": ["clean", "clean"]}, "asked for twice"),
        ({"models": [{"use": "small-cnn"}, {"use": "small-cnn"}]}, "two models are called 'small-cnn'"),
        ({"models": [{"use": "./absent.py:make"}]}, "cannot read"),
        ({"conditions": [{"attack": "./absent.py:f", "eps": 0.1}]}, "cannot read"),
        ({"data": [{"use": "digits", "train": 100, "calibration": 0, "test": 100}]}, "expected at least 1, got 0"),
        ({"name": "a/b"}, "name"),
        (
            {"calibrators": [{"use": "isotonic", "fit": {"shift": "fog", "severity": [1, 2]}}]},
            "fitted on one condition",
        ),
        ({"conditions": [{"attack": "pgd", "eps": 0.1, "victim": "detectr:msp"}]}, "victim"),
    ],
)
def test_a_single_mistake_is_said_in_words(grid, change, message):
    with pytest.raises(UsageError, match=None) as error:
        plan({**grid, **change})
    assert message in str(error.value)


def test_an_override_is_named_as_the_place_of_its_problem(write_grid, grid):
    with pytest.raises(UsageError, match=r"-o models\.0\.train\.epochs=many  models\[0\]\.train\.epochs: "):
        plan(write_grid(grid), ["models.0.train.epochs=many"])


def test_what_is_no_mapping_is_refused():
    with pytest.raises(UsageError, match="expected a mapping"):
        resolve(read_text("- a\n- b\n"))


def test_a_detector_whose_package_is_missing_is_told_before_anything_runs(grid, monkeypatch):
    monkeypatch.setattr("testbed.grid.model_sources.installed_version", lambda package: "none")
    grid["detectors"] = ["knn_faiss"]
    with pytest.raises(UsageError, match=r"needs the package 'faiss-cpu'.*pip install 'robustness-testbed\[faiss\]'"):
        plan(grid)

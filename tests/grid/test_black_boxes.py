"""Grids with black boxes: what cannot run on them is a problem with its place, what can is planned."""

from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.grid.black_boxes import planned_queries, query_attacks
from testbed.grid.planner import make_plan, plan
from testbed.grid.reader import read_text
from testbed.grid.resolve import resolve

ONNX = Path(__file__).parents[1] / "models" / "files" / "tiny_digits.onnx"
HEAD = f"""\
name: boxes
data: [{{use: digits, calibration: 100, test: 100}}]
models:
  - {{use: onnx, name: box, weights: {ONNX}}}
  - {{use: small-cnn, name: net}}
"""


def problems_of(text):
    with pytest.raises(UsageError) as error:
        make_plan(resolve(read_text(text, "grid.yaml")))
    return str(error.value).splitlines()


def test_a_gradient_attack_on_a_black_box_says_what_works():
    lines = problems_of(HEAD + "conditions:\n  - clean\n  - {attack: [pgd, square], eps: 0.1}\n")

    assert len(lines) == 1
    assert lines[0].startswith(
        "grid.yaml:8:5  conditions[1]: attack 'pgd' needs gradients and the model 'box' gives none"
    )
    assert "attacks that need none: hopskipjump, spsa, square;" in lines[0]
    assert 'victim: "surrogate:net"' in lines[0] and "exclude: [{model: box, condition: pgd}]" in lines[0]


def test_each_norm_has_its_own_recommendations():
    assert query_attacks("l2") == ("boundary", "hopskipjump", "square")
    assert query_attacks("l0") == ("one_pixel",)


@pytest.mark.parametrize(
    "rest",
    [
        "conditions: [{attack: pgd, eps: 0.1, victim: 'surrogate:net'}]\n",
        "conditions: [{attack: pgd, eps: 0.1}]\nexclude: [{model: box, condition: pgd}]\n",
        "conditions: [{attack: [square, spsa, hopskipjump], eps: 0.1}, {attack: boundary, norm: l2, eps: 1}]\n",
        "conditions: [{attack: square, eps: 0.1, victim: calibrated}]\ncalibrators: [none, isotonic]\n",
        "conditions: [{chain: [{shift: rotate, severity: 1}, {attack: square, eps: 0.1}]}]\n",
    ],
)
def test_what_asks_for_scores_only_is_planned(rest):
    assert len(make_plan(resolve(read_text(HEAD + rest, "grid.yaml"))).cells) > 4


def test_a_black_box_is_no_surrogate_for_a_gradient_attack():
    (line,) = problems_of(
        HEAD + "conditions: [{attack: pgd, eps: 0.1, victim: 'surrogate:box'}]\nexclude: [{model: box}]\n"
    )

    assert "conditions[0]: attack 'pgd' needs gradients and the model 'box' gives none" in line


def test_detectors_and_calibrators_that_need_features_are_refused_unless_the_file_gives_them():
    rest = "detectors: [msp, knn, vim]\nood: [uniform]\nmetrics: [auroc]\ncalibrators: [none, dac]\n"
    lines = problems_of(HEAD + rest)
    with_features = problems_of(HEAD.replace("name: box,", "name: box, features: features,") + rest)

    assert [line.split()[1] for line in lines] == ["detectors[1]:", "detectors[2]:", "calibrators[1]:"]
    assert "detector 'knn' needs features, and the black box 'box' gives scores only" in lines[0]
    assert "`features: NAME`" in lines[0]
    assert [line.split()[1] for line in with_features] == ["detectors[2]:"]
    assert "detector 'vim' needs the last layer's weights" in with_features[0]


def test_an_attack_of_ones_own_states_that_it_needs_no_gradients(tmp_path):
    source = "def mine(model, x, y, *, eps: float, rng):\n    white_box = False\n    return x\n"
    (tmp_path / "mine.py").write_text(source)
    rest = "conditions: [{attack: ./mine.py:mine, eps: 0.1}]\n"
    (tmp_path / "grid.yaml").write_text(HEAD + rest)
    assert plan(tmp_path / "grid.yaml").cells

    (tmp_path / "mine.py").write_text(source.replace("    white_box = False\n", ""))
    with pytest.raises(UsageError, match="state `white_box = False` in it"):
        plan(tmp_path / "grid.yaml")


def test_where_weights_may_come_from():
    lines = problems_of(f"""\
name: sources
data: [{{use: digits, calibration: 100, test: 100}}]
models:
  - {{use: onnx, name: a}}
  - {{use: onnx, name: b, train: {{epochs: 1}}, weights: {ONNX}}}
  - {{use: small-cnn, name: c, weights: {ONNX}}}
  - {{use: http, name: d, url: "http://localhost", model_version: v1, weights: {ONNX}, feature_layer: fc1}}
  - {{use: http, name: e, url: "http://localhost"}}
""")
    expected = [
        "grid.yaml:4:5  models[0]: the model 'onnx' needs its file: `weights: FILE.onnx`",
        "models[1].train: the model 'onnx' cannot be trained here",
        "models[2].weights: expected safetensors or torch weights; an .onnx file runs as `use: onnx`",
        "models[3].weights: the model 'http' takes no file of weights",
        "models[3].feature_layer: the black box 'http' has no layers to name",
        "grid.yaml:8:5  models[4]: model 'http' needs 'model_version'",
    ]
    for part in expected:
        assert any(part in line for line in lines), f"{part!r} not in\n" + "\n".join(lines)


def test_a_missing_package_ends_in_exit_code_3_with_the_pip_line(monkeypatch):
    monkeypatch.setattr("testbed.grid.model_sources.installed_version", lambda package: "none")
    with pytest.raises(UsageError, match=r"pip install 'robustness-testbed\[onnx\]'") as error:
        resolve(read_text(HEAD, "grid.yaml"))
    assert error.value.exit_code == 3


HTTP = """\
name: remote
data: [{use: digits, calibration: 100, test: 100}]
models: [{use: http, name: api, url: "http://localhost", model_version: v1, budget: 1000}]
"""


@pytest.mark.parametrize("url", ["http://me:hunter2@localhost", "http://localhost/?key=hunter2"])
def test_an_address_with_a_secret_is_refused_where_it_stands_without_showing_it(tmp_path, url):
    (tmp_path / "grid.yaml").write_text(HTTP.replace("http://localhost", url))
    with pytest.raises(UsageError, match=r"grid\.yaml:3:\d+  models\[0\].*token_env") as said:
        plan(tmp_path / "grid.yaml")
    assert "hunter2" not in str(said.value)


def test_the_plan_counts_queries_and_holds_them_against_the_budget(tmp_path):
    (tmp_path / "grid.yaml").write_text(HTTP + "conditions: [clean, {shift: rotate, severity: [1, 2]}]\n")
    fine = plan(tmp_path / "grid.yaml")
    assert fine.notes == ("api: about 300 queries to http://localhost",)
    assert all(cell.row["flags"] == "external" for cell in fine.cells)

    (tmp_path / "grid.yaml").write_text(HTTP + "conditions: [{attack: square, eps: 0.1}]\n")
    with pytest.raises(
        UsageError, match=r"grid.yaml:3:\d+  models\[0\]\.budget: the plan expects .* its budget of 1,000"
    ):
        plan(tmp_path / "grid.yaml")


def test_the_declared_version_and_the_file_stand_in_the_digests(tmp_path):
    def digests(text):
        return set(make_plan(resolve(read_text(text, "grid.yaml"))).wanted)

    assert not digests(HTTP) & digests(HTTP.replace("v1", "v2"))
    other = tmp_path / "other.onnx"
    other.write_bytes(ONNX.with_name("tiny_digits_fixed.onnx").read_bytes())
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(ONNX.read_bytes())
    assert digests(HEAD) == digests(HEAD.replace(str(ONNX), str(moved)))
    assert digests(HEAD) != digests(HEAD.replace(str(ONNX), str(other)))


def test_planned_queries_count_a_surrogates_work_at_the_surrogate():
    text = HEAD + "conditions: [clean, {attack: {use: square, queries: 10}, eps: 0.1}]\n"
    resolved = resolve(read_text(text, "grid.yaml"))
    box = planned_queries(make_plan(resolved), resolved.models[0].bound)

    assert box >= 100 + 100 + 100 * 10

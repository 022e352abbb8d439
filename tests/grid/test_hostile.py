"""What a grid may hold by slip or by malice: each is an error with a place, and none costs more than a moment."""

import os
import re

import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan
from testbed.grid.reader import read_text

HEAD = """\
name: t
data: [{use: digits, train: 100, calibration: 50, test: 50}]
models: [{use: small-cnn, name: m}]
"""
BOMB = "".join(f"x-{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
DEEP = "protocol: " + "[" * 2000 + "]" * 2000


def lines_of(folder, text, overrides=()):
    """The problems of a grid file, one a line, without the folder."""
    (folder / "grid.yaml").write_bytes(text.encode())
    with pytest.raises(UsageError) as error:
        plan(folder / "grid.yaml", overrides)
    assert error.value.exit_code == 2
    return str(error.value).replace(f"{folder}{os.sep}", "").splitlines()


def test_merge_keys_fill_in_what_is_not_given(tmp_path):
    text = """\
x-common: &common {threads: 1, batch: 100}
runtime: {<<: [*common, {shard: 500}], batch: 50}
models:
  - &m {use: small-cnn, name: a, train: {recipe: standard, epochs: 4}}
  - {<<: *m, name: b}
"""
    document = read_text(text)
    assert document.value["runtime"] == {"threads": 1, "batch": 50, "shard": 500}
    assert document.value["models"][1] == {**document.value["models"][0], "name": "b"}
    assert document.positions[("models", 1, "train", "epochs")] == (4, 60)  # where it is written
    (tmp_path / "grid.yaml").write_text(
        "name: t\ndata: [{use: digits, train: 100, calibration: 50, test: 50}]\n" + text
    )
    assert {cell.row["model"] for cell in plan(tmp_path / "grid.yaml").cells} == {"a", "b"}


def test_a_mistake_in_a_merged_mapping_is_where_it_is_written(tmp_path):
    assert lines_of(tmp_path, HEAD + "x-a: &a {thraeds: 2}\nruntime: {<<: *a, batch: 0}\n") == [
        "grid.yaml:4:10  runtime.thraeds: unknown key; did you mean 'threads'?",
        "grid.yaml:5:19  runtime.batch: expected at least 1, got 0",
    ]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ('protocol: "a\x07"', ":4:13  not YAML: the control character U\\+0007"),
        (r'protocol: "\U00110000"', ":4:14  not YAML: "),
        (r'protocol: "a\0b"', ":4:11  protocol: holds the control character U\\+0000"),
        (r'protocol: "\ud800"', ":4:11  protocol: holds the control character U\\+D800"),
        ("seed: !!float abc", ":4:7  seed: expected a number, got 'abc'"),
        ("seed: " + "9" * 5000, ":4:7  seed: expected an integer of at most 64 bits"),
        ("protocol: !mine x", ":4:11  protocol: the tag !mine is not known"),
        ("protocol: !!set {a, b}", ":4:11  protocol: the tag !!set does not go with a mapping"),
        ("models: &a [*a]", ":4:13  the alias \\*a stands inside of what it names"),
        ("x-a: &a {b: *a}", ":4:13  the alias \\*a stands inside"),
        ("x-a: *b", ":4:6  not YAML: no anchor &b"),
        (DEEP, ":4:74  more than 64 levels"),
        ("x-a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + BOMB, r":4:\d+  more than 10,000 values"),
        ("conditions: [{attack: pgd, eps: [" + ".1, " * 100_000 + "1]}]", r":4:\d+  more than 10,000 values"),
        (
            "conditions: [{chain: [" + ", ".join(["{shift: fog, severity: [1, 2, 3, 4, 5]}"] * 9) + "]}]",
            ":4:14  conditions.0.: stands for 1,953,125 conditions",
        ),
        ("? [a]\n: 3", ":4:3  expected a word as a key, got a list"),
        ("runtime: {<<: 3}", ":4:11  runtime.<<: merges a mapping"),
        ("---\nname: b", ":4:1  not YAML: a second document"),
        ("detectors: [{use: energy, temperature: .nan}]", ":4:40  detectors.0..temperature: expected a finite"),
        ("conditions: [{attack: {use: pgd, step_size: 1e999}, eps: .1}]", ":4:45  .*expected a finite number"),
        ("conditions: [{attack: {use: pgd, step_size: 'inf'}, eps: .1}]", ":4:34  .*expected a number above 0"),
        ("conditions: [{attack: {use: pgd, steps: 0}, eps: .1}]", ":4:34  .*expected an integer of at least 1, got 0"),
        ("conditions: [{attack: {use: pgd, restarts: 2, random_start: false}, eps: .1}]", ":4:15  .*use restarts=1"),
        ("detectors: [{use: knn, k: -5}]", ":4:24  detectors.0..k: detector 'knn': expected .* at least 1, got -5"),
        ("detectors: [{use: knn, k: true}]", ":4:24  detectors.0..k: .* got True"),
        ("detectors: [{use: react, percentile: 900}]", r":4:26  .*expected a number in \[0, 100\], got 900"),
        ("detectors: [{use: energy, temperature: 0}]", ":4:27  .*expected a number above 0, got 0"),
        ("metrics: [{use: ece, bins: 0}]", ":4:22  .*expected an integer of at least 1, got 0"),
        ("intervals: {replicates: 0}", ":4:13  intervals.replicates: expected at least 20, got 0"),
        ("runtime: {threads: 1e6}", ":4:11  runtime.threads: expected at most 1024"),
        ("seed: [0, 0]", ":4:1  seed: 0 is given twice"),
        ("metrics: [accuracy, ece, {use: ece, bins: 15}]", ":4:26  metrics.2.: the metric 'ece' is asked for twice"),
        ("exclude: [{dataset: digits}]", ":4:1  exclude: leaves nothing to do"),
        ("exclude: [{model: {a: 1}}]", ":4:12  exclude.0..model: expected a valid string"),
        ("intervals: {lvel: 3}", ":4:13  intervals.lvel: unknown key; did you mean 'level'"),
        ("detectors: [{use: knn, tune: {on: uniform, swep: 3}}]", ":4:44  .*did you mean 'sweep'"),
        ("metrics: [{use: accuracy, bins: 3}]", ":4:27  .*known: use"),
        ("protocol: caf\u00e9 \u2028\nsede: 3", ":5:1  sede: unknown key"),
        ("conditions: [{shift: fog, name: 'a\tb'}]", ":4:27  conditions.0..name: expected a name in one line"),
    ],
    ids=lambda text: text[:40] if isinstance(text, str) else None,
)
def test_a_mistake_has_its_place(tmp_path, tail, expected):
    lines = lines_of(tmp_path, HEAD + tail)
    assert len(lines) == 1 and re.match(f"grid.yaml{expected}", lines[0]), lines


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: t", 'name: ".."', ":1:1  name: expected a name that can be a folder's"),
        ("name: t", r'name: "a\u001b[31m"', ":1:7  name: holds the control character U\\+001B"),
        ("name: m", "name: m, train: {lr: -1}", ":3:44  models.0..train.lr: .*above 0, got -1"),
        ("name: m", "name: m, train: {epoch: 4}", ":3:44  .*unknown key of recipe 'standard'; did you mean 'epochs'"),
        ("name: m", "name: m, predict: {ensembl: 3}", ":3:46  .*did you mean 'ensemble'"),
        ("name: t", "%YAML 1.1\n---\nname: t", ":1:1  expected YAML 1.2"),
    ],
)
def test_a_mistake_in_the_head_has_its_place(tmp_path, old, new, expected):
    lines = lines_of(tmp_path, HEAD.replace(old, new))
    assert len(lines) == 1 and re.match(f"grid.yaml{expected}", lines[0]), lines


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("models.2=1", "models[2]: no such place"),
        ("models.\u00b2=1", "models.\u00b2: no such place"),
        (".".join(["a"] * 5000) + "=1", "expected a path of at most 64 parts, got 5000"),
        ("models." + "9" * 5000 + "=1", "no such place"),
        ("a..b=1", "expected key=value"),
        ("seed=[", "seed: not YAML"),
        ("seed=\x1b[31m", "control character U+001B"),
        ("\ud800=1", "control character U+D800"),
        ("data.0.train.3=4", "data[0].train[3]: no such place"),
        (
            "models=[{use: small-cnn, widht: 3}]",
            "models[0].widht: unknown key of model 'small-cnn'; did you mean 'width'",
        ),
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_a_mistake_of_an_override_is_at_the_override(tmp_path, setting, expected):
    (line,) = lines_of(tmp_path, HEAD, [setting])
    assert line.startswith("-o ") and expected in line and line.isprintable()


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    for path in (tmp_path / "pipe.py", "/dev/zero", tmp_path):
        with pytest.raises(UsageError, match="cannot read the grid"):
            plan(path)
    weights = HEAD.replace("name: m", "name: m, weights: pipe.py")
    assert "it is a pipe or a device" in lines_of(tmp_path, weights)[0]
    assert "it is a pipe or a device" in lines_of(tmp_path, HEAD + "conditions: [{attack: './pipe.py:f', eps: .1}]")[0]
    data = HEAD.replace("use: digits", "use: npz, path: pipe.py")
    assert "is a pipe or a device" in lines_of(tmp_path, data)[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b"def f(model, x, y, *, eps: float, a=\xff): ...", "is not UTF-8 text"),
        (b"def f(): ...\n\0", "null bytes"),
        (b"x = " + b"(" * 3000 + b")" * 3000, ":1:"),
        (b"def f(model, x, y, *, eps: float, a=1e999): ...", "f.py:1:37  a: the default '1e309' cannot be kept"),
        (b"def f(model, x, y, *, eps: float, a={1, 2}): ...", "cannot be kept"),
        (b"def f(model, x, y, *, eps: float, a=b / 2): ...", "is not a plain value"),
        (b"def f(model, x, y, *, eps: float, a=1 / 0): ...", "is not a plain value"),
        (b"class f:\n    norms = 5\n", "f.py:2:13  norms: expected something like"),
    ],
    ids=lambda value: ascii(value[-24:]),
)
def test_an_odd_plug_in_file_is_an_error(tmp_path, source, expected):
    (tmp_path / "f.py").write_bytes(source)
    (line,) = lines_of(tmp_path, HEAD + "conditions: [{attack: './f.py:f', eps: .1}]")
    assert line.startswith("grid.yaml:4:15  conditions[0].attack: ") and expected in line


@pytest.mark.parametrize(
    "parameter",
    ["a: int[3] = 3", "a: 'int[' = 3", "a: Literal[()] = 3", "a: dict[int] = 3", "_a: int = 3", "json: int = 3"],
)
def test_an_odd_annotation_or_name_is_let_through(tmp_path, parameter):
    (tmp_path / "f.py").write_text(f"def f(model, x, y, *, eps: float, {parameter}): ...")
    (tmp_path / "grid.yaml").write_text(HEAD + "conditions: [{attack: './f.py:f', eps: .1}]")
    assert plan(tmp_path / "grid.yaml").cells

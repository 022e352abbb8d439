"""The editor's schema: written by a command, complete, and in agreement with the planner on every example grid."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry, Resource
from ruamel.yaml import YAML
from typer.testing import CliRunner

from testbed import plugins
from testbed.cli import app
from testbed.grid.schema import json_schema
from testbed.grid.stream_schema import stream_schema

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
MODELINE = "# yaml-language-server: $schema="
STREAMS = sorted(EXPERIMENTS.glob("stream*.yaml"))
GRIDS = sorted(set(EXPERIMENTS.glob("*.yaml")) - set(STREAMS))


@pytest.mark.parametrize(("kind", "wanted"), [("grid", json_schema), ("stream", stream_schema)])
def test_the_command_writes_it(tmp_path, kind, wanted):
    """As `make schemas` does; the files are not in git."""
    result = CliRunner().invoke(app, ["schema", kind, "--out", str(tmp_path / "found.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "found.json").read_text()) == json.loads(json.dumps(wanted()))


def test_the_first_line_of_every_example_names_what_make_writes():
    (written,) = re.findall(r"^SCHEMAS := (.*)$", (ROOT / "Makefile").read_text(), flags=re.M)
    first = ((path.parent, path.read_text().split("\n", 1)[0]) for path in EXPERIMENTS.rglob("*.yaml"))
    named = {(folder / line.removeprefix(MODELINE)).resolve() for folder, line in first if line.startswith(MODELINE)}
    assert named == {ROOT / name for name in written.split()}


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.name)
def test_example_grids_fit_the_schema_and_name_it(path):
    text = path.read_text()
    assert text.startswith(f"{MODELINE}grid.schema.json\n")
    jsonschema.validate(YAML(typ="safe", pure=True).load(text), json_schema())


def test_every_installed_plugin_is_in_it():
    definitions = json_schema()["$defs"]
    assert {f"{kind}:{name}" for kind in plugins.KINDS for name in plugins.installed(kind)} <= set(definitions)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x", "data": "digits"},
        {"name": "x", "data": "digits", "models": "small-cnn", "conditions": [{"shift": "fgo"}]},
        {
            "name": "x",
            "data": "digits",
            "models": "small-cnn",
            "conditions": [{"attack": {"use": "pgd", "steps": []}, "eps": 1}],
        },
        {"name": "x", "data": "digits", "models": "small-cnn", "extra": 1},
    ],
)
def test_it_refuses_what_the_planner_refuses(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema())


def check_stream(value):
    """Against the stream's schema, which refers to the grid's by the name of its file."""
    grid = Resource.from_contents(json_schema())
    registry = Registry().with_resource("grid.schema.json", grid)
    jsonschema.Draft202012Validator(stream_schema(), registry=registry).validate(value)


@pytest.mark.parametrize("path", STREAMS, ids=lambda p: p.name)
def test_example_streams_fit_the_schema_and_name_it(path):
    text = path.read_text()
    assert text.startswith(f"{MODELINE}stream.schema.json\n")
    check_stream(YAML(typ="safe", pure=True).load(text))


STREAM = {"name": "x", "data": "digits", "model": "small-cnn", "stream": [{"steps": 5}], "calibrators": "none"}


def test_the_schema_of_streams_takes_short_forms():
    check_stream(STREAM)
    check_stream({**STREAM, "rollback": None, "calibrators": [{"use": "windowed-temperature", "window": 50}]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": []},
        {"stream": [{"steps": 5, "condition": {"shift": "fgo"}}]},
        {"stream": [{"steps": 5, "chnage": "ramp"}]},
        {"calibrators": "temprature"},
        {"calibrators": [{"use": "windowed_temperature", "window": []}]},
        {"drift": {"detectors": ["kss"]}},
        {"extra": 1},
    ],
    ids=str,
)
def test_the_schema_of_streams_refuses_what_the_planner_refuses(wrong):
    with pytest.raises(jsonschema.ValidationError):
        check_stream({**STREAM, **wrong})

"""The editor's schema: fresh, complete, and in agreement with the planner on every example grid."""

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from testbed import plugins
from testbed.grid.schema import json_schema

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
GRIDS = sorted(EXPERIMENTS.glob("*.yaml"))


def test_the_committed_schema_is_fresh():
    """Regenerate with `testbed schema --out experiments/grid.schema.json`."""
    assert json.loads((EXPERIMENTS / "grid.schema.json").read_text()) == json.loads(json.dumps(json_schema()))


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.name)
def test_example_grids_fit_the_schema_and_name_it(path):
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=grid.schema.json\n")
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

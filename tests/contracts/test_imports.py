"""What a command may import: after the light ones neither torch nor ray is loaded, after --help not even pyarrow."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "ray")

#: Runs one command in a fresh interpreter, then prints which of the named modules are loaded.
PROBE = """
import json, sys
from testbed.cli import guarded, app
code = guarded(lambda: app(args=json.loads(sys.argv[1]), prog_name="testbed"))
print("\\n@@" + json.dumps({"code": code, "loaded": [m for m in json.loads(sys.argv[2]) if m in sys.modules]}))
"""


def loaded_after(arguments, modules, cwd):
    """Exit code and which of `modules` are in sys.modules after the command line `testbed ARGUMENTS`."""
    out = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments), json.dumps(modules)],
        capture_output=True, text=True, cwd=cwd, env=os.environ | {"PYTHONPATH": ""}, timeout=120,
    )  # fmt: skip
    assert "@@" in out.stdout, out.stderr
    found = json.loads(out.stdout.rsplit("@@", 1)[1])
    return found["code"], found["loaded"], out.stderr


def test_the_probe_sees_an_import(tmp_path):
    """The probe itself: json is always loaded, so a probe that reports nothing would be noticed."""
    assert loaded_after(["--help"], ["json"], tmp_path)[:2] == (0, ["json"])


def test_help_imports_nothing_heavy(tmp_path):
    code, loaded, _ = loaded_after(["--help"], [*HEAVY, "pyarrow", "numpy", "duckdb", "pydantic"], tmp_path)
    assert (code, loaded) == (0, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],
        ["version", "--json"],
        ["ls"],
        *(["ls", kind] for kind in ("attacks", "shifts", "calibrators", "detectors", "datasets", "models", "metrics")),
    ],
    ids=" ".join,
)
def test_light_commands_load_neither_torch_nor_ray(arguments, tmp_path):
    code, loaded, errors = loaded_after(arguments, HEAVY, tmp_path)
    assert (code, loaded) == (0, []), errors


@pytest.mark.parametrize(
    "arguments",
    [["report"], ["report", "--table", "markdown"], ["query", "select count(*) from results"]],
    ids=" ".join,
)
def test_reading_a_run_loads_neither_torch_nor_ray(arguments, synthetic_run, tmp_path):
    code, loaded, errors = loaded_after([*arguments, str(synthetic_run)], HEAVY, tmp_path)
    assert (code, loaded) == (0, []), errors

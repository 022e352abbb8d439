"""Fixtures that several rooms share."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


def _synthetic():
    spec = importlib.util.spec_from_file_location("synthetic_run", Path(__file__).parent / "report" / "synthetic.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_run():
    """`write_run(folder, models=...)`: a run folder of drawn logits with the schemas of testbed.types."""
    return _synthetic().write_run


@pytest.fixture(scope="session")
def synthetic_run(tmp_path_factory, write_run):
    """A finished run folder; read it, never write to it."""
    return write_run(tmp_path_factory.mktemp("runs") / "synthetic")


@pytest.fixture(scope="session")
def run_python():
    """`run_python(code)`: run code in a fresh interpreter and return the completed process."""

    def run(code, **settings):
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False, **settings
        )

    return run

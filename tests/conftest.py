"""Fixtures that several rooms share."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


def _beside(path):
    """The module in a file below this folder."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, Path(__file__).parent / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_run():
    """`write_run(folder, models=...)`: a run folder of drawn logits with the schemas of testbed.types."""
    return _beside("report/synthetic.py").write_run


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


@pytest.fixture(scope="session")
def hub_server():
    """The module with a hub of models and data sets that serves on loopback."""
    return _beside("hub_server.py")

"""The built wheel beside a user's own attacks.py, shifts.py and experiments.py: nothing shadows anything."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GRID = """\
name: beside
data: [{use: digits, train: 200, calibration: 100, test: 40}]
models: [{use: small-cnn, train: {epochs: 1}}]
conditions: [clean, {shift: fog, severity: 2}, {attack: fgsm, eps: 0.1}]
metrics: [accuracy]
intervals: {replicates: 20}
"""
SCRIPT = """\
import testbed

if __name__ == "__main__":
    table = testbed.evaluate("grid.yaml", executor=EXECUTOR, store=STORE, workers=1)
    assert set(table.column("status").to_pylist()) == {"ok"}, table.to_pylist()
    print("rows", table.num_rows)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment with the built wheel in it; what it depends on comes from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    made = ["-o", ".venv/installed", "-o", ".venv/installed-dev"]  # this environment is taken as it is
    subprocess.run(
        ["make", "wheel", *made, f"BIN={Path(sys.executable).parent}", f"DIST={folder}"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True, with_pip=False)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "package"), str(wheel)],
        check=True,
    )
    here = Path(next(p for p in sys.path if p.endswith("site-packages")))
    (site / "testbed.pth").write_text(f"{folder / 'package'}\n{here}\n")
    return folder / "env" / "bin" / "python"


@pytest.fixture
def crowded(tmp_path):
    """A user's folder whose files have our folders' names, each of which raises when imported."""
    for name in ("attacks", "shifts", "experiments"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('the user\\'s own {name}.py was imported')\n")
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def run(command, folder):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_is_what_runs(installed, crowded):
    code = "import testbed, testbed_attacks, testbed_shifts; print(testbed.__file__, testbed_attacks.__file__)"
    assert str(ROOT) not in run([installed, "-c", code], crowded)


@pytest.mark.slow
def test_it_carries_the_schemas(installed):
    share = installed.parents[2] / "package" / "share" / "testbed"
    assert {p.name for p in share.iterdir()} == {"grid.schema.json", "stream.schema.json"}
    assert "attack:pgd" in json.loads((share / "grid.schema.json").read_text())["$defs"]


@pytest.mark.slow
def test_as_the_console_script(installed, crowded):
    code = "import sys; sys.path.insert(0, ''); from testbed.cli import main; main()"
    out = run([installed, "-c", code, "run", "grid.yaml", "--executor", "serial", "--store", "store"], crowded)
    assert "report.html" in out and (crowded / "runs" / "beside" / "results.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "ray"])
def test_as_a_script(installed, crowded, executor):
    (crowded / "script.py").write_text(
        SCRIPT.replace("EXECUTOR", repr(executor)).replace("STORE", repr(str(crowded / "s")))
    )
    assert "rows" in run([installed, "script.py"], crowded)

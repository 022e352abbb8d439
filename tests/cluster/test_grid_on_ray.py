"""A real grid on Ray: the bits of the serial run for any number of workers, and a user's attack on another node."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.ray

ATTACK = """\
def nudge(model, x, y, *, eps: float, share: float = 0.5, rng):
    import torch

    draws = torch.from_numpy(rng.uniform(tuple(x.shape[1:]), name="where"))
    return (x + eps * (draws < share)).clamp(0, 1)
"""
GRID = {
    "name": "spread",
    "data": [{"use": "digits", "train": 400, "calibration": 150, "test": 90}],
    "models": [{"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}}],
    "conditions": [
        "clean",
        {"shift": "gaussian_noise", "severity": [1, 5]},
        {"attack": ["./mine.py:nudge", {"use": "pgd", "steps": 3}], "eps": [0.05, 0.1]},
    ],
    "calibrators": ["none", "temperature"],
    "detectors": ["msp", "knn"],
    "ood": [{"use": "gaussian", "limit": 50}],
    "metrics": ["accuracy", "ece", "auroc"],
    "runtime": {"shard": 40},
    "intervals": {"replicates": 50},
}
ELSEWHERE = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from testbed.grid.planner import plan
from testbed.runner.run import Settings, run_plan

folder = Path(sys.argv[1])
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
planned = plan(folder / "grid.yaml")
(folder / "mine.py").unlink()
where = {"out": folder / "elsewhere", "store": str(folder / "store2"), "address": cluster.address}
settings = Settings(executor="ray", page=False, **where)
finished = run_plan(planned, settings)
hosts = {r.report.pid for r in finished.outcome.records.values() if r.report}
print(finished.outcome.count(), hosts, finished.outcome.errors())
sys.exit(0 if finished.outcome.ok else 1)
"""


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The folder of a serial run, its grid and its plug-in."""
    from testbed.grid.planner import plan
    from testbed.runner.run import Settings, run_plan

    folder = tmp_path_factory.mktemp("spread")
    (folder / "mine.py").write_text(ATTACK)
    with (folder / "grid.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(GRID, file)
    settings = Settings(out=folder / "serial", store=str(folder / "store"), executor="serial", page=False)
    finished = run_plan(plan(folder / "grid.yaml"), settings)
    assert finished.outcome.ok, finished.outcome.errors()
    return folder


def same_bytes(one: Path, other: Path) -> None:
    assert (one / "results.parquet").read_bytes() == (other / "results.parquet").read_bytes()
    parts = sorted(p.name for p in (one / "samples.parquet").iterdir())
    assert parts == sorted(p.name for p in (other / "samples.parquet").iterdir())
    assert all(
        (one / "samples.parquet" / p).read_bytes() == (other / "samples.parquet" / p).read_bytes() for p in parts
    )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_bits_of_the_serial_run(serial, ray_cluster, workers, tmp_path):
    from testbed.grid.planner import plan
    from testbed.runner.run import Settings, run_plan

    settings = Settings(
        out=tmp_path / "ray", store=str(tmp_path / "store"), executor="ray", workers=workers, page=False
    )
    finished = run_plan(plan(serial / "grid.yaml"), settings)
    assert finished.outcome.ok, finished.outcome.errors()
    same_bytes(serial / "serial", finished.folder)


@pytest.mark.slow
def test_a_users_attack_runs_on_another_node_without_its_file(serial, tmp_path):
    for name in ("mine.py", "grid.yaml"):
        (tmp_path / name).write_text((serial / name).read_text())
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    same_bytes(serial / "serial", tmp_path / "elsewhere")

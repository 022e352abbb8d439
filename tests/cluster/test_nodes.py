"""A cluster of three nodes on this machine: one is killed in mid-job, and a plug-in's source reaches another node."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import toy_jobs as toy

from testbed.runner.driver import run
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import sys
import toy_jobs as toy
from ray.cluster_utils import Cluster
from testbed.runner.driver import run
from testbed.runner.ray import Ray
from testbed.runner.worker import Setting
from testbed.store import Store

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
store = Store(sys.argv[1])
jobs, wanted = toy.grid(sets=4, readers=2, seconds=0.4)
started = []

def kill_a_node(event):
    if event.name == "started":
        started.append(event.fields["pid"])
        if len(started) == 5:
            cluster.remove_node(nodes[0], allow_graceful=False)

executor = Ray(Setting(toy.OPERATION, store.url), address=cluster.address)
outcome = run(jobs, wanted, store, executor, listener=kill_a_node)
print(outcome.count(), len(set(started)), outcome.errors())
sys.exit(0 if outcome.ok else 1)
"""


def test_node_killed_in_mid_job(tmp_path: Path, toys_for_workers: None) -> None:
    store = Store(tmp_path / "ray")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), store.url],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    serial = Store(tmp_path / "serial")
    jobs, wanted = toy.grid(sets=4, readers=2, seconds=0.4)
    run(jobs, wanted, serial, Serial(Setting(toy.OPERATION, serial.url)))

    assert toy.snapshot(store) == toy.snapshot(serial)
    assert toy.started_when_published(store) == []
    assert sum(toy.starts(store).values()) <= len(jobs) + 2  # what the node had in hand, and no more

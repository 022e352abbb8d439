"""A cluster of three nodes on this machine: one is killed in mid-job, and a plug-in's source reaches another node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy_jobs as toy

from testbed.runner.driver import run
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import json, os, sys
import toy_jobs as toy
from ray.cluster_utils import Cluster
from testbed.runner.driver import run
from testbed.runner.ray import Ray
from testbed.runner.worker import Setting
from testbed.store import Store

def parent(pid):
    return int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("PPid")).split()[1])

def raylet(node):
    return node.all_processes["raylet"][0].process.pid

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = {raylet(node): node for node in (cluster.add_node(num_cpus=1) for _ in range(2))}
cluster.wait_for_nodes()
store = Store(sys.argv[1])
jobs, wanted = toy.grid(sets=3, readers=2, seconds=1.5)
hit = []

def kill_a_node(event):
    if event.name == "started" and event.fields["attempt"] == 1 and event.fields["pid"] and len(nodes) == 2:
        if len(toy.starts(store)) >= 4 and (home := parent(event.fields["pid"])) in nodes:
            hit.append(event.job.digest)
            cluster.remove_node(nodes.pop(home), allow_graceful=False)

executor = Ray(Setting(toy.OPERATION, store.url), address=cluster.address)
outcome = run(jobs, wanted, store, executor, listener=kill_a_node)
attempts = {digest: record.attempts for digest, record in outcome.records.items()}
print(json.dumps({"ok": outcome.ok, "hit": hit, "attempts": attempts, "errors": outcome.errors()}))
"""


def test_node_killed_in_mid_job(tmp_path: Path, toys_for_workers: None) -> None:
    store = Store(tmp_path / "ray")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, store.url],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    serial = Store(tmp_path / "serial")
    jobs, wanted = toy.grid(sets=3, readers=2, seconds=1.5)
    run(jobs, wanted, serial, Serial(Setting(toy.OPERATION, serial.url)))

    assert told["ok"], told["errors"]
    assert len(told["hit"]) == 1
    assert told["attempts"][told["hit"][0]] == 2
    assert toy.snapshot(store) == toy.snapshot(serial)
    assert toy.started_when_published(store) == []
    assert sum(toy.starts(store).values()) <= len(jobs) + 2  # what the node had in hand, and no more

"""One local Ray cluster for all tests that need one: starting it takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def toys_for_workers() -> Iterator[None]:
    """Processes started from here find toy_jobs, and Ray sends no statistics."""
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, before.get("PYTHONPATH")]))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def ray_cluster(toys_for_workers: None) -> Iterator[None]:
    """A local cluster of four CPUs; executors made meanwhile use it and leave it running."""
    import ray

    from testbed.runner.ray import connect

    assert connect(None, 4, None)
    yield
    ray.shutdown()

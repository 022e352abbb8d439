"""A training that breaks off goes on from its checkpoint to the same bits, on a local and on a remote store."""

import uuid

import numpy as np
import pytest

from testbed.grid.planner import plan
from testbed.models import train as training
from testbed.runner.operations import perform
from testbed.store import Store

GRID = {
    "name": "broken off",
    "data": [{"use": "digits", "train": 200, "calibration": 50, "test": 50}],
    "models": [{"use": "small-cnn", "train": {"recipe": "standard", "epochs": 4}}],
    "metrics": ["accuracy"],
}


class Killed(Exception):
    """Stands for the death of the process."""


@pytest.fixture(params=["local", "remote"])
def store_url(request, tmp_path):
    return str(tmp_path / "store") if request.param == "local" else f"memory://checkpoints-{uuid.uuid4().hex}"


def trained(store, break_after=None, monkeypatch=None):
    """The weights of the grid's network; with `break_after`, the process dies after that many epochs."""
    planned = plan(GRID)
    epochs = []
    run = training._epoch

    def watched(recipe, model, optimizer, examples, epoch, *rest):
        if break_after is not None and epoch >= break_after:
            raise Killed
        epochs.append(epoch)
        return run(recipe, model, optimizer, examples, epoch, *rest)

    monkeypatch.setattr(training, "_epoch", watched)
    try:
        for job in planned.jobs.values():
            if job.kind in ("describe", "split", "train") and not store.done(job):
                perform(job, store.pinned())
    finally:
        monkeypatch.undo()
    (job,) = (job for job in planned.jobs.values() if job.kind == "train")
    return store.tensors(job.digest, "weights"), epochs


def test_a_training_goes_on_where_it_broke_off_to_the_same_bits(store_url, tmp_path, monkeypatch):
    undisturbed, _ = trained(Store(tmp_path / "other"), monkeypatch=monkeypatch)
    store = Store(store_url)
    with pytest.raises(Killed):
        trained(store, break_after=2, monkeypatch=monkeypatch)
    assert [entry.name for entry in store.files.list("scratch")]

    resumed, epochs = trained(store, monkeypatch=monkeypatch)

    assert epochs == [2, 3]
    assert all(np.array_equal(resumed[name], value) for name, value in undisturbed.items())
    assert not [entry.name for entry in store.files.list("scratch")]

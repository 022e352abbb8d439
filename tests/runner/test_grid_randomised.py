"""A network that draws random numbers, in a grid: the same bits in any process, after whatever else was run there."""

import numpy as np
import pytest
import torch

from testbed.grid.planner import plan
from testbed.store import Store

NETS = """\
import torch

class Drawing(torch.nn.Module):
    def __init__(self, spec):
        super().__init__()
        pixels = spec.shape[0] * spec.shape[1]
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(pixels, spec.classes))

    def forward(self, x):
        return self.layers(x + 0.3 * torch.randn_like(x))

def drawing(spec):
    return Drawing(spec)
"""


@pytest.fixture
def randomised(tiny, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    tiny["models"] = [{"use": "./nets.py:drawing", "name": "net", "train": {"recipe": "standard", "epochs": 2}}]
    tiny["conditions"] = ["clean", {"attack": {"use": "pgd", "steps": 2, "eot": 3}, "eps": 0.05}]
    return tiny | {"metrics": ["accuracy", "nll"], "calibrators": ["none"], "runtime": {"shard": 40, "batch": 16}}


def test_with_draws_one_pass_over_the_set_is_nearly_the_last_word(randomised, runs, look):
    net = randomised["models"][0]
    randomised["models"] = [{**net, "name": "one"}, {**net, "name": "many", "predict": {"draws": 60}}]
    randomised["conditions"] = ["clean", {"attack": {"use": "pgd", "steps": 2}, "eps": 0.05}]
    finished = runs(randomised)
    assert finished.outcome.ok, finished.outcome.errors()
    audit = {
        r["model"]: r["value"]
        for r in look.rows(finished, metric="audit")
        if r["convention"].startswith("randomised_forward")
    }
    assert audit["many"] < audit["one"] / 3
    variants = {r["model"]: r["variant"] for r in look.rows(finished, metric="nll", condition="clean")}
    assert variants == {"one": "standard", "many": "standard draws 60"}


def test_every_number_is_the_same_whatever_the_process_drew_before(randomised, runs, look, tmp_path):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        finished = runs(randomised, store=str(tmp_path / f"store{seed}"))
        assert finished.outcome.ok, finished.outcome.errors()
        found.append(finished.table.to_pylist())
    assert found[0] == found[1]
    stores = [Store(tmp_path / f"store{seed}") for seed in (1, 2)]
    jobs = [job for job in plan(runs.write(randomised)).jobs.values() if job.kind in ("attack", "forward")]
    assert len(jobs) == 5
    for job in jobs:
        one, other = (store.require(job.digest) for store in stores)
        assert one.content == other.content, job.label

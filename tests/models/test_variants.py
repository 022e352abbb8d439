"""Deep ensembles, dropout masks and batch statistics: what they compute, and that a grid runs them as models."""

import numpy as np
import pytest
import torch
from torch import nn

from testbed.errors import DataError, UsageError
from testbed.grid.planner import plan
from testbed.models.variants import DropoutSamples, Ensemble, MeanOfDraws, batch_statistics


def net(dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3)).eval()


def test_an_ensembles_softmax_is_the_mean_of_its_members():
    members = [nn.Linear(6, 3) for _ in range(3)]
    x = torch.randn(5, 6)

    got = Ensemble(members)(x).softmax(dim=1)

    assert torch.allclose(got, torch.stack([m(x).softmax(dim=1) for m in members]).mean(dim=0), atol=1e-6)


def test_dropout_samples_depend_on_neither_batch_nor_history_and_differ_between_passes():
    model, x = DropoutSamples(net(), 8), torch.randn(7, 6)

    whole = model(x)
    parts = torch.cat([model(x[:3]), model(x[3:])])

    assert torch.allclose(whole, parts, atol=1e-6)
    assert torch.equal(whole, model(x))
    assert not torch.allclose(whole, net()(x).log_softmax(dim=1), atol=1e-3)
    assert not torch.allclose(DropoutSamples(net(), 1)(x), whole, atol=1e-3)


def test_many_dropout_samples_are_the_mean_over_random_masks():
    model, x = DropoutSamples(net(), 3000), torch.randn(1, 6)
    layers = net()
    hidden = layers[2](layers[1](layers[0](x)))
    masks = (torch.rand(20_000, 16, generator=torch.Generator().manual_seed(1)) < 0.5) * 2.0

    random = layers[4](hidden * masks).softmax(dim=1).mean(dim=0)

    assert (model(x).softmax(dim=1)[0] - random).abs().max() < 0.02


def test_the_mean_of_draws_by_hand():
    class Coin(torch.nn.Module):
        def forward(self, x):
            up = torch.rand(len(x), 1) < 0.5
            return torch.where(up, torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])).log()

    torch.manual_seed(0)
    passes = [Coin()(torch.zeros(3, 1)).softmax(1) for _ in range(8)]
    torch.manual_seed(0)
    mean = MeanOfDraws(Coin(), 8)(torch.zeros(3, 1)).softmax(1)
    torch.testing.assert_close(mean, torch.stack(passes).mean(0))


def test_batch_statistics_are_those_of_the_batch():
    network, x = net(0.0), torch.randn(32, 6) * 4 + 2
    layers = network
    hidden = layers[0](x)
    normal = (hidden - hidden.mean(dim=0)) / torch.sqrt(hidden.var(dim=0, unbiased=False) + 1e-5)

    assert torch.allclose(batch_statistics(network)(x), layers[4](normal.relu()), atol=1e-4)
    assert not torch.allclose(network(x), batch_statistics(network)(x), atol=1e-2)


def test_a_network_without_the_layers_is_refused():
    plain = nn.Sequential(nn.Linear(6, 3))
    with pytest.raises(DataError, match="no dropout layer"):
        DropoutSamples(plain, 3)
    with pytest.raises(DataError, match="no batch normalisation"):
        batch_statistics(plain)


GRID = {
    "name": "variants",
    "data": [{"use": "digits", "train": 300, "calibration": 100, "test": 100}],
    "conditions": ["clean", {"attack": "fgsm", "eps": 0.1}],
    "calibrators": ["none", "temperature"],
    "metrics": ["accuracy", "nll"],
    "intervals": {"replicates": 20},
}
TRAIN = {"recipe": "standard", "epochs": 1}


def test_an_ensemble_takes_its_members_from_seeds_and_shares_them():
    alone = {"use": "small-cnn", "name": "one", "train": TRAIN}
    both = [alone, {**alone, "name": "three", "predict": {"ensemble": 3}}]

    planned = plan({**GRID, "models": both, "train_seeds": [0, 1]})

    seeds = sorted(job.recipe["seed"] for job in planned.jobs.values() if job.kind == "train")
    assert seeds == [0, 1, 2, 3, 4, 5]
    assert {cell.row["variant"] for cell in planned.cells} == {"standard", "standard ensemble 3"}


def test_a_variant_is_one_thing_and_an_ensemble_is_trained():
    model = {"use": "small-cnn", "name": "m"}
    with pytest.raises(UsageError, match="expected one of"):
        plan({**GRID, "models": [{**model, "train": TRAIN, "predict": {"ensemble": 2, "mc_dropout": 3}}]})
    with pytest.raises(UsageError, match="trained from several seeds"):
        plan({**GRID, "models": [{**model, "predict": {"ensemble": 2}}]})


def test_all_variants_run_from_a_grid(tmp_path):
    from testbed.runner.run import Settings, run_plan

    models = [
        {"use": "small-cnn", "name": "ensemble", "train": TRAIN, "predict": {"ensemble": 2}},
        {"use": "lenet5", "name": "dropout", "dropout": 0.3, "train": TRAIN, "predict": {"mc_dropout": 4}},
        {"use": "cifar_resnet", "name": "batch", "depth": 8, "train": TRAIN, "predict": "batch_statistics"},
    ]
    data = [{"use": "mnist5k", "train": 200, "calibration": 60, "test": 60}]
    settings = Settings(out=tmp_path / "run", store=str(tmp_path / "store"), executor="serial", page=False)

    rows = run_plan(plan({**GRID, "data": data, "models": models}), settings).table.to_pylist()

    assert [row["error"] for row in rows if row["error"]] == []
    assert {row["variant"] for row in rows} == {
        "standard ensemble 2",
        "standard mc_dropout 4",
        "standard batch_statistics",
    }
    assert np.isfinite([row["value"] for row in rows if row["metric"] == "nll"]).all()
